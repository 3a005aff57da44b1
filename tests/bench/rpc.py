# SPDX-License-Identifier: Apache-2.0
"""The daemon itself: round trips, requests a second, what many runs leave behind."""
import json
import subprocess

import daemon

RPC_BENCH = "build/tests/bench/rpc_bench"
PINGS, FLIGHT, TURNS = 2000, 4000, 5


def rpc(mode, path, count):
    done = subprocess.run([RPC_BENCH, mode, path, str(count)], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout)


def serve(bench, table):
    with bench.daemon(*daemon.NO_POOL) as served, served.client() as client:
        served.wait_templates()
        round_trips(table, served)
        for number in range(bench.sizes["runs"] + 1):
            if number == 1:  # the first one has loaded what runs need
                client.wait_no_vms()
                before = served.resident_bytes(), served.descriptors()
            daemon.run_once(served.socket, "shell")
        client.wait_no_vms()
        daemon.wait(lambda: served.descriptors() <= before[1], "descriptors are closed", daemon.START_SECONDS)
        after = served.resident_bytes(), served.descriptors()
    names = (("resident memory", "KiB", 1024), ("open descriptors", "", 1))
    for (name, unit, scale), old, new in zip(names, before, after):
        table.add_value("daemon", name, "after the first run", old // scale, unit)
        table.add_value("daemon", name, f"after {bench.sizes['runs']} more", new // scale, unit)


def round_trips(table, served):
    """In turns, so that a bad moment hits both."""
    subjects = [("**execsandbox** `rpc.ping`", served.socket), ("bare echo over a Unix socket", "echo")]
    pings, rates = {}, {}
    for _ in range(TURNS):
        for subject, path in subjects:
            pings.setdefault(subject, []).extend(rpc("ping", path, PINGS)["us"])
            flight = rpc("flight", path, FLIGHT)
            rates.setdefault(subject, []).append(flight["n"] / flight["seconds"])
    for subject, _ in subjects:
        table.add("daemon", "RPC round trip, one at a time", subject, pings[subject], "µs", keep=False)
    for subject, _ in subjects:
        table.add("daemon", "requests a second, 64 in flight", subject, rates[subject], "/s")
