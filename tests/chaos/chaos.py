#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Kills the daemon, its VMs, their agents and its clients while many use them, and checks that each gets what it was promised.

    tests/chaos/chaos.py [--kills N] [--seed S] [--only KIND,…] [--no-adopt]

Needs root, for the jail and for file systems that can be filled. The schedule of faults and what each client does come from the
seed, which is printed; who is hit depends on the moment. What is wrong is printed with the life of its request. The closing line
is "N passed, N failed", N being what the checker has looked at.
"""

import argparse
import collections
import os
import random
import shutil
import signal
import sys
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "acceptance"))
sys.path.insert(0, HERE)

import keepers  # noqa: E402  (the path is set above)
import killer  # noqa: E402
import programs  # noqa: E402
import runners  # noqa: E402
import worth  # noqa: E402
from history import CLOSED, History, SILENT  # noqa: E402
from promises import Promises, check  # noqa: E402
from schedule import GAP_SECONDS, KILLS, WEIGHTS, schedule  # noqa: E402
from supervisor import Supervisor  # noqa: E402

CUSTOMERS = ((keepers.Keeper, 4), (runners.Runner, 2), (runners.Claimer, 3), (runners.Slow, 1), (runners.Impatient, 1),
             (runners.Vanisher, 1), (runners.Rude, 1), (programs.Program, 2))
# For what is under way when the killing ends, and the last looks.
FINISH_SECONDS = 240
SERVE_SECONDS = 60
SHOWN_MAX = 4  # of each rule


class World:
    """What clients and the killer share."""

    def __init__(self, seed, history, supervisor, ctl):
        self.seed, self.history, self.supervisor, self.ctl = seed, history, supervisor, os.path.abspath(ctl)
        self.host, self.socket = supervisor.host, supervisor.socket
        self.is_over = threading.Event()
        self.lock = threading.Lock()
        self.programs = []  # clients that are processes
        self.undoing = {}  # timers of faults that last

    def serves(self):
        """Waits for a daemon."""
        self.supervisor.is_serving.wait(SERVE_SECONDS)

    def undo_later(self, fault, seconds, undo):
        def act():
            with self.lock:
                if self.undoing.pop(id(fault), None):
                    undo()
                    fault.ended = self.history.now()

        with self.lock:
            self.undoing[id(fault)] = act
        timer = threading.Timer(seconds, act)
        timer.daemon = True
        timer.start()

    def undo_all(self):
        with self.lock:
            waiting = list(self.undoing.values())
        for act in waiting:
            act()


def play(world, customers, options, counts):
    for customer in customers:
        customer.start()
    try:
        killer.kill_all(world, schedule(world.seed, options.weights, options.gap), options.weights, options.kills, options.seconds,
                        counts)
    finally:
        world.undo_all()
        world.is_over.set()
    deadline = time.monotonic() + FINISH_SECONDS
    for customer in customers:
        customer.join(max(0, deadline - time.monotonic()))
        if customer.is_alive():
            world.history.note(f"{customer.name} has not come to its end")


def outcome(request):
    answer = request.final() or (request.answers[-1] if request.answers else None)
    if answer is None:
        return "nothing sent"
    if answer.code:
        return f"error {answer.code}" + (f" ({answer.reason})" if answer.reason else "")
    return answer.kind or SILENT


def summary(history, counts, out):
    counted = collections.Counter((request.method, outcome(request)) for request in history.requests)
    lost = collections.Counter(answer.kind for request in history.requests for answer in request.answers)
    print("kills: " + ", ".join(f"{kind} {number}" for kind, number in sorted(counts.items())), file=out)
    for method in sorted({method for method, _ in counted}):
        row = ", ".join(f"{what} {number}" for (name, what), number in sorted(counted.items()) if name == method)
        print(f"{method}: {row}", file=out)
    print(f"connections that a daemon took with it: {lost[CLOSED]}", file=out)
    backs = sorted(life.back - life.since for life in history.lives[1:] if life.back is not None)
    reaped = sorted(life.reaped - life.since for life in history.lives if life.reaped is not None)
    for what, times in (("back", backs), ("back, all adopted, the rest reaped", reaped)):
        if times:
            print(f"{what}: {len(times)} times, p50 {times[len(times) // 2]:.3f} s, max {times[-1]:.3f} s", file=out)


def report(history, findings, out):
    bad = [finding for finding in findings if finding.problem]
    shown = collections.Counter()
    for finding in bad:
        shown[finding.rule] += 1
        if shown[finding.rule] > SHOWN_MAX:
            continue
        print(f"\nVIOLATED [{finding.rule}] {finding.subject}: {finding.problem}", file=out)
        if finding.request:
            print(history.tell(finding.request), file=out)
    for rule, number in shown.items():
        print(f"\n[{rule}] is violated {number} times{' (not all are shown)' if number > SHOWN_MAX else ''}", file=out)
    return len(findings) - len(bad), len(bad)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--build", default="build")
    parser.add_argument("--images", default="build/tests/lying-images", help="whose agent ends when it is told to")
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", metavar="KIND,…", help=f"some of {', '.join(WEIGHTS)}, each as often as another")
    parser.add_argument("--gap", type=float, default=GAP_SECONDS, help="mean seconds between faults")
    parser.add_argument("--seconds", type=float, default=7200, help="after the opening, in which each kind is played; then no more is killed")
    parser.add_argument("--at-least", metavar="N", type=int, help="kills without which the run has failed (all of them)")
    parser.add_argument("--no-adopt", action="store_true", help="a build whose sessions and results end with the daemon")
    parser.add_argument("--back-seconds", type=float, default=1.0, help="in which a daemon must be back, and have adopted")
    parser.add_argument("--templates", metavar="DIR", help="where templates are kept from one run to the next")
    parser.add_argument("--keep", metavar="FILE", help="where to leave the daemon's log")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="configuration of the daemon")
    options = parser.parse_args()
    if options.at_least is None:
        options.at_least = options.kills
    options.weights = {kind: 1 for kind in options.only.split(",")} if options.only else dict(WEIGHTS)
    if unknown := set(options.weights) - set(WEIGHTS):
        parser.error(f"no such kind: {', '.join(sorted(unknown))}")
    if not set(options.weights) & set(KILLS):
        parser.error(f"a run ends with its kills: one of {', '.join(KILLS)}")
    if options.no_adopt:
        options.weights.pop("handover", None)
    if os.geteuid() != 0:
        parser.error("needs root: the jail, file systems that can be filled")
    return options


def main():
    options = parse()
    # Whoever ends this early shall find nothing left either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    seed = random.SystemRandom().randrange(1 << 32) if options.seed is None else options.seed
    print(f"seed {seed}: CHAOS_SEED={seed} CHAOS_KILLS={options.kills} make chaos", flush=True)
    promises = Promises(not options.no_adopt, options.back_seconds)
    history, counts = History(), collections.Counter()
    supervisor = Supervisor(history, f"{options.build}/daemon/execsandboxd",
                            f"{options.build}/tests/fake/clock_jump.so", options.images, promises, options.set, options.templates)
    world = World(seed, history, supervisor, f"{options.build}/ctl/execsandboxctl")
    customers = [kind(world, number) for kind, count in CUSTOMERS for number in range(count)]
    try:
        supervisor.start()
        play(world, customers, options, counts)
        supervisor.calm_down()
        supervisor.stop()
    finally:
        world.is_over.set()
        supervisor.end()
        if options.keep:
            shutil.copy(supervisor.log_path, options.keep)
        supervisor.remove()
    findings = check(history, promises) + list(worth.check(history, counts, options.weights, options.at_least, not options.only))
    passed, failed = report(history, findings, sys.stdout)
    print()
    summary(history, counts, sys.stdout)
    print(f"seed {seed}\n{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
