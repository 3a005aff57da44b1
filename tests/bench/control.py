# SPDX-License-Identifier: Apache-2.0
"""What memory control brings: memory given back, sessions on a third of their sizes, and what it costs.

Beside the policy runs the same load with free page reporting only (memory_control=off) and with no balloon
device at all: there nothing keeps to the budget, and the memory that the load then takes is the figure.
"""
import os
import random
import stat
import tempfile
import threading
import time

import daemon
import memory
from memory import OWN

SIZE_MB = 256
BUDGET_MB = 1024
TURN_SESSIONS, TURN_SECONDS, TURN_FIRST = 12, 6.0, 20
# What 1 GiB holds of them under TCG: of 14 three were lost.
MIXED_SESSIONS = 11
# Some wait for others before they begin.
SESSION_SECONDS = 1800
CROWDED = ("max_vms=60", "memory_overcommit_percent=1600", "cpu_overcommit=32", *daemon.NO_POOL)
# bubblewrap's command line has QEMU's at its end: without the balloon's device and its id.
NO_BALLOON = """#!/usr/bin/python3
import os, sys
words = ["/usr/bin/bwrap"]
for word in sys.argv[1:]:
    if word.startswith("virtio-balloon-device"):
        assert words.pop() == "-device"
    else:
        words.append(word)
os.execv(words[0], words)
"""
REGIMES = (("policy", (f"memory_budget_mb={BUDGET_MB}",)), ("reporting only", ("memory_control=off",)),
           ("no balloon", ("memory_control=off",)))


# --- QEMUs' own memory ---

def own_mb(pid):
    """RssAnon: what a QEMU does not share with its template."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("RssAnon:")), 0)
    except (FileNotFoundError, ProcessLookupError):
        return 0


class Sampler(threading.Thread):
    """The sum of all QEMUs' own memory, four times a second."""

    def __init__(self, served):
        super().__init__(daemon=True)
        self.served, self.sums, self.is_over = served, [], threading.Event()

    def run(self):
        with self.served.client() as client:
            while not self.is_over.wait(0.25):
                self.sums.append(sum(map(own_mb, client.vm_pids())))

    def end(self):
        self.is_over.set()
        self.join()

    def peak_mb(self):
        return max(self.sums)


class Sessions:
    """Runs on connections of their own, with what they have said so far."""

    def __init__(self, served):
        self.served, self.threads, self.results, self.said = served, [], {}, {}

    def begin(self, key, language, code):
        self.said[key] = ""
        thread = threading.Thread(target=self._work, args=(key, language, code))
        self.threads.append(thread)
        thread.start()

    def _work(self, key, language, code):
        def on_notification(method, params):
            if method == "run.output":
                self.said[key] += params["data"]

        try:
            with daemon.Client(self.served.socket, SESSION_SECONDS) as client:
                self.results[key] = client.call("run", on_notification, language=language, code=code, stream=True,
                                                timeout_seconds=SESSION_SECONDS)
        except daemon.Failed as error:
            self.results[key] = {"status": f"error {error.code}", "stdout": "", "stderr": str(error)}

    def wait(self):
        for thread in self.threads:
            thread.join()

    def lost(self):
        """Those that did not end well."""
        return [f"{key}: {result['status']}" for key, result in self.results.items()
                if result["status"] != "ok" or result["exit_code"] != 0]

    def pid_of_only(self, client):
        return daemon.wait(lambda: (pids := client.vm_pids()) and len(pids) == 1 and pids[0], "one VM runs", 60)


# --- M3, M4: one session ---

ALLOCATE = """
import time
def use():
    data = bytearray(150 << 20)
    data[::4096] = b"x" * len(data[::4096])
    print("full", flush=True)
    time.sleep(3)
use()
print("freed", flush=True)
time.sleep(6)
"""
IDLE = """
import os, time
read = 0
for root, _, names in os.walk("/usr"):
    for name in names:
        if read < 70 << 20:
            try:
                with open(os.path.join(root, name), "rb") as file:
                    read += len(file.read())
            except OSError:
                pass
data = bytearray(60 << 20)
data[::4096] = b"x" * len(data[::4096])
del data
print("idle", flush=True)
time.sleep(30)
"""
FRESH = "import time\nprint('idle', flush=True)\ntime.sleep(30)"


def say(sessions, key, word):
    daemon.wait(lambda: word in sessions.said[key] or key in sessions.results, f"the guest says {word}", 60, 0.01)


def given_back(bench, table):
    """M3: what of a session's 150 MB is back some seconds after it freed them."""
    returned = {seconds: [] for seconds in (1, 2, 3)}
    for regime, settings in REGIMES[1:]:
        with regime_daemon(bench, regime, settings) as served, served.client() as client:
            for _ in range(bench.sizes["returns"] if regime == "reporting only" else 1):
                found = one_return(served, client, returned)
                client.wait_no_vms()
                if regime == "no balloon":
                    table.add_value("M3", "150 MB allocated and freed: back at the host after 3 s", regime,
                                    found[3], "%")
                else:
                    for seconds in returned:
                        returned[seconds].append(found[seconds])
    for seconds, samples in returned.items():
        table.add("M3", f"150 MB allocated and freed: back at the host after {seconds} s", OWN, samples, "%",
                  "95 %" if seconds == 3 else "")


def one_return(served, client, moments):
    """Per cent of what it took, by seconds."""
    sessions, found = Sessions(served), {}
    sessions.begin("one", "python", "import time\ntime.sleep(2)\n" + ALLOCATE)
    pid = sessions.pid_of_only(client)
    daemon.select_nothing(1.5)
    before = own_mb(pid)
    say(sessions, "one", "full")
    full = own_mb(pid)
    say(sessions, "one", "freed")
    freed = time.monotonic()
    for seconds in moments:
        daemon.select_nothing(max(0, freed + seconds - time.monotonic()))
        found[seconds] = 100 * (full - own_mb(pid)) / (full - before)
    sessions.wait()
    return found


def squeezed(bench, table):
    """M4: an idle session that has used much, squeezed, beside a clone that has used nothing."""
    after, fresh, took = [], [], []
    with bench.daemon(*CROWDED) as served, served.client() as client:
        for _ in range(bench.sizes["returns"]):
            fresh.append(idle_mb(served, client, FRESH, lambda *_: None))
            after.append(idle_mb(served, client, IDLE, lambda vm: took.append(reclaim(client, vm))))
    what = "a QEMU's own memory, program idle"
    table.add("M4", what, "after a run that did nothing", fresh, "MB")
    table.add("M4", what, f"{OWN}, squeezed, after one that read 70 MB of files and used 60", after, "MB")
    table.add("M4", "memory.reclaim, until nothing more has come for 4.5 s", OWN, took)
    table.add_value("M4", what, "squeezed - fresh, medians",
                    memory.percentile(after, 50) - memory.percentile(fresh, 50), "MB", "8 MB")


def idle_mb(served, client, code, then):
    sessions = Sessions(served)
    sessions.begin("one", "python", code)
    pid = sessions.pid_of_only(client)
    say(sessions, "one", "idle")
    daemon.wait(lambda: client.call("memory.stats")["vms"][0]["policy_state"] == "idle", "the policy calls it idle", 30)
    then(client.call("vm.list")["vms"][0]["vm"])
    daemon.select_nothing(1)
    found = own_mb(pid)
    os.kill(pid, 9)
    sessions.wait()
    client.wait_no_vms()
    return found


def reclaim(client, vm):
    started = time.monotonic()
    client.call("memory.reclaim", vm=vm, bytes=SIZE_MB << 20)
    return (time.monotonic() - started) * 1000


# --- M5: many sessions on little ---

TURN = """
import hashlib, os, sys, time
index, count, rounds, turn, begin = {index}, {count}, {rounds}, {turn}, {begin!r}
noise = hashlib.shake_128(b"%d" % index).digest(12 << 18)
kept = b"".join(noise[i:i + 1024] * 2 + bytes(2048) for i in range(0, len(noise), 1024))
digest = hashlib.sha256(kept).hexdigest()
def touch():
    scratch = bytearray(60 << 20)
    for at in range(0, len(scratch), 4096):
        scratch[at:at + 8] = at.to_bytes(8, "little")
    left = 90 << 20
    for root, _, names in os.walk("/usr"):
        for name in names:
            try:
                with open(os.path.join(root, name), "rb", buffering=0) as file:
                    while left > 0 and (chunk := file.read(1 << 16)):
                        left -= len(chunk)
            except OSError:
                pass
        if left <= 0:
            break
    for at in range(0, len(scratch), 4096):
        if scratch[at:at + 8] != at.to_bytes(8, "little"):
            sys.exit("scratch memory has changed")
for k in range(rounds):
    time.sleep(max(0, begin + (k * count + index) * turn - time.time()))
    started = time.monotonic()
    touch()
    print("%.0f" % ((time.monotonic() - started) * 1000), flush=True)
time.sleep(max(0, begin + rounds * count * turn - time.time()))
if hashlib.sha256(kept).hexdigest() != digest:
    sys.exit("the data has changed")
"""


def regime_daemon(bench, regime, settings):
    """The daemon of one regime; without a balloon its clones and templates are others, in a store of their own."""
    if regime != "no balloon":
        return bench.daemon(*CROWDED, *settings)
    folder = tempfile.mkdtemp(prefix="no-balloon-", dir=os.path.dirname(bench.state))
    os.chmod(folder, 0o755)
    wrapper = os.path.join(folder, "bwrap")
    with open(wrapper, "w", encoding="ascii") as file:
        file.write(NO_BALLOON)
    os.chmod(wrapper, stat.S_IRWXU | stat.S_IRGRP | stat.S_IXGRP | stat.S_IROTH | stat.S_IXOTH)
    return daemon.Daemon(os.path.join(folder, "state"), *CROWDED, *settings, f"bubblewrap={wrapper}")


def oom_kills():
    with open("/proc/vmstat", encoding="ascii") as file:
        return next((int(line.split()[1]) for line in file if line.startswith("oom_kill ")), 0)


def in_turn(bench, table):
    """M5: sessions that each touch 150 MB when it is their turn."""
    peaks = {}
    what = f"{TURN_SESSIONS} sessions of {SIZE_MB} MiB touch 150 MB in turn"
    for regime, settings in REGIMES:
        kills = oom_kills()
        with regime_daemon(bench, regime, settings) as served, served.client() as client:
            served.wait_templates()
            sessions, sampler = Sessions(served), Sampler(served)
            sampler.start()
            begin = time.time() + TURN_FIRST
            for index in range(TURN_SESSIONS):
                sessions.begin(str(index), "python",
                               TURN.format(index=index, count=TURN_SESSIONS, rounds=bench.sizes["turns"],
                                           turn=TURN_SECONDS, begin=begin))
            sessions.wait()
            sampler.end()
            reaction, reactions = reaction_ms(client)
        subject = OWN if regime == "policy" else regime
        peaks[regime] = sampler.peak_mb()
        add_load(table, what, subject, sampler, TURN_SESSIONS, sessions, oom_kills() - kills)
        table.add("M5", f"{what}: a turn", subject,
                  [float(line) for said in sessions.said.values() for line in said.split()])
        if regime == "policy":
            table.add_value("M6", f"from the wake that finds need to the first balloon command, mean of {reactions:.0f}",
                            OWN, reaction, "ms", "250 ms")
    for regime in ("reporting only", "no balloon"):
        table.add_value("M5", f"{what}: peak memory", f"{regime} / {OWN}", peaks[regime] / peaks["policy"])


def add_load(table, what, subject, sampler, count, sessions, kills):
    lost = sessions.lost()
    table.add_value("M5", f"{what}: peak of all QEMUs' own memory", subject, sampler.peak_mb(), "MB")
    table.add_value("M5", f"{what}: sizes / that peak", subject, count * SIZE_MB / sampler.peak_mb(), "x",
                    "8 x" if subject == OWN else "")
    table.add_value("M5", f"{what}: runs lost; kills by the host's kernel", subject,
                    f"{len(lost)} of {count}{' (' + ', '.join(lost) + ')' if lost else ''}; {kills}", goal="0; 0")


def reaction_ms(client):
    """Mean of all reactions: from a wake that finds need to its first command."""
    values = dict(line.rsplit(" ", 1) for line in client.call("metrics")["text"].splitlines()
                  if line.startswith("execsandbox_memory_reaction_seconds_"))
    count = float(values["execsandbox_memory_reaction_seconds_count"])
    return 1000 * float(values["execsandbox_memory_reaction_seconds_sum"]) / max(1, count), count


MIXED = {
    "python": """
import hashlib, os, random, time
noise = hashlib.shake_128().digest(4 << 18)
kept = b"".join(noise[i:i + 1024] * 2 + bytes(2048) for i in range(0, len(noise), 1024))
digest = hashlib.sha256(kept).hexdigest()
ends = time.time() + {seconds}
while time.time() < ends:
    scratch = bytearray(random.randrange(5, 60) << 20)
    scratch[::4096] = b"x" * len(scratch[::4096])
    del scratch
    time.sleep(random.uniform(8, 30))
assert hashlib.sha256(kept).hexdigest() == digest
""",
    "javascript": """
const kept = new Uint8Array(4 << 20).map((_, i) => (i * 7) & 63), digest = Bun.hash(kept)
const ends = Date.now() + {seconds} * 1000
while (Date.now() < ends) {{
  new Uint8Array((5 + Math.random() * 40) << 20).fill(1)
  Bun.gc(true)
  await Bun.sleep(8000 + Math.random() * 22000)
}}
if (Bun.hash(kept) !== digest) process.exit(1)
""",
    "shell": """
head -c 4000000 /dev/zero | tr '\\0' 'x' >/tmp/kept; digest=$(sha256sum </tmp/kept)
ends=$(($(date +%s) + {seconds}))
while [ "$(date +%s)" -lt "$ends" ]; do
  data=$(head -c $((RANDOM * 600)) /dev/zero | tr '\\0' y); unset data; sleep $((8 + RANDOM % 22))
done
[ "$(sha256sum </tmp/kept)" = "$digest" ]
""",
}


def mixed(bench, table):
    """M5: all languages, mostly idle, at random."""
    kills, seconds, chosen = oom_kills(), bench.sizes["mixed"], random.Random(5)
    with bench.daemon(*CROWDED, f"memory_budget_mb={BUDGET_MB}") as served:
        served.wait_templates()
        sessions, sampler = Sessions(served), Sampler(served)
        sampler.start()
        for index in range(MIXED_SESSIONS):
            language = chosen.choices(("python", "javascript", "shell"), (4, 2, 4))[0]
            sessions.begin(f"{index} {language}", language, MIXED[language].format(seconds=seconds))
        sessions.wait()
        sampler.end()
    add_load(table, f"{MIXED_SESSIONS} sessions of {SIZE_MB} MiB in {BUDGET_MB} MiB, all languages, mostly idle, "
             f"{seconds} s", OWN, sampler, MIXED_SESSIONS, sessions, oom_kills() - kills)


# --- M9, and the price ---

HUNGRY = {
    "240 MB of touched pages": """
blocks = [bytearray(10 << 20) for _ in range(24)]
for block in blocks:
    block[::4096] = b"x" * len(block[::4096])
print(1)
""",
    "1.3 x MemAvailable of touched pages": """
lines = open("/proc/meminfo").read().splitlines()
available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")) * 1024
blocks = [bytearray(10 << 20) for _ in range(int(available * 1.3) // (10 << 20))]
for block in blocks:
    block[::4096] = b"x" * len(block[::4096])
print(1)
""",
}


def hungry(bench, table):
    """M9: more than the guest has."""
    with bench.daemon(*CROWDED) as served, served.client() as client:
        for what, code in HUNGRY.items():
            outcomes, times = [], []
            for _ in range(bench.sizes["returns"]):
                started = time.monotonic()
                result = client.call("run", language="python", code=code, timeout_seconds=120)
                times.append((time.monotonic() - started) * 1000)
                outcomes.append(result["status"])
            table.add_value("M9", f"a guest of {SIZE_MB} MiB allocates {what}", OWN,
                            f"{outcomes.count('ok')} of {len(outcomes)} succeed", goal="succeeds")
            table.add("M9", f"a guest of {SIZE_MB} MiB allocates {what}: run", OWN, times)


def price(bench, table):
    """M7: the daemon's processor time over many VMs, with control and without."""
    count = bench.sizes["watched"]
    for mode in ("auto", "off"):
        with bench.daemon(*memory.MANY_SETTINGS, "pool_hot=0", f"memory_control={mode}") as served, \
                served.client() as client:
            served.wait_templates()
            client.set_pool("python", count)
            started, before = time.monotonic(), served.cpu_seconds()
            daemon.select_nothing(bench.sizes["idle"])
            share = (served.cpu_seconds() - before) / (time.monotonic() - started) * 100
        table.add_value("M7", f"CPU of one core with {count} idle VMs, {bench.sizes['idle']} s",
                        f"{OWN} daemon, memory_control={mode}", share, "%", "0.5 %" if mode == "auto" else "")


def control(bench, table):
    """M3, M4, M9; then M5 with M6; then the price."""
    for measure in (given_back, squeezed, hungry, in_turn, price):
        measure(bench, table)
