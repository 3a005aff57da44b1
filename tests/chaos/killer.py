# SPDX-License-Identifier: Apache-2.0
"""Does to the daemon, its VMs and its clients what the schedule says.

Each function is one kind of fault; it takes (world, step), notes in the history what it does before it does it, and returns
False when there was nobody to do it to. Those that last a while are undone by a timer, and all at the end by undo_all().
An agent is killed, or speaks garbage, by its own images' lie (tests/fake/agent); when it ends, so does the guest, whose PID 1 it is.
The wall clock jumps for the daemon alone (tests/fake/clock): no time namespace has a CLOCK_REALTIME of its own.
"""

import contextlib
import os
import signal
import subprocess
import threading

from client import Client, Closed, RpcError
from host import wait
from processes import Process
from schedule import KILLS

# The agent looks for its lies when it reports its memory, every 2 s, and the panic takes a moment under TCG.
AGENT_SECONDS = 10
# The first of each kind waits so long for somebody to be done to.
MEET_SECONDS = 20
# Descriptors and memory that are left to a daemon which has run out of them.
FEW_DESCRIPTORS, LITTLE_MEMORY = 3, 2 << 20
# As often it is the launcher that has run out of them.
LAUNCHER_SHARE = 0.3
TELL_SECONDS = 20
DAY = 24 * 3600
LIMITS = {"nofile": "Max open files", "as": "Max address space"}  # prlimit(1) and /proc/PID/limits


def choose(items, pick):
    return items[int(pick * len(items))] if items else None


def kill_daemon(world, _):
    return world.supervisor.kill()


def hand_over(world, _):
    return world.supervisor.hand_over()


def kill_vm(world, step, kind="qemu", number=signal.SIGKILL, seconds=0):
    """One signal to one QEMU. A VM that is dying already may be hit: that is what VM ids are for."""
    victims = world.host.vm_processes(is_wrapper=kind == "wrapper")
    victim = choose(sorted(victims, key=lambda one: one.pid), step.pick)
    if not victim:
        return False
    fault = world.history.fault("stop" if kind == "stop" else "qemu", victim.vm(), f"{kind} {victim.pid}")
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, number)
    if kind == "stop":
        world.undo_later(fault, seconds, lambda: go_on(victim))
    else:
        fault.ended = world.history.now()
    return True


def go_on(victim):
    with contextlib.suppress(ProcessLookupError):
        os.kill(victim.pid, signal.SIGCONT)


def kill_wrapper(world, step):
    return kill_vm(world, step, "wrapper")


def stop_vm(world, step):
    return kill_vm(world, step, "stop", signal.SIGSTOP, step.length)


def kill_agent(world, step, kind="agent", lie="lies-dead"):
    """Of one whose session lives. The first of a run must be seen to have reached its guest."""
    session = choose(world.history.living_sessions(), step.pick)
    if not session:
        return False
    is_first = not any(fault.kind == kind and fault.told is not None for fault in world.history.faults)
    fault = world.history.fault(kind, session.vm, f"of {session.name}", TELL_SECONDS + AGENT_SECONDS)
    teller = threading.Thread(target=tell_agent, args=(world, session, lie, fault), daemon=True)
    teller.start()
    if is_first:
        teller.join()
    return not is_first or fault.told is not None


def speak_garbage(world, step):
    return kill_agent(world, step, "garbage", "lies-garbage")


def tell_agent(world, session, lie, fault):
    """Who is not answered may have told it all the same."""
    with contextlib.suppress(Closed, OSError, RpcError, TimeoutError):
        with Client(world.socket, TELL_SECONDS) as client:
            client.call("file.write", session=session.name, path=lie, data="")
            fault.told = world.history.now()
    fault.ended = world.history.now() + AGENT_SECONDS


def kill_launcher(world, _):
    pid = world.host.launcher()
    if not pid:
        return False
    fault = world.history.fault("launcher", detail=f"pid {pid}")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    fault.ended = world.history.now()
    return True


def kill_client(world, step):
    with world.lock:
        victim = choose(sorted(world.programs, key=lambda one: one.pid), step.pick)
        if not victim:
            return False
        world.history.fault("client", detail=f"pid {victim.pid}", seconds=0)
        victim.kill()
    return True


def fill(world, step, name, kind="disk"):
    """Its file system is full for a while."""
    path = os.path.join(world.supervisor.directory, name, f"chaos-{len(world.history.faults)}")
    fault = world.history.fault(kind, detail=name)
    with contextlib.suppress(OSError), open(path, "ab", buffering=0) as file:
        while True:
            file.write(bytes(1 << 20))
    world.undo_later(fault, step.length, lambda: os.unlink(path))
    return True


def fill_state(world, step):
    return fill(world, step, "state")


def fill_runtime(world, step):
    return fill(world, step, "run", "runtime")


def limit(world, step, kind, which, soft):
    """A lower limit of the daemon for a while, or of its launcher. One that takes its place meanwhile has none, but a launcher that
    the limited daemon has started: that one inherits it."""
    if not world.supervisor.is_serving.is_set():
        return False
    is_launcher = step.pick < LAUNCHER_SHARE
    with world.supervisor.lock:
        pid = world.host.launcher() if is_launcher else world.supervisor.process.pid
        if not pid or not is_launcher and world.supervisor.process.returncode is not None:
            return False
        victim = Process(pid)
        before = soft_limit(pid, which)
        fault = world.history.fault(kind, detail="launcher" if is_launcher else "daemon")
        lowered = str(soft(pid))
        set_limit(pid, which, lowered)

    def undo():
        # It may have ended, and its pid be another's.
        with world.supervisor.lock, contextlib.suppress(OSError, subprocess.CalledProcessError):
            if Process(pid).start == victim.start:
                set_limit(pid, which, before)
        with world.supervisor.lock, contextlib.suppress(OSError, subprocess.CalledProcessError):
            heir = world.host.launcher()
            if heir and soft_limit(heir, which) == lowered:
                set_limit(heir, which, before)

    world.undo_later(fault, step.length, undo)
    return True


def soft_limit(pid, which):
    with open(f"/proc/{pid}/limits", encoding="ascii") as file:
        return next(line[len(LIMITS[which]):].split()[0] for line in file if line.startswith(LIMITS[which]))


def set_limit(pid, which, soft):
    """As the daemon's user: root needs CAP_SYS_RESOURCE for others, which a container has not."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as file:
        ids = {line.split()[0]: int(line.split()[1]) for line in file if line.startswith(("Uid:", "Gid:"))}
    subprocess.run(["prlimit", f"--{which}={soft}:", "--pid", str(pid)], user=ids["Uid:"], group=ids["Gid:"],
                   extra_groups=[], check=True)


def take_descriptors(world, step):
    return limit(world, step, "descriptors", "nofile",
                 lambda pid: len(os.listdir(f"/proc/{pid}/fd")) + FEW_DESCRIPTORS)


def take_memory(world, step):
    return limit(world, step, "memory", "as", lambda pid: address_space(pid) + LITTLE_MEMORY)


def jump(world, step):
    """Nothing that the daemon promises hangs on the wall clock: this explains no error. Three days either way."""
    world.history.fault("clock", seconds=0)
    world.supervisor.clock.set(int((2 * step.pick - 1) * 3 * DAY))
    return True


def address_space(pid):
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")


FAULTS = {"daemon": kill_daemon, "handover": hand_over, "qemu": kill_vm, "client": kill_client, "agent": kill_agent, "garbage": speak_garbage, "launcher": kill_launcher,
          "wrapper": kill_wrapper, "clock": jump, "stop": stop_vm, "disk": fill_state, "runtime": fill_runtime,
          "descriptors": take_descriptors, "memory": take_memory}


def act(world, step):
    try:
        return FAULTS[step.kind](world, step)
    except (OSError, ValueError, subprocess.SubprocessError) as problem:
        world.history.note(f"the killer failed at {step.kind}: {problem}")
        return False


def kill_all(world, steps, kinds, kills, seconds, counts):
    """Plays the schedule, its opening with each of the kinds, until `kills` of its kills have met somebody, or `seconds` behind the
    opening; `counts` has each kind."""
    timer = threading.Timer(seconds, world.is_over.set)
    timer.daemon = True
    for number, step in enumerate(steps):
        if number == len(kinds):
            timer.start()
        has_killed = sum(counts[kind] for kind in KILLS) >= kills
        if has_killed and number >= len(kinds) or world.is_over.wait(step.gap):
            return
        patience = 0 if counts[step.kind] else MEET_SECONDS
        found = wait(lambda step=step: world.is_over.is_set() or act(world, step), patience) and not world.is_over.is_set()
        counts[step.kind if found else f"({step.kind}: nobody there)"] += 1
