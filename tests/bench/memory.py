# SPDX-License-Identifier: Apache-2.0
"""How much memory: per VM over the number of VMs, a thousand of them, the daemon's own, a template's content."""
import collections
import concurrent.futures
import hashlib
import os
import random
import re
import threading
import time

import daemon
from table import percentile

OWN = "**execsandbox**"
MANY = 1000
# Of 24 GiB: a thousand spares that the daemon counts as 16 MiB each, and the languages' templates.
MANY_SETTINGS = (*daemon.NO_POOL, f"max_vms={MANY + 50}", "host_reserve_mb=512", "memory_overcommit_percent=1600")
READS, READ_PAUSE_SECONDS = 7, 0.5
SETTLED_KIB, SETTLE_SECONDS = 4096, 20
SMAPS_VMS = 10
RUNS_AT_ONCE = 16
IDLE_VMS_RSS, IDLE_VMS_CPU = 100, 200
# What the kernel counts of a VM, for the change of each over the number of VMs.
KERNEL_PARTS = {"AnonPages": "processes' own pages", "PageTables": "page tables", "KernelStack": "kernel stacks",
                "Slab": "slab: descriptors, sockets, mappings", "Percpu": "per CPU", "Shmem": "shared memory"}


def meminfo():
    """KiB by name."""
    with open("/proc/meminfo", encoding="ascii") as file:
        return {words[0].rstrip(":"): int(words[1]) for words in map(str.split, file)}


def settled_meminfo():
    """Medians of several reads, once what was freed or made has been counted."""
    deadline = time.monotonic() + SETTLE_SECONDS
    before = meminfo()["MemAvailable"]
    while True:
        daemon.select_nothing(1)
        now = meminfo()["MemAvailable"]
        if abs(now - before) < SETTLED_KIB or time.monotonic() > deadline:
            break
        before = now
    reads = []
    for _ in range(READS):
        daemon.select_nothing(READ_PAUSE_SECONDS)
        reads.append(meminfo())
    return {name: percentile([one[name] for one in reads], 50) for name in reads[0]}


# --- One QEMU by mapping. ---

def kind_of(words):
    """What a mapping of QEMU is; words as in /proc/PID/smaps."""
    path = " ".join(words[5:])
    if "memfd:" in path:
        return "guest memory"
    if path == "[heap]":
        return "heap"
    if path.startswith("/"):
        return "program and libraries, written pages"
    if words[1].startswith("rwx"):
        return "translated code"
    return "other: stacks, arenas, tables of TCG"


def anonymous_by_kind(pid):
    """KiB of the process's own pages."""
    found, kind = collections.Counter(), None
    with open(f"/proc/{pid}/smaps", encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if re.match(r"[0-9a-f]+-[0-9a-f]+$", words[0]):
                kind = kind_of(words)
            elif words[0] == "Anonymous:":
                found[kind] += int(words[1])
    return found


def add_mappings(table, subject, served, pids):
    chosen = pids[:: max(1, len(pids) // SMAPS_VMS)][:SMAPS_VMS]
    samples = collections.defaultdict(list)
    for pid in chosen:
        for kind, kib in anonymous_by_kind(pid).items():
            samples[kind].append(kib / 1024)
        wrappers = [one for one in daemon.ancestors(pid) if served.process.pid in daemon.ancestors(one)]
        samples["bubblewrap's processes"].append(sum(sum(anonymous_by_kind(one).values()) for one in wrappers) / 1024)
    for kind, found in sorted(samples.items(), key=lambda item: -percentile(item[1], 50)):
        table.add("M1", f"{subject}: own pages by mapping", kind, found, "MB")


# --- M1, M2, M7: one daemon that grows. ---

def add_marginal(table, subject, count, before, now, goal):
    kib = before["MemAvailable"] - now["MemAvailable"]
    table.add_value("M1", f"host memory per idle VM, {subject}", f"{OWN}, N = {count}", kib / count / 1024, "MB", goal)


def add_kernel_parts(table, subject, count, before, now):
    for name, what in KERNEL_PARTS.items():
        table.add_value("M1", f"{subject}, N = {count}: change of /proc/meminfo / N", f"{name}: {what}",
                        (now[name] - before[name]) / count / 1024, "MB")


def memory(bench, table):
    """M1 (loaded), M7, M2; then M1 (rehearsed)."""
    with bench.daemon(*MANY_SETTINGS, "pool_hot=0") as served, served.client() as client:
        served.wait_templates()
        before = settled_meminfo()
        table.add_value("M7", "daemon's resident memory", "no VM", served.resident_bytes() / 2**20, "MB")
        for count in bench.sizes["loaded"]:
            started = time.monotonic()
            client.set_pool("python", count)
            seconds = time.monotonic() - started
            look_at_loaded(bench, table, served, client, count, before)
        table.add_value("M2", f"time to grow the pool to {count}", "the last step", seconds, "s")
        run_on_all(table, served, client, count)
    with bench.daemon(*MANY_SETTINGS, f"pool_hot={MANY}") as served, served.client() as client:
        served.wait_templates()
        before = settled_meminfo()
        for count in bench.sizes["rehearsed"]:
            client.set_pool("python", count)
            now = settled_meminfo()
            add_marginal(table, "rehearsed", count, before, now, "10 MB")
        add_mappings(table, "rehearsed", served, client.vm_pids())
        add_kernel_parts(table, "rehearsed", count, before, now)


def look_at_loaded(bench, table, served, client, count, before):
    now = settled_meminfo()
    if count != IDLE_VMS_CPU:
        add_marginal(table, "loaded only", count, before, now, "10 MB" if count >= 100 else "")
    if count == IDLE_VMS_RSS:
        add_kernel_parts(table, "loaded only", count, before, now)
        add_mappings(table, "loaded only", served, client.vm_pids())
        table.add_value("M7", "daemon's resident memory", f"{count} idle VMs", served.resident_bytes() / 2**20, "MB",
                        "12 MB")
    if count == IDLE_VMS_CPU:
        add_idle_cpu(table, served, client.vm_pids(), bench.sizes["idle"])


def add_idle_cpu(table, served, pids, seconds):
    def used():
        return served.cpu_seconds(), sum(map(daemon.cpu_seconds, pids))

    started, before = time.monotonic(), used()
    daemon.select_nothing(seconds)
    shares = [(now - old) / (time.monotonic() - started) * 100 for now, old in zip(used(), before)]
    what = f"CPU of one core with {len(pids)} idle VMs, {seconds} s"
    table.add_value("M7", what, f"{OWN} daemon", shares[0], "%", "0.5 %")
    table.add_value("M7", what, "all QEMUs together", shares[1], "%")


class Pinger:
    """rpc.ping ten times a second, with its round trips in milliseconds."""

    def __init__(self, served):
        self.samples, self.served = [], served
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self._work)

    def _work(self):
        with self.served.client() as client:
            while not self.is_over.wait(0.1):
                started = time.monotonic()
                client.call("rpc.ping")
                self.samples.append((time.monotonic() - started) * 1000)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def run_on_all(table, served, client, count):
    """M2: a run in each of the VMs that live, some at a time; the daemon answers meanwhile."""
    before = {vm["vm"] for vm in client.call("vm.list")["vms"]}
    memory_now = settled_meminfo()
    started = time.monotonic()
    with Pinger(served) as pinger, concurrent.futures.ThreadPoolExecutor(RUNS_AT_ONCE) as pool:
        found = list(pool.map(lambda _: daemon.run_once(served.socket, "python"), range(count)))
    seconds = time.monotonic() - started
    used = {result["vm"] for _, result in found}
    what = f"{count} live VMs, a run on each, {RUNS_AT_ONCE} at once"
    table.add_value("M2", what, "VMs that lived before", str(len(before)), goal="1,000")
    table.add_value("M2", what, f"{OWN}, runs answered; in how many VMs; of those that lived before",
                    f"{len(found)}; {len(used)}; {len(used & before)}", goal="all, all, all")
    table.add("M2", what, f"{OWN}, each", [milliseconds for milliseconds, _ in found])
    table.add_value("M2", what, "all", seconds, "s")
    table.add("M2", f"rpc.ping meanwhile ({count} VMs live)", f"{OWN} daemon", pinger.samples)
    table.add_value("M2", "host with them", "memory available; swap used",
                    f"{memory_now['MemAvailable'] // 1024:,} MiB; "
                    f"{(memory_now['SwapTotal'] - memory_now['SwapFree']) // 1024} MiB")


# --- M8. ---

ALLOCATE = "for i in range(2):\n block = bytearray(b'x' * (120 << 20))\n del block\nprint(1)"
KILL_SECONDS = 6.0  # at most, between two


def template_hash(served, template="python-256"):
    """SHA-256 of the memory that the daemon's VMs are cloned from, as it is now."""
    folder = f"/proc/{served.process.pid}/fd"
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if os.readlink(path).startswith(f"/memfd:{template}"):
            digest = hashlib.sha256()
            with open(path, "rb") as file:
                while chunk := file.read(1 << 20):
                    digest.update(chunk)
            return digest.hexdigest()
    raise RuntimeError(f"the daemon has no memfd of template {template}")


class Stress:
    """Runs that take and free memory, balloons that move, QEMUs that are killed, until a deadline."""

    def __init__(self, served, seconds):
        self.served, self.ends = served, time.monotonic() + seconds
        self.random = random.Random(8)
        self.counts = collections.Counter()

    def go_on(self):
        return time.monotonic() < self.ends

    def runs(self):
        while self.go_on():
            try:
                with self.served.client() as client:
                    result = client.call("run", language="python", code=ALLOCATE, timeout_seconds=60)
                self.counts["ok" if result["stdout"] == "1\n" else "other results"] += 1
            except daemon.Failed as error:
                self.counts[f"error {error.code}"] += 1

    def balloons(self):
        with self.served.client() as client:
            while self.go_on():
                for vm in client.call("vm.list")["vms"]:
                    if vm["state"] == "running":
                        self.move(client, vm["vm"])
                daemon.select_nothing(0.05)

    def move(self, client, vm):
        for target in (self.random.randrange(100, 200), 256):
            try:
                client.call("memory.balloon", vm=vm, target_mb=target)
                self.counts["balloon moves"] += 1
            except daemon.Failed:
                self.counts["balloon calls that came too late"] += 1
                return

    def kills(self):
        with self.served.client() as client:
            while self.go_on():
                daemon.select_nothing(self.random.uniform(0, KILL_SECONDS))
                vms = client.call("vm.list")["vms"]
                if vms and self.kill(self.random.choice(vms)["pid"]):
                    self.counts["kills"] += 1

    def kill(self, pid):
        """Only a QEMU of this daemon."""
        try:
            if self.served.process.pid not in daemon.ancestors(pid):
                return False
            os.kill(pid, 9)
            return True
        except (ProcessLookupError, FileNotFoundError):
            return False


def template_stays(bench, table):
    with bench.daemon("pool_python=4", "pool_javascript=0", "pool_shell=0") as served, served.client() as client:
        served.wait_templates()
        before = template_hash(served)
        stress = Stress(served, bench.sizes["stress"])
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(one) for one in (stress.runs, stress.runs, stress.balloons, stress.kills)]:
                done.result()
        after = template_hash(served)
        told = client.call("template.info", name="python-256")["ram_sha256"]
    done = ", ".join(f"{count} {name}" for name, count in sorted(stress.counts.items()))
    verdict = "unchanged" if before == after == told else f"CHANGED: {before}, {after}, told {told}"
    table.add_value("M8", f"template's memory after {bench.sizes['stress']} s of: {done}",
                    f"{OWN}, SHA-256 before, after, template.info", verdict, goal="unchanged")
