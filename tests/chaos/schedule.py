# SPDX-License-Identifier: Apache-2.0
"""What is done to the daemon, and when: drawn from the seed alone, so that a seed gives the same schedule again."""

import collections
import random

# How often each comes, to one another. R1 counts the kills: all but those that only last a while.
WEIGHTS = {"daemon": 30, "qemu": 30, "client": 18, "agent": 4, "garbage": 2, "launcher": 5, "wrapper": 3,
           "clock": 3, "stop": 8, "handover": 4, "disk": 2, "runtime": 1, "descriptors": 2, "memory": 1}
KILLS = ("daemon", "qemu", "client", "agent", "garbage", "launcher", "wrapper")
GAP_SECONDS, GAP_MAX_SECONDS = 0.6, 3
# Now and then the next comes at once: into a start, an adoption, an end.
AT_ONCE = 0.15
LENGTH_SECONDS = (0.2, 2.0)

Step = collections.namedtuple("Step", "gap kind pick length")


def schedule(seed, weights=None, gap=GAP_SECONDS):
    """Steps without end: (seconds to wait, kind, 0..1 to pick whom, seconds it lasts). Each kind comes once before chance has it."""
    rng = random.Random(f"{seed}/schedule")
    weights = weights or WEIGHTS
    opening = rng.sample(list(weights), len(weights))
    while True:
        kind = opening.pop() if opening else rng.choices(list(weights), list(weights.values()))[0]
        pause = rng.uniform(0, 0.05) if rng.random() < AT_ONCE else min(GAP_MAX_SECONDS, rng.expovariate(1 / gap))
        yield Step(pause, kind, rng.random(), rng.uniform(*LENGTH_SECONDS))
