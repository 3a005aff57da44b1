#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""R2 and M8: programs of all kinds through one daemon, thousands of them, and what it has lost, kept or forgotten.

    SOAK_RUNS=10000 SOAK_SEED=1 SOAK_SECONDS=1e9 tests/bench/soak.py

Runs in three languages, sessions with programs, files, background processes and balloons that move, results that
are asked for later, programs over their time, callers who leave, and QEMUs that are killed while they run. Each
prints what nobody else prints: a lost, doubled or foreign answer is seen. The daemon's descriptors and memory are
read when it has nothing to do, after a tenth of the runs and after all of them; the templates are hashed before and
behind. The closing line is "N passed, N failed"; the exit status is 1 when anything failed.
"""
import collections
import os
import random
import shutil
import sys
import tempfile
import threading
import time

import daemon
import memory

RUNS = int(os.environ.get("SOAK_RUNS", "10000"))
SEED = int(os.environ.get("SOAK_SEED", "1"))
SECONDS = float(os.environ.get("SOAK_SECONDS", "1e9"))  # no run begins behind them
WORKERS = 4
WARM_UP = max(1, min(1000, RUNS // 10))  # the first look is behind so many
STUCK_SECONDS = 120
GROWTH_BYTES = 1 << 20
# Results are kept for so short a time that there are as many at the first look as at the last.
SETTINGS = ("pool_python=3", "pool_javascript=1", "pool_shell=2", "pool_hot=2", "result_seconds=20")
VM_LOST = 3004

PRINT = {"python": "print('{}')", "javascript": "console.log('{}')", "shell": "echo '{}'"}
# What a worker does next, and how often; those that are slow are rare.
KINDS = {"run_python": 40, "run_shell": 20, "run_javascript": 4, "result": 10, "session": 10, "timeout": 3, "gone": 5, "killed": 4,
         "error": 4}


class Wrong(Exception):
    """An answer that is not what was promised."""


def expect(what, value, wanted):
    if value != wanted:
        raise Wrong(f"{what}: {value!r} instead of {wanted!r}")


class Worker(threading.Thread):
    """One client after another, each with one kind of work."""

    def __init__(self, soak, number):
        super().__init__(daemon=True)
        self.soak, self.random = soak, random.Random(f"{SEED} {number}")

    def run(self):
        while self.soak.take(self):
            kind = self.random.choices(list(KINDS), KINDS.values())[0]
            self.soak.busy[self] = kind
            try:
                with daemon.Client(self.soak.served.socket, STUCK_SECONDS) as client:
                    getattr(self, kind)(client)
                self.soak.ended(self, kind)
            except Exception as error:  # whatever it is, the soak goes on and tells it
                self.soak.ended(self, kind, error)

    def token(self):
        return f"{self.random.getrandbits(64):016x}"

    def plain(self, client, language, **params):
        token = self.token()
        result = client.call("run", language=language, code=PRINT[language].format(token), timeout_seconds=STUCK_SECONDS, **params)
        expect(f"{language}: status and output", (result["status"], result["stdout"]), ("ok", token + "\n"))
        return token

    def run_python(self, client):
        self.plain(client, "python")

    def run_shell(self, client):
        self.plain(client, "shell")

    def run_javascript(self, client):
        self.plain(client, "javascript")

    def result(self, client):
        """Asked for later, by another connection."""
        name = self.token()
        token = self.plain(client, "shell", exec_id=name)
        with daemon.Client(self.soak.served.socket, STUCK_SECONDS) as other:
            expect("session.result", other.call("session.result", exec_id=name)["stdout"], token + "\n")

    def error(self, client):
        result = client.call("run", language="shell", code="exit 7")
        expect("exit 7", (result["status"], result["exit_code"]), ("error", 7))

    def timeout(self, client):
        result = client.call("run", language="shell", code="echo on; sleep 100", timeout_seconds=0.3)
        expect("a timeout", result["status"], "timeout")

    def gone(self, client):
        """Asks, and hangs up at once or when it runs: nobody is answered, and the VM goes."""
        if self.random.randrange(2):
            client.send("run", language="shell", code="sleep 100")
            return
        self.begin(client)

    def begin(self, client):
        """A program that runs; its VM."""
        client.send("run", language="shell", code="sleep 100", stream=True)
        return client.wait_notification("run.started")["vm"]

    def killed(self, client):
        """The one whose QEMU is killed hears that its VM is lost, and nobody else hears anything."""
        vm = self.begin(client)
        with daemon.Client(self.soak.served.socket, STUCK_SECONDS) as other:
            pid = other.call("vm.info", vm=vm)["pid"]
        daemon.kill_vm(vm, pid)
        try:
            client.read_reply()
        except daemon.Failed as error:
            expect("the error of a killed VM", error.code, VM_LOST)
        else:
            raise Wrong("a killed VM's run has a result")

    def session(self, client):
        language = self.random.choice(("python", "shell"))
        made = client.call("session.create", language=language)
        try:
            for work in (self.state, self.command, self.background, self.file, self.balloon, self.later):
                self.soak.count(work.__name__)
                work(client, made, language)
        finally:
            client.call("session.close", session=made["session"])

    def state(self, client, made, language):
        """What one program leaves, the next one finds."""
        token = self.token()
        for code in (("kept = '{}'", "print(kept)") if language == "python" else ("kept='{}'", "echo $kept")):
            result = client.call("session.exec", session=made["session"], code=code.format(token))
        expect("what a session keeps", result["stdout"], token + "\n")

    def command(self, client, made, _):
        token = self.token()
        result = client.call("session.exec", session=made["session"], command="cat", stdin=token)
        expect("a command's output", result["stdout"], token)

    def background(self, client, made, _):
        token = self.token()
        process = client.call("session.exec", session=made["session"], command=f"read x; echo {token} $x", background=True)["process"]
        client.call("process.write", session=made["session"], process=process, data="y\n")
        result = client.call("process.wait", session=made["session"], process=process)
        expect("a background process's output", result["stdout"], token + " y\n")

    def file(self, client, made, _):
        token = self.token()
        client.call("file.write", session=made["session"], path="soak", data=token)
        expect("a file", client.call("file.read", session=made["session"], path="soak")["data"], token)

    def balloon(self, client, made, _):
        for target in (self.random.randrange(110, 200), 256):
            client.call("memory.balloon", vm=made["vm"], target_mb=target)

    def later(self, client, made, _):
        name, token = self.token(), self.token()
        client.call("session.exec", session=made["session"], command=f"echo {token}", exec_id=name)
        expect("session.result", client.call("session.result", exec_id=name)["stdout"], token + "\n")


class Soak:
    """The runs that are left, who works, and what went wrong."""

    def __init__(self, served):
        self.served, self.lock = served, threading.Condition()
        self.begun, self.limit, self.busy = 0, WARM_UP, {}
        self.counts, self.problems = collections.Counter(), []
        self.started, self.looks, self.workers = time.monotonic(), [], [Worker(self, number) for number in range(WORKERS)]

    def take(self, worker):
        """The right to one more run. Waits for the look at the daemon; False when all are done."""
        with self.lock:
            self.lock.wait_for(lambda: self.begun < self.limit or self.is_over())
            if self.is_over():
                return False
            self.begun += 1
            self.busy[worker] = None  # it does not say yet what it does
            return True

    def is_over(self):
        return self.begun >= RUNS or time.monotonic() > self.started + SECONDS

    def count(self, kind):
        """One more program of a session."""
        with self.lock:
            self.counts[kind] += 1

    def ended(self, worker, kind, error=None):
        with self.lock:
            del self.busy[worker]
            self.counts[kind] += 1
            if error:
                self.problems.append(f"{kind}: {type(error).__name__}: {error}")
            self.lock.notify_all()

    def look(self, client):
        """The daemon when it has nothing to do: descriptors, resident memory."""
        with self.lock:
            while not self.lock.wait_for(lambda: (self.begun >= self.limit or self.is_over()) and not self.busy, 1):
                pass  # nobody tells that the time is over
        client.wait_pools(hot=2)
        look = (self.served.descriptors(), self.served.resident_bytes())
        self.looks.append(look)
        print(f"soak: after {self.begun} runs: {look[0]} descriptors, {look[1] / 2**20:.2f} MB resident, "
              f"{time.monotonic() - self.started:.0f} s, {len(self.problems)} problems", flush=True)

    def go(self):
        self.started = time.monotonic()
        with self.served.client() as client:
            client.wait_pools(hot=2)
            for worker in self.workers:
                worker.start()
            for limit in sorted({WARM_UP, RUNS // 2, RUNS}):
                with self.lock:
                    self.limit = limit
                    self.lock.notify_all()
                self.look(client)
        for worker in self.workers:
            worker.join(STUCK_SECONDS)
        return time.monotonic() - self.started


def checks(soak, before, after):
    """(name, whether it is so, figures)."""
    done = sum(soak.counts.values())
    (first_fds, first_rss), (last_fds, last_rss) = soak.looks[0], soak.looks[-1]
    growth = last_rss - first_rss
    stuck = [f"{worker.name}: {soak.busy.get(worker)}" for worker in soak.workers if worker.is_alive()]
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(soak.counts.items()))
    yield "nothing lost or wrong", not soak.problems, f"{len(soak.problems)} of {done} programs: {kinds}"
    yield "nothing stuck", not stuck, f"{len(stuck)} of {WORKERS} clients {stuck or ''}"
    yield "descriptors are flat", last_fds <= first_fds, f"{first_fds} after {WARM_UP} runs, {last_fds} after {soak.begun}"
    yield ("memory is flat", growth < GROWTH_BYTES,
           f"{growth / 2**20:+.2f} MB from {WARM_UP} runs ({first_rss / 2**20:.2f} MB) to {soak.begun}, wanted under 1 MB")
    for name in before:
        yield f"template {name} is unchanged (M8)", before[name] == after.get(name), f"SHA-256 {before[name][:16]}…"


def hashes(served):
    """Of each language's template: as its memory is, which must be what template.info tells."""
    found = {}
    with served.client() as client:
        for language in daemon.LANGUAGES:
            name = f"{language}-256"
            found[name] = memory.template_hash(served, name)
            told = client.call("template.info", name=name)["ram_sha256"]
            if told != found[name]:
                found[name] += f", told {told}"
    return found


def soak(state):
    with daemon.Daemon(state, *SETTINGS) as served:
        served.wait_templates()
        before = hashes(served)
        one = Soak(served)
        seconds = one.go()
        results = list(checks(one, before, hashes(served)))
        leftovers = served.client().call("vm.list")["vms"] if served.process.poll() is None else None
        results.append(("the daemon lives, with its spares only", leftovers is not None and len(leftovers) <= 6,
                        f"{len(leftovers or [])} VMs"))
    for problem in one.problems[:20]:
        print(f"  {problem}")
    print(f"soak: {one.begun} runs in {seconds:.0f} s, {sum(one.counts.values()) / seconds:.1f} programs a second, seed {SEED}")
    return results


def main():
    os.chdir(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
    state = tempfile.mkdtemp(prefix="execsandbox-soak-state-")
    os.chmod(state, 0o755)
    try:
        results = soak(os.path.join(state, "state"))
    finally:
        shutil.rmtree(state, ignore_errors=True)
    for name, is_so, figures in results:
        print(f"  {'ok  ' if is_so else 'FAIL'} {name}: {figures}")
    failed = sum(not is_so for _, is_so, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
