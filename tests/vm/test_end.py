# SPDX-License-Identifier: Apache-2.0
"""The daemon's own end: asked, told, killed (fake QEMU)."""

import os
import signal
import time

from support import RpcError, VmTest, until


class Ends(VmTest):
    def running(self, scenario="normal", **settings):
        sandbox = self.daemon(scenario, **settings)
        client = sandbox.client()
        request, vm = self.play_started(client, "out so far", "hang")
        return sandbox, client, request, self.vm_pid(client, vm)

    def assert_ended(self, sandbox, status=0):
        self.assertEqual(sandbox.wait(), status)
        until(lambda: not sandbox.leftovers(), "no process of a VM is left")
        self.assertEqual(sandbox.vm_directories(), [])
        until(lambda: not sandbox.launchers(), "the launcher has ended")

    def test_idle(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            sandbox = self.daemon("normal")
            sandbox.signal(number)
            self.assert_ended(sandbox)

    def test_during_the_start(self):
        """It ends in order as soon as it has started: what the daemon before has left does not stay behind."""
        sandbox, _, _, _ = self.running()
        launcher = sandbox.launcher()
        sandbox.signal(signal.SIGKILL)
        sandbox.wait()
        os.kill(launcher, signal.SIGSTOP)  # the next one waits for its list
        try:
            sandbox.spawn()
            until(lambda: self.catches(sandbox.process.pid, signal.SIGTERM), "signals are awaited", deadline=5)
            sandbox.signal(signal.SIGTERM)
        finally:
            os.kill(launcher, signal.SIGCONT)
        self.assert_ended(sandbox)

    @staticmethod
    def catches(pid, number):
        with open(f"/proc/{pid}/status", encoding="ascii") as file:
            caught = next(line.split()[1] for line in file if line.startswith("SigCgt:"))
        return int(caught, 16) >> number - 1 & 1

    def test_drain(self):
        """SIGTERM: what runs ends by itself, new work is refused, then the daemon ends."""
        sandbox, client, request, pid = self.running()
        sandbox.signal(signal.SIGTERM)
        until(lambda: "Draining" in sandbox.log(), "the daemon drains")
        error = self.assert_error(1001, self.play, client, "out never")
        self.assertTrue(error.data["retryable"])
        self.assertIsNone(sandbox.process.poll())
        os.kill(pid, signal.SIGUSR1)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.assert_ended(sandbox)

    def test_drain_with_a_queue(self):
        """What waits at SIGTERM was taken on: it is run."""
        sandbox, client, request, pid = self.running(max_vms=1)
        waiting = self.play_request(client, "out late")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        sandbox.signal(signal.SIGTERM)
        until(lambda: "Draining" in sandbox.log(), "the daemon drains")
        os.kill(pid, signal.SIGUSR1)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.assertEqual(client.wait(waiting)["stdout"], "late\n")
        self.assert_ended(sandbox)

    def test_drain_deadline(self):
        sandbox, _, _, _ = self.running(drain_timeout_seconds=0.5)
        sandbox.signal(signal.SIGTERM)
        self.assert_ended(sandbox)
        self.assertIn("Not idle after 0.5 s", sandbox.log())

    def test_second_sigterm(self):
        sandbox, _, _, _ = self.running()
        sandbox.signal(signal.SIGTERM)
        until(lambda: "Draining" in sandbox.log(), "the daemon drains")
        sandbox.signal(signal.SIGTERM)
        self.assert_ended(sandbox)

    def test_sigint(self):
        """At once, whatever runs; who waits is told what became of it."""
        sandbox, client, request, _ = self.running(max_vms=1)
        waiting = self.play_request(client, "out never")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        begun = time.monotonic()
        sandbox.signal(signal.SIGINT)
        self.assert_error(3004, client.wait, request)
        self.assert_error(1001, client.wait, waiting)
        self.assert_ended(sandbox)
        self.assertLess(time.monotonic() - begun, 10)

    def test_impatience(self):
        """More signals while the daemon ends change nothing: all is cleaned up."""
        sandbox, _, _, _ = self.running()
        for _ in range(50):
            try:
                sandbox.signal(signal.SIGINT)
            except ProcessLookupError:
                break
        self.assert_ended(sandbox)

    def test_cancel_meets_death(self):
        """A cancel that is read in the moment the VM's end is noticed: one answer, no harm."""
        sandbox, client, request, pid = self.running()
        sandbox.signal(signal.SIGSTOP)
        client.cancel(request)
        os.kill(pid, signal.SIGKILL)
        sandbox.signal(signal.SIGCONT)
        with self.assertRaises(RpcError) as caught:
            client.wait(request)
        self.assertIn(caught.exception.code, (3004, -32800))
        self.assertEqual(client.call("rpc.ping"), "pong")

    def test_sigint_while_starting(self):
        sandbox = self.daemon("agent-silent")
        client = sandbox.client()
        self.play_request(client, "out never")
        self.only_vm(client)
        self.play_request(client, "out never")  # its pid may still be unknown
        client.call("rpc.ping")
        sandbox.signal(signal.SIGINT)
        self.assert_ended(sandbox)

    def test_sigint_while_waiting(self):
        sandbox, client, _, _ = self.running(max_vms=1)
        self.play_request(client, "out never")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        sandbox.signal(signal.SIGINT)
        self.assert_ended(sandbox)

    def test_killed(self):
        """kill -9 of the daemon: the launcher and its VMs go on, and the next daemon ends what it has no use for."""
        sandbox, client, _, pid = self.running()
        left, launcher = sandbox.vm_directories(), sandbox.launcher()
        sandbox.leftovers()  # to know its VMs
        sandbox.signal(signal.SIGKILL)
        sandbox.wait()
        client.close()
        self.assertEqual(sandbox.vm_directories(), left)
        self.assertEqual(len(left), 1)
        os.kill(pid, 0)
        begun = time.monotonic()
        sandbox.start()
        self.assertFalse(os.path.exists(f"/proc/{pid}"), "the VM is left")
        self.assertLess(time.monotonic() - begun, 10)
        self.assertEqual(sandbox.vm_directories(), [])
        self.assertEqual(sandbox.launcher(), launcher)
        with sandbox.client() as again:
            self.assertEqual(self.play(again, "out again")["stdout"], "again\n")
        sandbox.assert_clean()

    def test_killed_while_starting(self):
        sandbox = self.daemon("agent-silent")
        client = sandbox.client()
        self.play_request(client, "out never")
        self.only_vm(client)
        sandbox.leftovers()
        sandbox.signal(signal.SIGKILL)
        sandbox.wait()
        client.close()
        sandbox.use_fake("normal")
        sandbox.start()
        self.assertEqual(sandbox.vm_directories(), [])
        self.assertEqual(sandbox.leftovers(), [])
        with sandbox.client() as again:
            self.assertEqual(self.play(again, "out again")["stdout"], "again\n")
        sandbox.assert_clean()

    def test_killed_with_everything(self):
        """kill -9 of daemon and launcher at once: VMs die by themselves, the next daemon sweeps the files."""
        sandbox, client, _, _ = self.running()
        sandbox.leftovers()
        launcher = sandbox.launcher()
        sandbox.signal(signal.SIGKILL)
        os.kill(launcher, signal.SIGKILL)
        sandbox.wait()
        client.close()
        until(lambda: not sandbox.leftovers(), "no process of a VM is left")
        self.assertEqual(len(sandbox.vm_directories()), 1)
        sandbox.start()
        self.assertEqual(sandbox.vm_directories(), [])
        self.assertNotEqual(sandbox.launcher(), launcher)
        with sandbox.client() as again:
            self.assertEqual(self.play(again, "out again")["stdout"], "again\n")
        sandbox.assert_clean()

    def test_launcher_killed(self):
        """kill -9 of the launcher: its VMs die with it, who waits is told so, and the next run has another one."""
        sandbox, client, request, pid = self.running()
        launcher = sandbox.launcher()
        os.kill(launcher, signal.SIGKILL)
        self.assert_error(3004, client.wait, request)
        until(lambda: not os.path.exists(f"/proc/{pid}"), "the VM is gone")
        self.assertEqual(self.play(client, "out again")["stdout"], "again\n")
        self.assertNotEqual(sandbox.launcher(), launcher)

    def test_launcher_hangs(self):
        """A launcher that is stopped holds up the VMs, not the daemon."""
        sandbox, client, request, pid = self.running()
        launcher = sandbox.launcher()
        os.kill(launcher, signal.SIGSTOP)
        try:
            waiting = self.play_request(client, "out late")
            with sandbox.client() as other:
                self.assertEqual(other.call("rpc.ping"), "pong")
        finally:
            os.kill(launcher, signal.SIGCONT)
        os.kill(pid, signal.SIGUSR1)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.assertEqual(client.wait(waiting)["stdout"], "late\n")
