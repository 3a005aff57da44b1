# SPDX-License-Identifier: Apache-2.0
"""The guest's memory contract, as a user can check it from inside a VM, and memory.* outside."""

import json
import time

from support import DaemonTest, connect, exclusive, needs_root

MIB = 1 << 20

# Helpers that the programs in the guest begin with.
GUEST = """
import json, os, sys, time

def read(path):
    with open(path) as stream:
        return stream.read()

def meminfo(name):
    for line in read("/proc/meminfo").splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024

def swap_used():
    return meminfo("SwapTotal") - meminfo("SwapFree")

def mm_stat():
    return [int(word) for word in read("/sys/block/zram0/mm_stat").split()]

def patterned(size, seed):
    # Pages that differ from each other and compress about as ordinary data does.
    pages = []
    for page in range(size // 4096):
        head = b"%d:%d:" % (seed, page)
        pages.append((head * (1024 // len(head) + 1))[:1024] * 4)
    return bytearray(b"".join(pages))
"""


class Contract(DaemonTest):
    def test_contract(self):
        """Every row of the guest's contract that shows inside: zram, sysctls, THP, balloon, PSI."""
        out = json.loads(
            self.run_ok(
                GUEST
                + """
import glob
sysctls = ("page-cluster", "swappiness", "overcommit_memory", "min_free_kbytes",
           "watermark_boost_factor")
balloons = []
for device in glob.glob("/sys/bus/virtio/devices/*"):
    if int(read(device + "/device"), 16) == 5:
        driver = os.path.basename(os.path.realpath(device + "/driver"))
        balloons.append([driver, read(device + "/features").strip()])
print(json.dumps({
    "swaps": [line.split() for line in read("/proc/swaps").splitlines()[1:]],
    "algorithm": read("/sys/block/zram0/comp_algorithm"),
    "disksize": int(read("/sys/block/zram0/disksize")),
    "mem_limit": mm_stat()[3],
    "total": meminfo("MemTotal"),
    "page": os.sysconf("SC_PAGESIZE"),
    "vm": {name: int(read("/proc/sys/vm/" + name)) for name in sysctls},
    "thp": read("/sys/kernel/mm/transparent_hugepage/enabled")
           if os.path.exists("/sys/kernel/mm/transparent_hugepage") else "[never]",
    "balloons": balloons,
    "psi": read("/proc/pressure/memory"),
}))
"""
            )
        )
        self.assertEqual(len(out["swaps"]), 1)
        device, _, size_kib, _, priority = out["swaps"][0]
        self.assertEqual(device, "/dev/zram0")
        self.assertGreaterEqual(int(priority), 100)
        self.assertIn("[lz4]", out["algorithm"])
        self.assertTrue(0.45 <= out["disksize"] / out["total"] <= 0.55, out)
        self.assertEqual(out["disksize"] % out["page"], 0)
        self.assertAlmostEqual(int(size_kib) * 1024, out["disksize"], delta=2 * out["page"])
        self.assertTrue(0.23 <= out["mem_limit"] / out["total"] <= 0.27, out)
        self.assertEqual(out["vm"]["page-cluster"], 0)
        self.assertEqual(out["vm"]["swappiness"], 180)
        self.assertEqual(out["vm"]["overcommit_memory"], 0)
        self.assertGreaterEqual(out["vm"]["min_free_kbytes"], 5000)
        self.assertEqual(out["vm"]["watermark_boost_factor"], 0)
        self.assertIn("[never]", out["thp"])
        self.assertTrue(200 * MIB <= out["total"] <= 256 * MIB, out)
        self.assertEqual(len(out["balloons"]), 1)
        driver, features = out["balloons"][0]
        self.assertEqual(driver, "virtio_balloon")
        self.assertEqual(features[1], "1")  # VIRTIO_BALLOON_F_STATS_VQ
        self.assertEqual(features[2], "1")  # VIRTIO_BALLOON_F_DEFLATE_ON_OOM
        self.assertEqual(features[4], "0")  # VIRTIO_BALLOON_F_PAGE_POISON
        self.assertEqual(features[5], "1")  # VIRTIO_BALLOON_F_REPORTING
        self.assertRegex(out["psi"], r"some avg10=.*\nfull avg10=")


class Compression(DaemonTest):
    def test_touch_240_mb(self):
        """240 MB in 10 MB blocks, a byte written per page, succeeds with far less available."""
        out = json.loads(
            self.run_ok(
                GUEST
                + """
available = meminfo("MemAvailable")
blocks = []
for i in range(24):
    block = bytearray(10 << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1 + i
    blocks.append(block)
print(json.dumps([available, all(block[-4096] == 1 + i for i, block in enumerate(blocks))]))
""",
                timeout_seconds=100,
            )
        )
        available, is_intact = out
        self.assertLess(available, 225 * MIB)
        self.assertTrue(is_intact)

    def test_ratio(self):
        """200 MB of patterned pages swap, compress by 1.5 or more, and read back as written."""
        out = json.loads(
            self.run_ok(
                GUEST
                + """
blocks = [patterned(10 << 20, seed) for seed in range(20)]
orig, compressed = mm_stat()[:2]
print(json.dumps([orig, compressed, swap_used()]))
assert all(block == patterned(10 << 20, seed) for seed, block in enumerate(blocks))
""",
                timeout_seconds=100,
            )
        )
        orig, compressed, swapped = out
        self.assertGreater(swapped, 0)
        self.assertGreaterEqual(orig / compressed, 1.5)

    def test_five_steps(self):
        """250 MB in five steps of 50 MB raise used swap by 30 MB or more."""
        out = json.loads(
            self.run_ok(
                GUEST
                + """
used = [swap_used()]
blocks = []
for step in range(5):
    block = bytearray(50 << 20)
    for at in range(0, len(block), 4096):
        block[at] = 1 + step
    blocks.append(block)
    used.append(swap_used())
print(json.dumps(used))
""",
                timeout_seconds=100,
            )
        )
        self.assertEqual(len(out), 6)
        self.assertGreaterEqual(out[-1] - out[0], 30 * MIB)

    def test_three_cycles(self):
        """Three cycles of 150 MB write, verify, free: no corruption."""
        out = self.run_ok(
            GUEST
            + """
for cycle in range(3):
    blocks = [bytes([(cycle * 50 + i) % 256]) * (1 << 20) for i in range(150)]
    for i, block in enumerate(blocks):
        assert block.count((cycle * 50 + i) % 256) == 1 << 20, (cycle, i)
    del blocks, block
    print("cycle", cycle, flush=True)
""",
            timeout_seconds=100,
        )
        self.assertEqual(out, "cycle 0\ncycle 1\ncycle 2\n")

    def test_incompressible(self):
        """Random data without bound ends with status oom, within 30 s, and says so in usage."""
        result = self.run_code(
            "import os\nprint('begun', flush=True)\nkept = []\n"
            "while True:\n    kept.append(os.urandom(1 << 20))\n",
            timeout_seconds=100,
        )
        self.assertEqual((result["status"], result["exit_code"]), ("oom", 137), result)
        self.assertEqual(result["stdout"], "begun\n")
        self.assertLess(result["timing"]["execute_ms"], 30000)
        self.assertGreater(result["usage"]["memory_peak_bytes"], 100 * MIB)


class ThreeAtOnce(DaemonTest):
    is_exclusive = True  # three VMs on two cores

    def start_three(self, code):
        """Three runs on three connections; returns (client, id) of each."""
        runs = []
        for _ in range(3):
            client = connect()
            self.addCleanup(client.close)
            runs.append((client, self.start(code, client=client, timeout_seconds=100)))
        return runs

    def test_verify_180_mb(self):
        """Three VMs hold 180 MB each at the same time, and every byte stays what it was."""
        runs = self.start_three(
            """
blocks = [bytes([(i * 7) % 256]) * (1 << 20) for i in range(180)]
print("filled", flush=True)
while True:
    for i, block in enumerate(blocks):
        assert block.count((i * 7) % 256) == 1 << 20, i
    print("verified", flush=True)
"""
        )
        vms = {self.vm_of(request_id, client) for client, request_id in runs}
        self.assertEqual(len(vms), 3)
        for client, request_id in runs:
            client.wait_output(request_id, "filled")
        # All three are full now: what comes next was verified beside the two others.
        seen = [
            client.streamed(request_id).count("verified") for client, request_id in runs
        ]
        for (client, request_id), count in zip(runs, seen):
            client.wait_notification(
                lambda *_: client.streamed(request_id).count("verified") >= count + 2
            )
        for client, request_id in runs:
            partial = self.stop(request_id, client)
            self.assertEqual(partial["stderr"], "")

    def test_signed_100_mb(self):
        """Three VMs fill 100 MB signed by their own id: three different SHA-256."""
        runs = self.start_three(
            """
import hashlib, socket
name = socket.gethostname().encode()
kept = bytearray((name * (4096 // len(name) + 1))[:4096] * 256 * 100)
digest = hashlib.sha256()
for at in range(0, len(kept), 1 << 20):
    digest.update(kept[at:at + (1 << 20)])
print(len(kept), digest.hexdigest())
"""
        )
        outputs = []
        for client, request_id in runs:
            result = self.finish(request_id, client)
            self.assertEqual(result["status"], "ok", result)
            outputs.append(result["stdout"])
        for output in outputs:
            self.assertRegex(output, r"^104857600 [0-9a-f]{64}\n$")
        self.assertEqual(len(set(outputs)), 3)


class Telemetry(DaemonTest):
    def test_stats(self):
        """memory.stats of a running VM: the guest's zram and swap, the balloon, the host."""
        request_id = self.start(
            GUEST
            + """
blocks = [patterned(10 << 20, seed) for seed in range(20)]
print("filled", flush=True)
while True:
    time.sleep(1)
""",
            timeout_seconds=100,
        )
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "filled")

        filled = time.monotonic()

        def sample():
            stats = self.client.call("memory.stats", vm=vm)["vms"][0]
            age_ms = stats["age_ms"]  # null before the first
            is_new = age_ms is not None and age_ms / 1000 < time.monotonic() - filled
            return stats if is_new else None

        # Samples come every 2 s: the first one behind "filled" shows what was swapped.
        stats = self.until(sample, "a sample newer than the program's output", 10)
        self.assertEqual(stats["vm"], vm)
        self.assertTrue(200 * MIB <= stats["guest_total_bytes"] <= 256 * MIB, stats)
        self.assertLess(stats["guest_available_bytes"], 100 * MIB)
        self.assertEqual(stats["balloon_actual_bytes"], 256 * MIB)
        self.assertEqual(stats["balloon_target_bytes"], 256 * MIB)
        self.assertGreater(stats["zram_compressed_bytes"], 0)
        self.assertGreater(stats["zram_orig_bytes"], stats["zram_compressed_bytes"])
        self.assertGreater(stats["zram_used_bytes"], 0)
        self.assertGreater(stats["swap_out_bytes"], 0)
        self.assertGreaterEqual(stats["swap_in_bytes"], 0)
        self.assertGreater(stats["rss_bytes"], 100 * MIB)
        self.assertLessEqual(stats["pss_bytes"], stats["rss_bytes"])
        self.assertLess(stats["age_ms"], 10000)

        everything = self.client.call("memory.stats")
        self.assertIn(vm, [entry["vm"] for entry in everything["vms"]])
        host = everything["host"]
        self.assertGreater(host["total_bytes"], host["available_bytes"])
        self.assertIn((host["level"], host["state"]), (
            ("green", "calm"), ("yellow", "soft"), ("orange", "soft"), ("red", "hard"), ("black", "hard")))
        self.assertLessEqual(host["managed_available_bytes"], host["managed_bytes"])
        self.assertLess(host["managed_bytes"], host["total_bytes"])
        self.stop(request_id)

    @needs_root
    def test_balloon(self):
        """memory.balloon takes memory from a running VM and gives it back; bounds are named."""
        request_id = self.start(
            GUEST
            + """
while True:
    print(meminfo("MemAvailable"), flush=True)
    time.sleep(0.2)
""",
            timeout_seconds=100,
        )
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "\n")

        def available():
            """What the guest last printed, of whole lines."""
            return int(self.client.streamed(request_id).rpartition("\n")[0].split()[-1])

        # With deflate-on-oom MemTotal stays as it is: what is available follows the balloon.
        before = available()

        result = self.client.call("memory.balloon", vm=vm, target_mb=160)
        self.assertEqual((result["vm"], result["target_bytes"]), (vm, 160 * MIB))
        self.assertLess(result["actual_bytes"], 176 * MIB)
        self.client.wait_notification(lambda *_: available() < before - 60 * MIB, 20)
        stats = self.client.call("memory.stats", vm=vm)["vms"][0]
        self.assertEqual(stats["balloon_target_bytes"], 160 * MIB)

        result = self.client.call("memory.balloon", vm=vm, target_mb=256)
        self.assertEqual(result["actual_bytes"], 256 * MIB)
        self.client.wait_notification(lambda *_: available() > before - 20 * MIB, 20)
        for target_mb in (1, 100000):
            error = self.assert_error(
                2006, "LIMIT_INVALID", "memory.balloon", vm=vm, target_mb=target_mb
            )
            self.assertEqual(error.data["field"], "target_mb")
            self.assertEqual(error.data["max"], 256)
            self.assertGreater(error.data["min"], 1)
        self.stop(request_id)

    @needs_root
    @exclusive
    def test_reclaim(self):
        """memory.reclaim takes what a program that waits does not need, and tells from whom; bounds are named."""
        request_id = self.start(
            GUEST
            + """
block = os.urandom(60 << 20)
del block
print("freed", flush=True)
time.sleep(100)
""",
            timeout_seconds=100,
        )
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "freed")
        result = self.client.call("memory.reclaim", vm=vm, bytes=20 * MIB)
        self.assertEqual(sorted(result), ["reclaimed_bytes", "requested_bytes", "vms"])
        self.assertEqual(result["requested_bytes"], 20 * MIB)
        self.assertGreater(result["reclaimed_bytes"], 10 * MIB)
        (taken,) = result["vms"]
        self.assertEqual(taken["vm"], vm)
        self.assertTrue(64 * MIB <= taken["target_bytes"] < 256 * MIB, taken)
        self.assertLess(taken["actual_bytes"], 256 * MIB)
        for count in (0, 1 << 60):
            error = self.assert_error(2006, "LIMIT_INVALID", "memory.reclaim", vm=vm, bytes=count)
            self.assertEqual(error.data["field"], "bytes")
        self.stop(request_id)

    @needs_root
    @exclusive
    def test_policy(self):
        """memory.policy tells the settings and what is made of them, changes what it is given, and names bounds."""
        before = self.client.call("memory.policy")
        self.assertEqual(before["mode"], "auto")
        self.assertIn(before["level"], ("green", "yellow", "orange", "red", "black"))
        self.assertIs(before["may_admit"], True)
        self.assertGreaterEqual(before["reserve_mb"], 512)
        self.addCleanup(self.client.call, "memory.policy", run_mb=before["run_mb"], inflating_max=before["inflating_max"])
        after = self.client.call("memory.policy", run_mb=before["run_mb"] + 1, inflating_max=7)
        self.assertEqual((after["run_mb"], after["inflating_max"]), (before["run_mb"] + 1, 7))
        for name in ("mode", "budget_mb", "reserve_mb", "floor_mb", "guest_max_age_seconds"):
            self.assertEqual(after[name], before[name], name)
        for params in ({"floor_mb": 1}, {"inflating_max": 0}, {"run_mb": 0}, {"reserve_mb": -1}):
            error = self.assert_error(2006, "LIMIT_INVALID", "memory.policy", **params)
            self.assertEqual(error.data["field"], *params)
        self.assert_error(-32602, "INVALID_PARAMS", "memory.policy", mode="sometimes")
        self.assertEqual(self.client.call("memory.policy")["inflating_max"], 7)
