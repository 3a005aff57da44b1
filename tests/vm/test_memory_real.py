# SPDX-License-Identifier: Apache-2.0
"""Memory control on real VMs, on a host that has no more than a budget.

In each scenario the budget is short. Whatever is done about it: the host's kernel kills nobody, no run is
lost, each guest finds its data as it left it, no target is below the floor or above its VM's size, and the
template stays as it was. Who works on when the pressure has ended has everything back.
"""

import contextlib
import glob
import hashlib
import os
import shutil
import tempfile
import threading
import time

from client import Client, RpcError
import support
from support import VmTest, read_text, until

MIB = 1 << 20
FLOOR_MB = 64
SIZE_MB = 256

# What every guest runs first. Data is kept with its hash, memory is used for a while, files are read.
PRELUDE = """
import hashlib, os, sys, time
T0 = {t0!r}
def at(seconds):
    left = T0 + seconds - time.time()
    if left > 0:
        time.sleep(left)
def text(mb, seed):
    # A page compresses about as well as one of a program's objects, and costs little to make.
    noise = hashlib.shake_128(b"%d" % seed).digest(mb << 18)
    return bytearray(b"".join(noise[i:i + 1024] * 2 + bytes(2048) for i in range(0, len(noise), 1024)))
def noise(mb):
    data = bytearray()
    for _ in range(mb):
        data += os.urandom(1 << 20)
    return data
def digest(data):
    return hashlib.sha256(data).hexdigest()
def keep(data):
    global kept, kept_digest
    kept, kept_digest = data, digest(data)
    print("kept", flush=True)
def use(mb):
    scratch = bytearray(mb << 20)
    for at in range(0, len(scratch), 4096):
        scratch[at:at + 8] = at.to_bytes(8, "little")
    for at in range(0, len(scratch), 4096):
        if scratch[at:at + 8] != at.to_bytes(8, "little"):
            sys.exit("scratch memory has changed")
def read(mb):
    left = mb << 20
    for root, _, names in os.walk("/usr"):
        for name in names:
            try:
                with open(os.path.join(root, name), "rb", buffering=0) as file:
                    while left > 0 and (chunk := file.read(1 << 16)):
                        left -= len(chunk)
            except OSError:
                pass
            if left <= 0:
                return
def end():
    if digest(kept) != kept_digest:
        sys.exit("the data has changed")
    print("intact", flush=True)
"""


def oom_kills():
    """How often the host's kernel has killed for memory since it started."""
    lines = read_text("/proc/vmstat").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


class Watcher(threading.Thread):
    """Looks at memory.stats all the time: what was seen is checked when all is over."""

    def __init__(self, sandbox):
        super().__init__(daemon=True)
        self.client = Client(sandbox.socket)
        self.is_over = threading.Event()
        self.levels, self.least_mb, self.looks = [], {}, 0
        self.problem = self.error = None

    def look(self):
        stats = self.client.call("memory.stats")
        level = stats["host"]["level"]
        if level not in self.levels[-1:]:
            self.levels.append(level)
        for vm in stats["vms"]:
            target = vm["balloon_target_bytes"]
            if target is None:
                continue
            self.least_mb[vm["vm"]] = min(self.least_mb.get(vm["vm"], SIZE_MB), target >> 20)
            if not FLOOR_MB * MIB <= target <= vm["size_bytes"]:
                self.problem = f"a target out of its bounds: {vm}"
        self.looks += 1
        return stats

    def run(self):
        try:
            while not self.is_over.wait(0.25):
                self.look()
        except Exception as error:  # pylint: disable=broad-except  # told where the test looks for it
            self.error = error

    def end(self):
        self.is_over.set()
        self.join()
        self.client.close()


class MemoryScenario(VmTest):
    """All scenarios have one store, so that templates are built once."""

    @classmethod
    def setUpClass(cls):
        cls.store = tempfile.mkdtemp(prefix="execsandbox-memory-test-")
        os.chmod(cls.store, 0o755)
        cls.addClassCleanup(shutil.rmtree, cls.store)

    def setUp(self):
        super().setUp()
        self.oom_kills = oom_kills()
        self.runs = []
        self.watcher = None

    def tearDown(self):
        if self.watcher:
            self.watcher.end()
        super().tearDown()

    def short(self, budget_mb, images=None, **settings):
        """A daemon with that budget, its templates ready, watched; T0 is now."""
        self.sandbox = support.Daemon(
            images=images, templates="auto", max_vms=60, memory_budget_mb=budget_mb,
            memory_overcommit_percent=800, cpu_overcommit=16, pool_python=0, pool_javascript=0, pool_shell=0,
            **settings)
        self.sandbox.state = os.path.join(self.store, "state")
        self.daemons.append(self.sandbox)
        self.sandbox.start()
        self.client = self.sandbox.client()
        until(lambda: all(template["state"] == "ready" for template in self.client.call("template.list")["templates"]),
              "the templates are ready", 120)
        self.assertEqual(self.client.call("run", language="python", code="print(7)")["stdout"], "7\n")
        self.template = self.template_digest()
        self.watcher = Watcher(self.sandbox)
        self.watcher.start()
        self.t0 = time.time()

    def template_digest(self):
        """SHA-256 of the template's memory as the daemon holds it."""
        for name in glob.glob(f"/proc/{self.sandbox.process.pid}/fd/*"):
            with contextlib.suppress(FileNotFoundError):  # it was closed meanwhile
                if os.readlink(name).startswith("/memfd:python-256"):
                    with open(name, "rb") as stream:
                        return hashlib.file_digest(stream, "sha256").hexdigest()
        raise AssertionError("the daemon holds no template of Python")

    def begin(self, code):
        """Starts a run on a connection of its own."""
        client = self.sandbox.client()
        request = client.request("run", language="python", code=PRELUDE.format(t0=self.t0) + code,
                                 stream=True, timeout_seconds=300)
        self.runs.append((client, request))
        return client, request

    def has_kept(self, runs):
        for client, request in runs:
            while "kept\n" not in client.streamed(request):
                self.assertNotIn(request, client.replies, client.replies.get(request))
                client.receive(60)

    def now(self):
        return time.time() - self.t0

    def stats(self):
        return self.client.call("memory.stats")

    def results(self, runs=None):
        found = []
        for client, request in self.runs if runs is None else runs:
            try:
                found.append(client.wait(request))
            except RpcError as error:
                found.append({"status": "error", "code": error.code, "stderr": error.message})
        return found

    def assert_intact(self, runs=None):
        """No run was lost, and all data is as it was."""
        for result in self.results(runs):
            self.assertEqual((result["status"], result.get("exit_code")), ("ok", 0), result)
            self.assertTrue(result["stdout"].endswith("intact\n"), result)

    def assert_recovered(self, level="yellow"):
        """What holds in every scenario when it is over."""
        seen = self.watcher.levels
        order = ["green", "yellow", "orange", "red", "black"]
        self.assertGreaterEqual(max(map(order.index, seen)), order.index(level), f"no pressure: {seen}")
        self.assertIsNone(self.watcher.error)
        self.assertIsNone(self.watcher.problem)
        self.assertGreater(self.watcher.looks, 10)
        until(lambda: self.stats()["host"]["level"] == "green", "the pressure is over", 60)
        self.assertEqual(oom_kills(), self.oom_kills)
        self.assertEqual(self.template_digest(), self.template, "the template has changed")
        self.assertEqual(self.client.call("run", language="python", code="print(7)")["stdout"], "7\n")

    def test_twelve_in_a_gibibyte(self):
        """12 sessions of 256 MiB on 1 GiB; each touches 150 MiB in turn, and keeps 12."""
        count, turn, first = 12, 7, 18
        self.short(1024)
        for i in range(count):
            self.begin(f"keep(text(12, {i}))\nat({first + i * turn})\nuse(60)\nread(90)\n"
                       f"at({first + count * turn})\nend()\n")
        self.has_kept(self.runs)
        self.assert_intact()
        self.assert_recovered("orange")

    def test_burst(self):
        """Idle sessions hold nearly all; four runs come at once and get what they need."""
        self.short(1024)
        # They end one after the other: that all of them wake at once is another scenario.
        idle = [self.begin(f"read(70)\nuse(40)\nkeep(text(24, {i}))\nat({60 + 5 * i})\nend()\n") for i in range(8)]
        self.has_kept(idle)
        held = 1024 * MIB - self.stats()["host"]["managed_available_bytes"]
        self.assertGreater(held, 600 * MIB)
        until(lambda: all(vm["policy_state"] == "idle" for vm in self.stats()["vms"]), "all are idle", 30)
        burst = [self.begin(f"keep(text(4, {i}))\nuse(60)\nend()\n") for i in range(4)]
        begun = time.monotonic()
        self.assert_intact(burst)
        self.assertLess(time.monotonic() - begun, 20)
        self.assertLess(self.now(), 60, "the idle sessions have ended")
        self.assert_intact(idle)
        self.assert_recovered()

    def test_incompressible(self):
        """Random numbers, which no zram makes smaller: nothing is gained, and nothing lost."""
        self.short(1024)
        for i in range(5):
            self.begin(f"keep(noise(90))\nat({16 + 4 * i})\nuse(70)\nread(40)\nat(44)\nend()\n")
        self.has_kept(self.runs)
        self.assert_intact()
        self.assert_recovered()

    def test_budget_cut(self):
        """The budget falls to half while all compute: the balloons bring what lacks, and give it back later."""
        self.short(1600)
        work = "while time.time() < T0 + 75:\n    digest(kept)\n    time.sleep(0.2)\nend()\n"
        for i in range(6):
            self.begin(f"read(70)\nkeep(text(24, {i}))\n" + work)
        self.has_kept(self.runs)
        time.sleep(max(0, 14 - self.now()))
        self.assertGreater(1600 * MIB - self.stats()["host"]["managed_available_bytes"], 800 * MIB)
        self.client.call("memory.policy", budget_mb=800)
        until(lambda: self.stats()["host"]["managed_available_bytes"] > 0, "the budget is kept again", 15)
        time.sleep(max(0, 24 - self.now()))
        self.assertGreater(self.stats()["host"]["managed_available_bytes"], 0)
        self.assertTrue(any(vm["balloon_actual_bytes"] < vm["size_bytes"] for vm in self.stats()["vms"]))
        self.client.call("memory.policy", budget_mb=1600)
        until(lambda: all(vm["balloon_actual_bytes"] == vm["balloon_target_bytes"] == vm["size_bytes"]
                          for vm in self.stats()["vms"]), "all have their memory back", 50)
        self.assertLess(self.now(), 75, "the runs have ended")
        self.assert_intact()
        self.assert_recovered("black")

    def crowd(self, *lies):
        """Five honest sessions, and for each lie one whose agent tells it; each uses memory in turn."""
        self.short(1024, images=support.LYING_IMAGES)
        lying = [self.begin(f"open('/tmp/lies-{lie}', 'w').close()\nread(70)\nuse(60)\nkeep(text(24, 7))\n"
                            "at(34)\nend()\n") for lie in lies]
        honest = [self.begin(f"read(50)\nuse(40)\nkeep(text(24, {i}))\nat({18 + 2 * i})\nuse(60)\nat(34)\nend()\n")
                  for i in range(5)]
        # A liar may have lost by now.
        self.has_kept(honest)
        return lying, honest

    def assert_only_liars_lose(self, lying, honest):
        """Honest guests lose nothing; a liar runs on or is ended, which its caller is told."""
        self.assert_intact(honest)
        for result in self.results(lying):
            if result["status"] == "error":
                self.assertEqual(result["code"], 3002, result)
            else:
                self.assertIn(result["status"], ("ok", "oom"), result)
        self.assert_recovered()

    def test_liars(self):
        """Guests that say all is free, that nothing is, and that more is than there can be."""
        self.assert_only_liars_lose(*self.crowd("plenty", "nothing", "impossible"))

    def test_deaf(self):
        """A guest whose balloon never inflates: that is seen and said, and others give. One says it waits for memory."""
        self.assert_only_liars_lose(*self.crowd("deaf", "stalled"))
        self.assertIn("the guest does not follow", self.sandbox.log())
