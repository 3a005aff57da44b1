# SPDX-License-Identifier: Apache-2.0
"""What tests of templates, clones and the pool share: daemons over the fake QEMU that keep spares."""

import os
import re
import select
import signal
import threading

from support import DEADLINE, VmTest, processes, read_text, until

# Of a VM that waits in the pool: rehearsed and stopped, or loaded.
SPARE = ("paused", "loaded")
# poll(2) on x86-64: where a fake QEMU that "hangs" is (tests/fake/qemu/plan.h).
HANG_CALL = "7"
# Small templates: each fills its memory when it is sealed.
SETTINGS = {"templates": "auto", "default_memory_mb": 64, "min_memory_mb": 64, "max_vms": 12,
            "pool_python": 0, "pool_javascript": 0, "pool_shell": 0}


class PoolTest(VmTest):
    """At the end of a test each daemon must be settled, end well when told to, and leave nothing."""

    def prepare_pool(self, *plan, **settings):
        sandbox = self.prepare("normal", **{**SETTINGS, **settings})
        sandbox.plan(*plan)
        sandbox.assert_clean = lambda: self.assert_settled(sandbox)
        return sandbox

    def pool(self, *plan, **settings):
        return self.prepare_pool(*plan, **settings).start()

    def assert_settled(self, sandbox):
        """Nobody waits, nothing runs but spares that wait, and an end that leaves nothing behind."""
        for client in sandbox.clients:
            client.close()
        sandbox.clients.clear()
        sandbox.plan()
        with sandbox.client() as client:
            until(lambda: self.is_settled(sandbox, client), "only spares are left")
        self.end(sandbox)

    def is_settled(self, sandbox, client):
        vms = client.call("info")["vms"]
        found = client.call("vm.list")["vms"]
        return (vms["queued"] == 0 and vms["current"] == len(found) == len(self.qemus(sandbox))
                and all(vm["state"] in SPARE for vm in found))

    def end(self, sandbox, number=signal.SIGTERM):
        sandbox.signal(number)
        self.assertEqual(sandbox.wait(), 0)
        self.assert_nothing_left(sandbox)
        self.assertEqual(sandbox.vm_directories(), [])

    def assert_nothing_left(self, sandbox):
        until(lambda: not sandbox.leftovers(), "no process of a VM is left")

    def kill(self, pid):
        """Returns when all of it has ended, which for a machine's memory takes a moment."""
        with open(os.pidfd_open(pid), "rb", buffering=0) as process:
            signal.pidfd_send_signal(process.fileno(), signal.SIGKILL)
            self.assertEqual(select.select([process], [], [], DEADLINE)[0], [process])

    def qemus(self, sandbox):
        """Pids of its fake QEMUs; their wrappers have the program further behind."""
        return [process.pid for process in processes()
                if process.command.startswith(sandbox.program) and process.state != "Z"]

    def hanging(self, sandbox):
        """Fake QEMUs that reached the moment at which their plan has them hang."""
        found = []
        for pid in self.qemus(sandbox):
            try:
                if read_text(f"/proc/{pid}/syscall").split()[0] == HANG_CALL:
                    found.append(pid)
            except (FileNotFoundError, ProcessLookupError):
                pass  # it ended meanwhile
        return found

    def until_hanging(self, sandbox):
        return until(lambda: self.hanging(sandbox), "a fake QEMU hangs")

    def vms(self, client, state=None):
        return [vm for vm in client.call("vm.list")["vms"] if state in (None, vm["state"])]

    def spares(self, client, count):
        """Waits until exactly so many spares wait and nothing else exists; they."""
        def find():
            found = self.vms(client)
            is_there = len(found) == count and all(vm["state"] in SPARE for vm in found)
            return is_there and self.is_rested(client) and [found]
        return until(find, f"{count} spares wait")[0]

    def is_rested(self, client):
        """Does every pool have what it is to have: is none of its spares about to be rehearsed?"""
        return all(pool["warm"] == pool["target"] and pool["starting"] == 0
                   for pool in client.call("pool.get")["pools"])

    def until_log(self, sandbox, text, count=1):
        until(lambda: sandbox.log().count(text) >= count, f"the log says '{text}' {count} times")

    def until_template(self, sandbox, name="python-64", count=1):
        until(lambda: len(re.findall(f"template: {name}: .* -> ready", sandbox.log())) >= count,
              f"template {name} is ready")

    def until_stored(self, sandbox, count=1):
        """Templates on disk, whole."""
        until(lambda: len(self.stored(sandbox)) >= count, f"{count} templates are stored")

    def stored(self, sandbox):
        path = os.path.join(sandbox.state, "templates")
        return sorted(name for name in os.listdir(path) if not name.startswith("."))

    def python(self, client, *lines, **params):
        """Runs lines of the fake's language as Python, whose template is the first to be made."""
        return client.call("run", language="python", code="\n".join(lines), **params)

    def python_request(self, client, *lines, **params):
        return client.request("run", language="python", code="\n".join(lines), **params)

    def python_started(self, client, *lines, **params):
        request = self.python_request(client, *lines, stream=True, **params)
        started = client.wait_notification(
            lambda method, given: method == "run.started" and given["id"] == request)
        return request, started["vm"]

    def release(self, client, vm):
        os.kill(self.vm_pid(client, vm), signal.SIGUSR1)

    def watch(self, sandbox):
        """The most VMs there ever are from here to the end of the block."""
        return Watch(self, sandbox)


class Watch:
    def __init__(self, test, sandbox):
        self.test, self.sandbox = test, sandbox
        self.processes = self.current = 0
        self.is_done = threading.Event()
        self.thread = threading.Thread(target=self.look)

    def look(self):
        with self.sandbox.client() as client:
            while not self.is_done.is_set():
                self.current = max(self.current, client.call("info")["vms"]["current"])
                self.processes = max(self.processes, len(self.test.qemus(self.sandbox)))

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_done.set()
        self.thread.join()
