# SPDX-License-Identifier: Apache-2.0
"""R3, R4, R5: programs that do not end, that write without end, that take all there is."""
import contextlib
import threading
import time

import daemon

OWN = "**execsandbox**"
TIMEOUT_SECONDS, GRACE_MS = 0.5, 50  # the default of kill_grace_ms

# A tree that SIGTERM does not end, out of its process group, and one of which somebody goes on writing.
TREE = """trap '' TERM
setsid sleep 1000 &
(setsid sh -c 'trap "" TERM; sleep 1000; sleep 1000' &) &
while :; do :; done
"""
FAREWELL = "trap 'echo asked; exit' TERM\n(setsid sleep 1000 &)\nwhile :; do :; done\n"
LOOP = """import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0: time.sleep(1000)
    time.sleep(1000)
while True:
    try:
        while True: pass
    except BaseException: pass
"""
COUNT = {"command": "ps -eo user,comm | grep -c '^user *sleep' || true"}


def lateness(result, expected):
    """Milliseconds behind deadline and grace, by the daemon's clock; before them for who leaves when asked."""
    if result["status"] != "timeout" or result["stdout"] != expected:
        raise RuntimeError(f"a timeout: {result['status']} {result['stdout']!r}")
    return result["timing"]["execute_ms"] - TIMEOUT_SECONDS * 1000 - GRACE_MS


def timeouts(bench, table):
    """R3: in one session, and in runs; behind each, what of its tree is left."""
    what, goal = "at a timeout: the answer behind deadline + kill grace", "100 ms (p99)"
    kinds = (("session, command: a tree that ignores SIGTERM", {"command": TREE}, ""),
             ("session, command: writes at SIGTERM, then leaves", {"command": FAREWELL}, "asked\n"),
             ("session, code: a loop that catches all, with forks", {"code": LOOP}, ""))
    left = 0
    with bench.daemon(*daemon.NO_POOL) as served, served.client() as client:
        served.wait_templates()
        session = client.call("session.create", language="python")["session"]
        for subject, program, expected in kinds:
            samples = []
            for _ in range(bench.sizes["timeouts"]):
                if "code" in program:  # a fresh interpreter is not what is measured
                    client.call("session.exec", session=session, code="1")
                samples.append(lateness(client.call("session.exec", session=session, timeout_seconds=TIMEOUT_SECONDS,
                                                    **program), expected))
                left += int(client.call("session.exec", session=session, **COUNT)["stdout"])
            table.add("R3", what, f"{OWN} {subject}", samples, "ms", goal)
        client.call("session.close", session=session)
        samples = [lateness(client.call("run", language="shell", code=TREE, timeout_seconds=TIMEOUT_SECONDS), "")
                   for _ in range(bench.sizes["timeouts"])]
        table.add("R3", what, f"{OWN} run, shell: a tree that ignores SIGTERM", samples, "ms", goal)
    table.add_value("R3", "processes left behind the timeouts in the session", OWN, left, "", "0")


class Watched(threading.Thread):
    """Something called again and again beside what is measured, with how long each took."""

    def __init__(self, served, once):
        super().__init__(daemon=True)
        self.served, self.once, self.samples, self.is_over = served, once, [], threading.Event()
        self.problem = None

    def run(self):
        try:
            with self.served.client() as client:
                while not self.is_over.is_set():
                    started = time.monotonic()
                    self.once(client)
                    self.samples.append((time.monotonic() - started) * 1000)
                    daemon.select_nothing(0.02)
        except (RuntimeError, OSError) as error:
            self.problem = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.join()
        if self.problem:
            raise self.problem


def flood(bench, table):
    """R4: a session writes; the daemon's memory, and another session's pace."""
    with bench.daemon(*daemon.NO_POOL) as served, served.client() as client:
        served.wait_templates()
        writer, other = (client.call("session.create", language="python")["session"] for _ in range(2))
        client.call("session.exec", session=other, code="1")
        client.call("session.exec", session=writer, command="yes | head -c 4M")

        def think(one):
            one.call("session.exec", session=other, code="1")

        with Watched(served, think) as quiet:
            daemon.select_nothing(bench.sizes["watch"])
        # A NUL is six letters of JSON.
        for subject, megabytes, command, params in (
                ("result only", bench.sizes["flood"], "yes | head -c {}M", {}),
                ("streamed", bench.sizes["flood"] // 4, "yes | head -c {}M", {"stream": True}),
                ("result only, NULs", bench.sizes["flood"] // 16, "head -c {}M /dev/zero", {})):
            before, peak = served.resident_bytes(), []
            with Watched(served, think) as meanwhile, Watched(served, lambda _: peak.append(served.resident_bytes())):
                started = time.monotonic()
                result = client.call("session.exec", session=writer, timeout_seconds=600,
                                     command=command.format(megabytes), **params)
                seconds = time.monotonic() - started
            if not result["stdout_truncated"] or result["stdout_bytes"] != megabytes << 20:
                raise RuntimeError(f"{megabytes} MiB: {result['status']}, {result['stdout_bytes']} bytes")
            what = f"{megabytes} MiB to standard output, {subject}"
            table.add_value("R4", f"{what}: rate in the guest", OWN, megabytes / seconds, "MiB/s")
            table.add_value("R4", f"{what}: the daemon's memory, peak - before", OWN, (max(peak) - before) / 2**20, "MB",
                            "8 MB")
            table.add("R4", f"{what}: another session's `code`", f"{OWN}, meanwhile", meanwhile.samples)
            table.add_value("R4", f"{what}: its p99, meanwhile / before", OWN,
                            p99(meanwhile.samples) / p99(quiet.samples), "", "1.5")
        table.add("R4", "another session's `code`", f"{OWN}, before", quiet.samples)


def p99(samples):
    ordered = sorted(samples)
    return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]


HOGS = (("fork bomb", "bomb() { bomb | bomb & }\nbomb\nsleep 1000\n"),
        ("CPU hog, 20 loops", "for i in {1..20}; do while :; do :; done & done\nwait\n"),
        ("memory hog", "python3 -c 'import os\nkept = []\nwhile True: kept.append(os.urandom(1 << 20))'\n"))


def hogs(bench, table):
    """R5: control calls while a session's program takes all of its VM, and the close that ends it."""
    with bench.daemon(*daemon.NO_POOL) as served, served.client() as client:
        served.wait_templates()
        for name, code in HOGS:
            session = client.call("session.create", language="shell")["session"]
            calls = {"rpc.ping": {}, "session.info": {"session": session}, "memory.stats": {}, "vm.list": {}}
            runner = threading.Thread(target=run_hog, args=(served, session, code))
            runner.start()
            samples = []
            stop = time.monotonic() + bench.sizes["hog"]
            while time.monotonic() < stop:
                for method, params in calls.items():
                    samples.append(timed(client, method, params))
                daemon.select_nothing(0.02)
            closed = timed(client, "session.close", {"session": session})
            runner.join()
            table.add("R5", f"{', '.join(calls)}, while a session has a {name}", OWN, samples, "ms", "500 ms")
            table.add_value("R5", f"session.close, while it has a {name}", OWN, closed, "ms", "500 ms")


def run_hog(served, session, code):
    """Again when it has killed itself, until its session is closed under it."""
    with served.client() as client, contextlib.suppress(daemon.Failed):
        while True:
            client.call("session.exec", session=session, command=code, timeout_seconds=300)


def timed(client, method, params):
    started = time.monotonic()
    client.call(method, **params)
    return (time.monotonic() - started) * 1000
