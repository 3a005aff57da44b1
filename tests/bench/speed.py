# SPDX-License-Identifier: Apache-2.0
"""How fast: warm runs, runs of an empty pool, rate, bursts, starts of the daemon, templates from nothing."""
import concurrent.futures
import os
import threading
import time

import daemon
import peers

OWN = "**execsandbox**"
POOL = ("pool_python=4", "pool_javascript=2", "pool_shell=2")
# gVisor without KVM; its network stack is not what a program that prints needs.
RUNSC = ("--platform=ptrace", "--network=none")
CODE = {"python": ("/usr/bin/python3", "-c", "print(1)"), "javascript": ("/usr/bin/node", "-e", "console.log(1)"),
        "shell": ("/bin/sh", "-c", "echo 1")}
# Runs at once that keep two processors busy with clones: more only wait for each other.
RATE_CLIENTS = 6
RATE_LEAD_SECONDS = 2
BURST_RUNS, BURST_POOL = 100, 20


def goal_of(language):
    return "S1" if language == "python" else "S2"


def plain_qemu(bench):
    """The command line of a VM that boots is seen while it does."""
    with bench.daemon("templates=off") as served:
        asker = threading.Thread(target=daemon.run_once, args=(served.socket, "shell"))
        asker.start()
        command = daemon.wait(served.qemu_command, "a QEMU runs", daemon.START_SECONDS)
        asker.join()
    return peers.PlainQemu(command, daemon.IMAGES)


def make_peers(bench, table):
    """(language, name, every how many rounds, peer) of those that run here; the others go into the table."""
    wishes = [(language, f"bubblewrap + {os.path.basename(CODE[language][0])}", 1,
               lambda language=language: peers.Bubblewrap(*CODE[language])) for language in CODE]
    wishes += [(language, f"runc + {os.path.basename(CODE[language][0])}", 1,
                lambda language=language: peers.Oci("runc", *CODE[language])) for language in ("python", "shell")]
    wishes += [("python", "runsc + python3, platform ptrace", 4,
                lambda: peers.Oci("runsc", *CODE["python"], options=RUNSC)),
               ("python", "plain QEMU boot, no interpreter", 8, lambda: plain_qemu(bench))]
    made = []
    for language, name, every, make in wishes:
        try:
            made.append((language, name, every, make()))
        except peers.Unavailable as reason:
            table.add_missing(goal_of(language), f"{language}: to output", name, str(reason))
    return made


def warm(bench, table):
    """S1, S2: one run at a time, each of them once its pool is full again; peers in the same turns."""
    made = make_peers(bench, table)
    own, starts = {language: [] for language in CODE}, []
    theirs = {name: [] for _, name, _, _ in made}
    with bench.daemon(*POOL) as served, served.client() as client:
        for number in range(-1, bench.sizes["rounds"]):  # round -1 warms caches and does not count
            for language in CODE:
                client.wait_pools()
                milliseconds, result = daemon.run_once(served.socket, language)
                if number >= 0:
                    own[language].append(milliseconds)
                    starts.append(result["start"])
                client.wait_pools()  # its refill would slow them
                for theirs_of, name, every, peer in made:
                    if theirs_of == language and number >= 0 and number % every == 0:
                        theirs[name].append(peer.once())
    for _, _, _, peer in made:
        peer.close()
    add_warm(table, own, made, theirs)
    table.add_value("S1", "runs above that got a warm VM", OWN, f"{starts.count('warm')} of {len(starts)}")


def add_warm(table, own, made, theirs):
    goals = {"python": "5 / 25 ms (p50 / p99)", "javascript": "10 ms (p50)", "shell": "10 ms (p50)"}
    for language, samples in own.items():
        table.add(goal_of(language), f"{language}: to output, warm", f"{OWN} {language}", samples, goal=goals[language])
        for theirs_of, name, _, _ in made:
            if theirs_of == language:
                table.add(goal_of(language), f"{language}: to output", name, theirs[name])
    for name, wanted in (("bubblewrap + python3", "0.5"), ("runc + python3", "0.15"),
                         ("runsc + python3, platform ptrace", "0.02")):
        table.add_ratio("S1", f"{OWN} python", name, wanted)


def empty(bench, table):
    """S3: nothing is warm; with templates each run clones, without it boots."""
    samples = {}
    with bench.daemon(*daemon.NO_POOL) as cloning, bench.daemon("templates=off") as booting, \
         cloning.client() as client, booting.client() as other:
        cloning.wait_templates()
        for number in range(-1, bench.sizes["empty"]):
            for language in CODE:
                client.wait_no_vms()
                note_streamed(samples, (language, "clone"), cloning, number)
                if number % bench.sizes["boot_every"] == 0:
                    other.wait_no_vms()
                    note_streamed(samples, (language, "boot"), booting, number)
    for (language, start), (first, answer) in samples.items():
        goal = "120 ms (p50)" if start == "clone" and language != "javascript" else ""
        subject = OWN if start == "clone" else "execsandbox, templates = off"
        table.add("S3", f"{language}, empty pool: to the first output", f"{subject} {language}", first, goal=goal)
        table.add("S3", f"{language}, empty pool: to the answer", f"{subject} {language}", answer)


def note_streamed(samples, key, served, number):
    started, first, ended, result = daemon.run_streamed(served.socket, key[0])
    if result["start"] != key[1]:
        raise RuntimeError(f"a run that was to be a {key[1]} was a {result['start']}")
    if number >= 0:
        firsts, answers = samples.setdefault(key, ([], []))
        firsts.append((first - started) * 1000)
        answers.append((ended - started) * 1000)


def rate_of(once, workers, seconds):
    """(calls ended a second over `seconds` after a lead, seconds in all) of `workers` that call without a pause."""
    started = time.monotonic()
    opens = started + RATE_LEAD_SECONDS
    closes = opens + seconds

    def work():
        count = 0
        while time.monotonic() < closes:
            once()
            count += opens <= time.monotonic() < closes
        return count

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        count = sum(one.result() for one in [pool.submit(work) for _ in range(workers)])
    return count / seconds, time.monotonic() - started


def cpu_ms():
    """Milliseconds that all processors have spent in programs, and in the kernel."""
    with open("/proc/stat", encoding="ascii") as file:
        times = [int(word) * 1000 / os.sysconf("SC_CLK_TCK") for word in file.readline().split()[1:9]]
    return times[0] + times[1], times[2] + times[5] + times[6]


def rate(bench, table):
    """S4: runs in fresh VMs a second; every VM is destroyed after its run."""
    for language, size in bench.sizes["rates"]:
        pool = [f"pool_{one}={size if one == language else 0}" for one in daemon.LANGUAGES]
        with bench.daemon(*pool) as served:
            served.wait_templates()
            before = cpu_ms()
            found, seconds = rate_of(lambda: daemon.run_once(served.socket, language), RATE_CLIENTS,
                                     bench.sizes["rate"])
            used = [now - old for now, old in zip(cpu_ms(), before)]
        subject = f"{OWN} {language}, pool of {size}, {RATE_CLIENTS} clients"
        table.add_value("S4", f"fresh VMs made, used and destroyed a second, {bench.sizes['rate']} s", subject, found,
                        "/s", "12 /s")
        table.add_value("S4", "CPU of the whole machine per VM: user / kernel", subject,
                        " / ".join(f"{one / (found * seconds):.0f} ms" for one in used))
    for name, make in (("bubblewrap + python3", lambda: peers.Bubblewrap(*CODE["python"])),
                       ("runc + python3", lambda: peers.Oci("runc", *CODE["python"]))):
        try:
            peer = make()
        except peers.Unavailable as reason:
            table.add_missing("S4", "started, used and ended a second", name, str(reason))
            continue
        found, _ = rate_of(peer.once, os.cpu_count(), bench.sizes["peer_rate"])
        peer.close()
        table.add_value("S4", f"started, used and ended a second, {bench.sizes['peer_rate']} s",
                        f"{name}, {os.cpu_count()} at once", found, "/s")


def burst_of(once):
    """(seconds until all are answered, milliseconds of each); a failure is raised."""
    started = time.monotonic()

    def one(_):
        once()
        return (time.monotonic() - started) * 1000

    with concurrent.futures.ThreadPoolExecutor(BURST_RUNS) as pool:
        samples = list(pool.map(one, range(BURST_RUNS)))
    return time.monotonic() - started, samples


def burst(bench, table):
    """S6: all at once; each sample is from the burst's start to that run's answer."""
    totals, samples = [], []
    with bench.daemon(f"pool_python={BURST_POOL}", f"pool_hot={BURST_POOL}", "pool_javascript=0",
                      "pool_shell=0") as served, served.client() as client:
        for _ in range(bench.sizes["bursts"]):
            client.wait_pools(BURST_POOL)
            seconds, found = burst_of(lambda: daemon.run_once(served.socket, "python"))
            totals.append(seconds)
            samples += found
    what = f"{BURST_RUNS} Python runs at once"
    table.add("S6", f"{what}: until all are answered", f"{OWN}, pool of {BURST_POOL}", totals, "s", "12 s")
    table.add("S6", f"{what}: each", f"{OWN}, pool of {BURST_POOL}", samples)
    table.add_value("S6", f"{what}: answered", OWN, f"{len(samples)} of {BURST_RUNS * len(totals)}", goal="all")
    try:
        peer = peers.Bubblewrap(*CODE["python"])
        table.add("S6", f"{what}: until all are done", "bubblewrap + python3", [burst_of(peer.once)[0]], "s")
    except peers.Unavailable as reason:
        table.add_missing("S6", f"{what}: until all are done", "bubblewrap + python3", str(reason))


def start(bench, table):
    """S8: the daemon's own start; its templates are on disk and in the page cache."""
    ready, template, answer = [], [], []
    for _ in range(bench.sizes["starts"]):
        with bench.daemon(*POOL, "log_level=debug") as served:
            daemon.run_once(served.socket, "python")
            answer.append((time.monotonic() - served.started) * 1000)
            ready.append(served.ready_ms)
            loaded = served.wait_line("template: python-256: loading -> ready")
            template.append((loaded - served.started) * 1000)
    table.add("S8", "daemon, templates on disk: to READY=1", OWN, ready, goal="500 ms")
    table.add("S8", "daemon, templates on disk: to the first template ready", OWN, template)
    table.add("S8", "daemon, templates on disk: to the answer of a Python run sent at READY=1", OWN, answer)


def template_build(bench, table):
    """S9: the image is there, no template is."""
    samples, parts = [], {"boot": [], "rehearsal": [], "save": [], "seal": []}
    with bench.daemon(*daemon.NO_POOL) as served, served.client() as client:
        served.wait_templates()
        for _ in range(bench.sizes["builds"]):
            started = time.monotonic()
            built = client.call("template.build", language="python")
            samples.append((time.monotonic() - started) * 1000)
            for part, found in parts.items():
                found.append(built["build"][f"{part}_ms"])
    table.add("S9", "Python template from nothing: until clones can be made", OWN, samples, goal="5,000 ms")
    for part, found in parts.items():
        table.add("S9", f"of it {part}", OWN, found)


# --- Where the time goes: lines of the daemon's debug log, each of the run's own VM, in order. ---

# (name, pattern): from the moment before to that line. No name: only the moment counts. No pattern:
# the moment of the request.
END_PARTS = [
    ("EXEC sent to the end of the run: interpreter, program, agent", "Run running -> done"),
    ("end to its QEMU gone, behind the answer", "stopping -> gone"),
]
WARM_PARTS = [("request to `cont` and EXEC sent", "Run waiting -> running"), *END_PARTS]
LOADED_PARTS = [
    ("", "Process .*starting -> running"),
    ("before the request: QEMU's process to its greeting", "QMP: greeting -> negotiating"),
    ("before the request: greeting to restored", "starting -> loaded"),
    ("", None),
    ("request to woken", "loaded -> starting"),
    ("woken to ready: `cont`, HELLO, reseed, identity", "starting -> ready"),
    ("ready to EXEC sent", "Run waiting -> running"), *END_PARTS,
]
CLONE_PARTS = [
    ("request to the jail and QEMU spawned", "Process .*starting -> running"),
    ("QEMU's process to its greeting", "QMP: greeting -> negotiating"),
    ("greeting to ready: state, `cont`, HELLO, reseed, identity", "starting -> ready"),
    ("ready to EXEC sent", "Run waiting -> running"), *END_PARTS,
]
SPLITS = [("rehearsed spare", POOL, daemon.HOT, WARM_PARTS),
          ("loaded spare", ("pool_hot=0", "pool_python=1", "pool_javascript=0", "pool_shell=1"), 0, LOADED_PARTS),
          ("empty pool", daemon.NO_POOL, 0, CLONE_PARTS)]


def split(bench, table):
    for start_name, settings, hot, parts in SPLITS:
        with bench.daemon(*settings, "log_level=debug") as served, served.client() as client:
            served.wait_templates()
            for language in ("python", "shell"):
                for name, samples in split_runs(bench, served, client, language, hot, parts).items():
                    table.add("split", f"{language}, {start_name}", name, samples)


def split_runs(bench, served, client, language, hot, parts):
    found = {name: [] for name, _ in parts if name}
    outside = found["first output to the answer, at the client"] = []
    for number in range(-1, bench.sizes["split"]):
        client.wait_pools(hot)
        started, output, ended, result = daemon.run_streamed(served.socket, language)
        at = started
        for name, words in parts:
            when = served.wait_line(f"^{result['vm']}: (.*: )?{words}") if words else started
            if number >= 0 and name:
                found[name].append((when - at) * 1000)
            at = when
        if number >= 0:
            outside.append((ended - output) * 1000)
    return found
