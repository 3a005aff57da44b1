# SPDX-License-Identifier: Apache-2.0
"""The queue: full, too slow, left; and never one VM more than there may be (fake QEMU)."""

import os
import signal
import threading
import time

from support import VmTest, until


class Capacity(VmTest):
    def full(self, **settings):
        """A daemon whose two VMs are in use, and the requests that use them."""
        sandbox = self.daemon("normal", max_vms=2, **settings)
        client = sandbox.client()
        return sandbox, client, [self.play_started(client, "hang") for _ in range(2)]

    def queued(self, client):
        return client.call("info")["vms"]["queued"]

    def release(self, client, started):
        for request, vm in started:
            os.kill(self.vm_pid(client, vm), signal.SIGUSR1)
            self.assertEqual(client.wait(request)["status"], "ok")

    def test_queue_full(self):
        _, client, started = self.full(queue_max=2)
        waiting = [self.play_request(client, "out late") for _ in range(2)]
        until(lambda: self.queued(client) == 2, "two wait")
        error = self.assert_error(3002, self.play, client, "out never")
        self.assertTrue(error.data["retryable"])
        self.assertGreater(error.data["retry_after_ms"], 0)
        self.release(client, started)
        for request in waiting:
            result = client.wait(request)
            self.assertEqual(result["stdout"], "late\n")
            self.assertGreater(result["timing"]["queue_ms"], 0)

    def test_no_queue(self):
        _, client, started = self.full(queue_max=0)
        self.assert_error(3002, self.play, client, "out never")
        self.release(client, started)

    def test_queue_deadline(self):
        _, client, started = self.full(queue_timeout_seconds=0.5)
        begun = time.monotonic()
        error = self.assert_error(3002, self.play, client, "out never")
        self.assertGreaterEqual(time.monotonic() - begun, 0.5)
        self.assertGreater(error.data["retry_after_ms"], 0)
        self.assertEqual(self.queued(client), 0)
        self.release(client, started)

    def test_cancel_while_waiting(self):
        _, client, started = self.full()
        request = self.play_request(client, "out never")
        until(lambda: self.queued(client) == 1, "one waits")
        client.cancel(request)
        error = self.assert_error(-32800, client.wait, request)
        self.assertEqual(error.data["result"]["status"], "cancelled")
        self.assertEqual(self.queued(client), 0)
        self.release(client, started)

    def test_caller_gone_while_waiting(self):
        sandbox, client, started = self.full()
        other = sandbox.client()
        self.play_request(other, "out never")
        until(lambda: self.queued(client) == 1, "one waits")
        other.close()
        until(lambda: self.queued(client) == 0, "nobody waits")
        self.release(client, started)

    def test_fifo(self):
        """Who asked first is served first."""
        sandbox = self.daemon("normal", max_vms=1)
        client = sandbox.client()
        started = [self.play_started(client, "hang")]
        requests = [self.play_request(client, f"out {i}", stream=True) for i in range(8)]
        until(lambda: self.queued(client) == 8, "all wait")
        self.release(client, started)
        for request in requests:
            client.wait(request)
        order = [params["id"] for method, params in client.notifications
                 if method == "run.started" and params["id"] in requests]
        self.assertEqual(order, requests)

    def test_more_than_start_at_once(self):
        """Who waits for others to start goes on when these run, not only when they end."""
        sandbox = self.daemon("normal", max_vms=64)
        client = sandbox.client()
        requests = [self.play_request(client, "hang", stream=True, timeout_seconds=600)
                    for _ in range(2 * os.cpu_count() + 1)]
        for request in requests:
            client.wait_notification(lambda method, given, request=request:
                                     method == "run.started" and given["id"] == request)
        for request in requests:
            client.cancel(request)

    def test_fifty_at_once(self):
        """Fifty runs on two VMs all end well, and at no moment there is a third VM."""
        sandbox = self.daemon("normal", max_vms=2)
        most = {"directories": 0, "processes": 0, "current": 0}
        is_done = threading.Event()

        def watch():
            with sandbox.client() as watcher:
                while not is_done.is_set():
                    vms = watcher.call("info")["vms"]
                    most["current"] = max(most["current"], vms["current"])
                    most["directories"] = max(most["directories"], len(sandbox.vm_directories()))
                    running = {vm["pid"] for vm in watcher.call("vm.list")["vms"] if vm["pid"]}
                    most["processes"] = max(most["processes"], len(running))

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            client = sandbox.client()
            requests = [self.play_request(client, f"out {i}") for i in range(50)]
            results = [client.wait(request) for request in requests]
        finally:
            is_done.set()
            watcher.join()
        self.assertEqual([result["stdout"] for result in results], [f"{i}\n" for i in range(50)])
        self.assertEqual(len({result["vm"] for result in results}), 50)
        for what, count in most.items():
            self.assertLessEqual(count, 2, what)
            self.assertGreater(count, 0, what)
