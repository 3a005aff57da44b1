#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a daemon and its peers side by side; prints a table, writes build/bench.json and build/bench.md.

    tests/bench/bench.py [--quick]

Own and peer measurements take turns, so that a machine that becomes slower or faster does so for
both. Percentiles are nearest-rank: with few samples p99 is the slowest one.
"""
import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time

import daemon
import peers

RPC_BENCH = "build/tests/bench/rpc_bench"
MAX_VMS = 2
CONCURRENT_RUNS = 20
QUIET_LOAD = 1.0
SETTINGS = [f"max_vms={MAX_VMS}", "queue_timeout_seconds=600", "accel=tcg"]
# Rounds of cold starts, phases, loud boots; pings; runs before the footprint is read.
FULL = {"rounds": 15, "phases": 5, "loud": 3, "pings": 10000, "flight": 20000, "runs": 100}
QUICK = {"rounds": 2, "phases": 1, "loud": 1, "pings": 10000, "flight": 20000, "runs": 10}


def percentile(samples, wanted):
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * wanted // 100) - 1)]


class Table:
    """Rows of (what, subject, samples); a subject that cannot run has its reason instead."""

    def __init__(self):
        self.rows = []

    def add(self, what, subject, samples, unit):
        self.rows.append({"what": what, "subject": subject, "unit": unit, "n": len(samples),
                          "p50": percentile(samples, 50), "p99": percentile(samples, 99)})

    def add_value(self, what, subject, value, unit):
        self.rows.append({"what": what, "subject": subject, "unit": unit, "value": value})

    def add_missing(self, what, subject, reason):
        self.rows.append({"what": what, "subject": subject, "missing": reason})

    def markdown(self):
        lines = ["| what | subject | p50 | p99 | n |", "|---|---|---|---|---|"]
        for row in self.rows:
            if "missing" in row:
                cells = [f"n/a: {row['missing']}", "", ""]
            elif "value" in row:
                cells = [format_value(row["value"], row["unit"]), "", ""]
            else:
                cells = [format_value(row["p50"], row["unit"]), format_value(row["p99"], row["unit"]), str(row["n"])]
            lines.append("| " + " | ".join([row["what"], row["subject"], *cells]) + " |")
        return "\n".join(lines) + "\n"


def format_value(value, unit):
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.1f}"
    return f"{text} {unit}".strip()


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    with open("/proc/meminfo", encoding="ascii") as file:
        total = int(file.readline().split()[1]) // 1024
    load = os.getloadavg()
    return {"cpu": names[0] if names else "?", "cores": os.cpu_count(), "memory_mb": total,
            "kernel": os.uname().release, "load_before": [round(one, 2) for one in load],
            "is_quiet": load[0] < QUIET_LOAD,
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}


def machine_line(facts):
    load = "/".join(str(one) for one in facts["load_before"])
    note = "" if facts["is_quiet"] else "; **not quiet**: others used the CPU meanwhile"
    return (f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mb']} MiB, Linux {facts['kernel']}, "
            f"load average before the start {load}{note}, {facts['time']}")


def see_qemu(served):
    """The command line of a QEMU, seen while a run sleeps."""
    with daemon.Client(served.socket) as client:
        request = {"jsonrpc": "2.0", "id": 1, "method": "run",
                   "params": {"language": "shell", "code": "sleep 100", "timeout_seconds": 120}}
        client.socket.sendall(json.dumps(request).encode() + b"\n")
        for _ in range(200):
            command = served.qemu_command()
            if command:
                return command
            daemon.select_nothing(0.05)
    return None


def make_peers(table, served):
    """{row: (what, subject, once)} of those that run here; the others go into the table."""
    python, javascript, shell = "print(1)", "console.log(1)", "echo 1"
    what = {language: f"cold start to output, {language}" for language in daemon.PROGRAMS}
    wishes = [
        (what["python"], "plain QEMU to READY, no daemon, no interpreter",
         lambda: peers.PlainQemu(see_qemu(served), daemon.IMAGES)),
        (what["python"], "bubblewrap", lambda: peers.Bubblewrap("/usr/bin/python3", "-c", python)),
        (what["python"], "runc", lambda: peers.Oci("runc", "/usr/bin/python3", "-c", python)),
        (what["python"], "runsc", lambda: peers.Oci("runsc", "/usr/bin/python3", "-c", python)),
        (what["javascript"], "bubblewrap (node)", lambda: peers.Bubblewrap("/usr/bin/node", "-e", javascript)),
        (what["shell"], "bubblewrap", lambda: peers.Bubblewrap("/bin/sh", "-c", shell)),
        (what["shell"], "runc", lambda: peers.Oci("runc", "/bin/sh", "-c", shell)),
    ]
    made = []
    for row, subject, make in wishes:
        try:
            made.append((row, subject, make()))
        except peers.Unavailable as reason:
            table.add_missing(row, subject, str(reason))
    return made


def bench_cold(table, served, made, rounds):
    own = {language: [] for language in daemon.PROGRAMS}
    parts = {language: {"queue_ms": [], "start_ms": [], "execute_ms": []} for language in daemon.PROGRAMS}
    theirs = [[] for _ in made]
    for language in daemon.PROGRAMS:  # files into the page cache; not counted
        daemon.run_once(served.socket, language)
    for _ in range(rounds):
        for language in daemon.PROGRAMS:
            milliseconds, result = daemon.run_once(served.socket, language)
            own[language].append(milliseconds)
            for part in parts[language]:
                parts[language][part].append(result["timing"][part])
        for samples, (_, _, peer) in zip(theirs, made):
            samples.append(peer.once())
    for language in daemon.PROGRAMS:
        what = f"cold start to output, {language}"
        table.add(what, "**execsandbox** `run`", own[language], "ms")
        for part in parts[language]:
            table.add(what, f"execsandbox, of it timing.{part}", parts[language][part], "ms")
        for samples, (row, subject, _) in zip(theirs, made):
            if row == what:
                table.add(what, subject, samples, "ms")


def rpc(mode, path, count):
    done = subprocess.run([RPC_BENCH, mode, path, str(count)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def bench_rpc(table, served, sizes):
    """Five turns each, so that a bad moment hits both."""
    subjects = [("**execsandbox** `rpc.ping`", served.socket), ("bare echo over a Unix socket", "echo")]
    pings, rates = {}, {}
    for _ in range(5):
        for subject, path in subjects:
            pings.setdefault(subject, []).extend(rpc("ping", path, sizes["pings"] // 5)["us"])
            flight = rpc("flight", path, sizes["flight"] // 5)
            rates.setdefault(subject, []).append(flight["n"] / flight["seconds"])
    for subject, _ in subjects:
        table.add("RPC round trip, one at a time", subject, pings[subject], "µs")
    for subject, _ in subjects:
        table.add_value("requests a second, 64 in flight", subject, percentile(rates[subject], 50), "/s")


def in_threads(count, workers, one):
    """(seconds for all, milliseconds of each). A failure is raised."""
    started = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        samples = list(pool.map(lambda _: one(), range(count)))
    return time.monotonic() - started, samples


def bench_concurrent(table, served, made):
    what = f"{CONCURRENT_RUNS} Python runs at once, {MAX_VMS} at a time"
    seconds, samples = in_threads(CONCURRENT_RUNS, CONCURRENT_RUNS,
                                  lambda: daemon.run_once(served.socket, "python")[0])
    table.add(what, f"**execsandbox**, all {len(samples)} answered in {seconds:.1f} s", samples, "ms")
    for row, subject, peer in made:
        if row == "cold start to output, python" and isinstance(peer, peers.Bubblewrap):
            seconds, samples = in_threads(CONCURRENT_RUNS, MAX_VMS, peer.once)
            table.add(what, f"{subject}, all {len(samples)} in {seconds:.1f} s", samples, "ms")


def bench_footprint(table, served, idle, done, runs):
    """Runs up to `runs` in all, then looks again once all VMs are gone."""
    if done < runs:
        in_threads(runs - done, MAX_VMS, lambda: daemon.run_once(served.socket, "shell"))
    with daemon.Client(served.socket) as client:
        deadline = time.monotonic() + 30
        while client.call("vm.list")["vms"] and time.monotonic() < deadline:
            daemon.select_nothing(0.05)
    after = settled_footprint(served, idle)
    for name, before, now, unit, scale in [("resident memory", idle[0], after[0], "KiB", 1024),
                                           ("open descriptors", idle[1], after[1], "", 1)]:
        table.add_value(f"daemon's {name}", "idle", before / scale, unit)
        table.add_value(f"daemon's {name}", f"after {max(done, runs)} runs", now / scale, unit)


def settled_footprint(served, idle):
    """The footprint once the last client's end was noticed; what stays open longer is shown."""
    deadline = time.monotonic() + 5
    while (footprint := served.footprint())[1] > idle[1] and time.monotonic() < deadline:
        daemon.select_nothing(0.05)
    return footprint


# A phase ends with the first debug line that has these words.
PHASES = [
    ("request to QEMU's process", "Process"),
    ("QEMU's process to QMP ready", "negotiating -> ready"),
    ("QMP ready to agent ready (kernel, agent, identity)", "starting -> ready"),
    ("dispatch to end (interpreter and program)", "Run running -> done"),
]


def bench_phases(table, count):
    samples = {name: [] for name, _ in PHASES}
    with daemon.Daemon(*SETTINGS, "log_level=debug") as served:
        daemon.run_once(served.socket, "python")
        wait_line(served, 0, PHASES[-1][1])  # comes behind the reply
        for _ in range(count):
            first = len(served.lines)
            previous = time.monotonic()
            daemon.run_once(served.socket, "python")
            for name, words in PHASES:
                at = wait_line(served, first, words)
                samples[name].append((at - previous) * 1000)
                previous = at
    for name, _ in PHASES:
        table.add("where a cold Python run's time goes", name, samples[name], "ms")


def wait_line(served, first, words):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        for when, line in served.lines[first:]:
            if words in line:
                return when
        daemon.select_nothing(0.01)
    raise RuntimeError(f"the daemon's log never said '{words}'")


def bench_loud(table, made, count):
    plain = [peer for _, _, peer in made if isinstance(peer, peers.PlainQemu)]
    if not plain:
        return
    boots = [plain[0].boot(loud=True) for _ in range(count)]
    what = "plain QEMU with the kernel's log on (slower by it)"
    table.add(what, "spawn to the kernel's start of the agent", [init for _, init in boots], "ms")
    table.add(what, "from there to READY", [ready - init for ready, init in boots], "ms")


def bench_all(sizes):
    table = Table()
    with daemon.Daemon(*SETTINGS) as served:
        idle = served.footprint()
        made = make_peers(table, served)
        try:
            bench_rpc(table, served, sizes)
            bench_cold(table, served, made, sizes["rounds"])
            bench_concurrent(table, served, made)
            done = (sizes["rounds"] + 1) * len(daemon.PROGRAMS) + CONCURRENT_RUNS
            bench_footprint(table, served, idle, done, sizes["runs"])
            bench_loud(table, made, sizes["loud"])
        finally:
            for _, _, peer in made:
                if isinstance(peer, peers.Oci):
                    peer.close()
    bench_phases(table, sizes["phases"])
    table.rows.sort(key=lambda row: (ORDER.index(order_of(row["what"])), "missing" in row))
    return table


# Rows of one subject stand together, whenever they were measured.
ORDER = ["cold start to output, python", "cold start to output, javascript", "cold start to output, shell", "where",
         "plain", "20", "RPC", "requests", "daemon's"]


def order_of(what):
    return next(one for one in ORDER if what.startswith(one))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="about a minute: few samples")
    options = parser.parse_args()
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    facts = machine()
    started = time.monotonic()
    table = bench_all(QUICK if options.quick else FULL)
    facts["seconds"] = round(time.monotonic() - started, 1)
    text = machine_line(facts) + ("; quick run" if options.quick else "") + "\n\n" + table.markdown()
    with open("build/bench.json", "w", encoding="utf-8") as file:
        json.dump({"machine": facts, "rows": table.rows}, file, indent=1)
    with open("build/bench.md", "w", encoding="utf-8") as file:
        file.write(text)
    print(text)
    print(f"bench: {len(table.rows)} rows in {facts['seconds']} s, build/bench.json, build/bench.md")


if __name__ == "__main__":
    sys.exit(main())
