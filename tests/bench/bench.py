#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures a daemon and its peers side by side; prints a table, writes it and plots below build/.

    tests/bench/bench.py [--quick] [--only GROUP,…]

Own and peer measurements take turns, so that a machine that becomes slower or faster does so for
both. A group that is measured alone takes its place among what build/bench.json has of the others.
"""
import argparse
import json
import os
import shutil
import sys
import tempfile
import time

import control
import daemon
import files
import hostile
import memory
import plot
import rpc
import session
import speed
from table import Table, markdown

# In this order; each is a function of (bench, table). What takes long or fills the host is last.
GROUPS = {"S1": speed.warm, "S3": speed.empty, "S4": speed.rate, "S5": session.session, "S6": speed.burst, "S7": files.files, "S8": speed.start,
          "S9": speed.template_build, "split": speed.split, "daemon": rpc.serve, "R3": hostile.timeouts, "R4": hostile.flood,
          "R5": hostile.hogs, "M1": memory.memory, "control": control.control, "mixed": control.mixed, "M8": memory.template_stays}
FULL = {"rates": (("python", 0), ("python", 4), ("shell", 0)), "rounds": 100, "empty": 30, "boot_every": 6, "rate": 60, "execs": 50, "peer_rate": 10, "bursts": 3, "starts": 10,
        "builds": 5, "split": 15, "runs": 100, "loaded": (10, 100, 200, 400, 1000), "rehearsed": (10, 100, 400),
        "idle": 30, "stress": 600, "returns": 5, "turns": 2, "mixed": 600, "watched": 200, "files": 5,
        "timeouts": 30, "flood": 1024, "watch": 20, "hog": 15}
QUICK = {"rates": (("python", 0), ("python", 4)), "rounds": 5, "empty": 3, "boot_every": 3, "rate": 10, "execs": 5, "peer_rate": 2, "bursts": 1, "starts": 2, "builds": 1,
         "split": 3, "runs": 10, "loaded": (10, 100), "rehearsed": (10, 20), "idle": 5, "stress": 30, "returns": 1, "turns": 1, "mixed": 60, "watched": 20, "files": 2,
         "timeouts": 3, "flood": 64, "watch": 3, "hog": 3}
# Per cent of all processors that others may use before a group, for a quiet machine.
QUIET_BUSY = 5
JSON, MARKDOWN = "build/bench.json", "build/bench.md"
PLOTS = {"build/bench-latency.svg": plot.latency, "build/bench-memory.svg": plot.memory}


class Bench:
    """What the groups share: how much to measure, and a store of templates."""

    def __init__(self, sizes, state):
        self.sizes, self.state = sizes, state

    def daemon(self, *settings):
        return daemon.Daemon(self.state, *settings)


def busy_percent():
    """Of all processors, in a second in which the bench does nothing."""
    def read():
        with open("/proc/stat", encoding="ascii") as file:
            times = [int(word) for word in file.readline().split()[1:9]]
        return sum(times), times[3] + times[4]

    total, idle = read()
    daemon.select_nothing(1)
    now_total, now_idle = read()
    return round(100 - 100 * (now_idle - idle) / max(1, now_total - total), 1)


def machine():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        names = [line.split(":", 1)[1].strip() for line in file if line.startswith("model name")]
    return {"cpu": names[0] if names else "?", "cores": os.cpu_count(),
            "memory_mb": memory.meminfo()["MemTotal"] // 1024, "kernel": os.uname().release}


def machine_line(facts):
    return f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_mb']} MiB, Linux {facts['kernel']}, TCG"


def group_lines(groups):
    """When each was measured, how long it took, and whether others used the machine before it."""
    lines = []
    for name, one in groups.items():
        note = "" if one["busy_before"] < QUIET_BUSY else ", **not quiet**"
        lines.append(f"{name} {one['time']}, {one['seconds']} s{', quick' if one['quick'] else ''} "
                     f"({one['busy_before']} % of the CPUs busy before{note})")
    return "Measured: " + "; ".join(lines) + "\n"


def load_previous():
    try:
        with open(JSON, encoding="utf-8") as file:
            return json.load(file).get("groups", {})
    except FileNotFoundError:
        return {}


def measure(name, bench, is_quick):
    table, busy = Table(), busy_percent()
    started, moment = time.monotonic(), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    print(f"bench: {name}", file=sys.stderr, flush=True)
    try:
        GROUPS[name](bench, table)
    except (RuntimeError, OSError) as error:  # what was measured before it stays
        table.add_missing(name, "the rest of its rows", "bench", str(error))
    return {"time": moment, "seconds": round(time.monotonic() - started), "quick": is_quick, "busy_before": busy,
            "rows": table.rows}


def write(facts, groups):
    rows = [row for one in groups.values() for row in one["rows"]]
    with open(JSON, "w", encoding="utf-8") as file:
        json.dump({"machine": facts, "groups": groups}, file)
    text = f"{machine_line(facts)}\n\n{markdown(rows)}\n{group_lines(groups)}"
    with open(MARKDOWN, "w", encoding="utf-8") as file:
        file.write(text)
    for path, make in PLOTS.items():
        drawn = make(rows)
        if drawn:
            with open(path, "w", encoding="utf-8") as file:
                file.write(drawn)
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--quick", action="store_true", help="few samples, under three minutes")
    parser.add_argument("--only", metavar="GROUPS", help=f"some of {', '.join(GROUPS)}")
    options = parser.parse_args()
    wanted = options.only.split(",") if options.only else list(GROUPS)
    if unknown := [name for name in wanted if name not in GROUPS]:
        parser.error(f"no such group: {', '.join(unknown)}")
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    groups = load_previous() if options.only else {}
    state = tempfile.mkdtemp(prefix="execsandbox-bench-state-")
    os.chmod(state, 0o755)
    started = time.monotonic()
    try:
        bench = Bench(QUICK if options.quick else FULL, os.path.join(state, "state"))
        with bench.daemon(*daemon.NO_POOL) as served:
            served.wait_templates()
        for name in (name for name in GROUPS if name in wanted):
            groups[name] = measure(name, bench, options.quick)
            text = write(machine(), {one: groups[one] for one in GROUPS if one in groups})
    finally:
        shutil.rmtree(state, ignore_errors=True)
    print(text)
    print(f"bench: {', '.join(wanted)} in {time.monotonic() - started:.0f} s: {JSON}, {MARKDOWN}, {', '.join(PLOTS)}")


if __name__ == "__main__":
    sys.exit(main())
