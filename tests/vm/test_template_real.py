# SPDX-License-Identifier: Apache-2.0
"""Templates and clones of the real QEMU: nothing that a clone does reaches its template."""

import glob
import hashlib
import json
import os
import signal

from pool_support import PoolTest
from support import Daemon, until

# Python's template is all these tests need, and boots in about 5 s.
SETTINGS = {"templates": "auto", "max_vms": 6, "pool_python": 2, "pool_javascript": 0, "pool_shell": 0}
# Fills and frees most of the memory, so that the guest reports free pages and the balloon can take them.
HUNGRY = """
import os
import time
for _ in range(2):
    block = bytearray(os.urandom(4096) * (96 << 8))
    assert len(block) == 96 << 20
    del block
fresh = bytearray(64 << 20)
assert not any(fresh[::4096]), "memory that is not zero"
print("fed", flush=True)
time.sleep(600)
"""


class RealTemplate(PoolTest):
    def setUp(self):
        super().setUp()
        # Its program is no fake: what the base looks for does not apply.
        self.sandbox = Daemon(**SETTINGS)
        self.addCleanup(self.sandbox.stop)
        self.sandbox.start()
        self.client = self.sandbox.client()
        until(lambda: self.warm() == 2, "the pool is full", 300)

    def warm(self):
        return len(self.vms(self.client, "paused"))

    def template_memory(self):
        """SHA-256 of the template's memory as the daemon holds it."""
        for name in glob.glob(f"/proc/{self.sandbox.process.pid}/fd/*"):
            try:
                if os.readlink(name).startswith("/memfd:python-256"):
                    with open(name, "rb") as stream:
                        return hashlib.file_digest(stream, "sha256").hexdigest()
            except FileNotFoundError:
                pass  # it was closed meanwhile
        raise AssertionError("the daemon holds no template of Python")

    def manifest(self):
        found = until(lambda: glob.glob(os.path.join(self.sandbox.state, "templates", "python-256-*")),
                      "the template is stored", 120)
        with open(os.path.join(found[0], "manifest.json"), encoding="utf-8") as stream:
            return json.load(stream)

    def stored_hash(self):
        found = json.dumps(self.manifest())
        return self.template_memory() in found

    def test_untouched(self):
        """Runs that fill and free memory, balloons that move: the template is what its manifest says."""
        self.assertTrue(self.stored_hash(), "the stored hash is the memory's")
        before = self.template_memory()
        for _ in range(3):
            self.feed()
        self.assertEqual(self.template_memory(), before)
        # Clones of it are still well.
        result = self.client.call("run", language="python", code="print(sum(range(1000)))")
        self.assertEqual((result["status"], result["stdout"]), ("ok", "499500\n"))

    def feed(self):
        request = self.client.request("run", language="python", code=HUNGRY, stream=True, timeout_seconds=120)
        started = self.client.wait_notification(
            lambda method, given: method == "run.started" and given["id"] == request)
        self.client.wait_output(request, "fed")
        for target in (96, 256, 96):
            answer = self.client.call("memory.balloon", vm=started["vm"], target_mb=target)
            self.assertTrue(answer["reached"], answer)
        self.client.cancel(request)
        self.assert_error(-32800, self.client.wait, request)

    def test_killed(self):
        """Real QEMUs killed while they wait, start and run: replaced, told, never handed out."""
        pids = [vm["pid"] for vm in self.vms(self.client, "paused")]
        self.sandbox.signal(signal.SIGSTOP)
        for pid in pids:
            self.kill(pid)
        request = self.client.request("run", language="python", code="print(1)")
        self.sandbox.signal(signal.SIGCONT)
        result = self.client.wait(request)
        self.assertEqual((result["status"], result["stdout"]), ("ok", "1\n"))
        until(lambda: self.warm() == 2, "the pool is full again", 120)
        request = self.client.request("run", language="python", code="import time; time.sleep(600)",
                                      stream=True, timeout_seconds=600)
        started = self.client.wait_notification(
            lambda method, given: method == "run.started" and given["id"] == request)
        os.kill(self.vm_pid(self.client, started["vm"]), signal.SIGKILL)
        self.assert_error(3004, self.client.wait, request)
        starting = until(lambda: [vm for vm in self.vms(self.client) if vm["pid"]
                                  and vm["state"] in ("starting", "loaded", "ready", "running")],
                         "the refill starts one")
        os.kill(starting[0]["pid"], signal.SIGKILL)
        until(lambda: self.warm() == 2, "the pool is full again", 120)

    def test_sealed(self):
        """The template's memory can neither be written nor changed in size, by the daemon neither."""
        for name in glob.glob(f"/proc/{self.sandbox.process.pid}/fd/*"):
            if os.readlink(name).startswith("/memfd:python-256"):
                with self.assertRaises(PermissionError), open(name, "r+b", buffering=0) as stream:
                    stream.write(b"x")
                with self.assertRaises(PermissionError):
                    os.truncate(name, 4096)
                return
        self.fail("the daemon holds no template of Python")
