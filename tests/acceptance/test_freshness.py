# SPDX-License-Identifier: Apache-2.0
"""Clones of one template differ: entropy, random numbers of every language, names, clock."""

import concurrent.futures
import json
import time

from support import DaemonTest, connect, exclusive

# 200 clones in all; JavaScript's take the longest to start.
CLONES = {"python": 80, "shell": 80, "javascript": 40}
CLIENTS = 4
CLOCK_SECONDS = 0.05

PROGRAMS = {
    "python": """
import json, os, random, secrets, socket, tempfile, time, uuid
now = time.time()
print(json.dumps({
    "clock": now, "getrandom": os.getrandom(16).hex(), "uuid4": str(uuid.uuid4()),
    "random": random.random(), "secrets": secrets.token_hex(8), "hostname": socket.gethostname(),
    "machine_id": open("/etc/machine-id").read(), "boot_file": open("/etc/hostname").read(),
    "tempfile": tempfile.mktemp(), "hosts": open("/etc/hosts").read(),
}))
""",
    "shell": """
now=$EPOCHREALTIME
read -r machine_id </etc/machine-id
read -r uuid </proc/sys/kernel/random/uuid
urandom=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \\n')
printf '{"clock": %s, "RANDOM": "%s", "SRANDOM": "%s", "urandom": "%s", "uuid": "%s", "hostname": "%s", "machine_id": "%s"}\\n' \\
    "$now" "$RANDOM-$RANDOM-$RANDOM-$RANDOM" "$SRANDOM" "$urandom" "$uuid" "$HOSTNAME" "$machine_id"
""",
    "javascript": """
const now = Date.now() / 1000;
const fs = require("node:fs"), os = require("node:os"), crypto = require("node:crypto");
console.log(JSON.stringify({
    clock: now, mathRandom: Math.random(), randomUUID: globalThis.crypto.randomUUID(),
    getRandomValues: globalThis.crypto.getRandomValues(new Uint8Array(16)).join("-"),
    randomBytes: crypto.randomBytes(16).toString("hex"), hostname: os.hostname(),
    machine_id: fs.readFileSync("/etc/machine-id", "utf8"),
}));
""",
}


def run_clone(language):
    """(what the program printed, the result, when the host's clock was before and after)."""
    client = connect()
    try:
        before = time.time()
        result = client.call("run", language=language, code=PROGRAMS[language], timeout_seconds=100)
        return json.loads(result["stdout"]), result, before, time.time()
    finally:
        client.close()


@exclusive
class Freshness(DaemonTest):
    def test_200_clones(self):
        """200 clones in three languages: no random number, name or id twice; clocks within 50 ms."""
        wanted = [language for language, count in CLONES.items() for _ in range(count)]
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            answers = list(pool.map(run_clone, wanted))
        seen, vms = {}, set()
        for printed, result, before, after in answers:
            self.assertIn(result["start"], ("warm", "clone"), result)
            vms.add(result["vm"])
            clock = printed.pop("clock")
            self.assertGreater(clock, before - CLOCK_SECONDS)
            self.assertLess(clock, after + CLOCK_SECONDS)
            # Of all languages together: their templates have no more in common than clones have.
            for name, value in printed.items():
                values = seen.setdefault(name, set())
                self.assertNotIn(value, values, f"{name} of two clones")
                values.add(value)
        self.assertEqual(len(vms), len(wanted))
        self.assertEqual(len(seen["machine_id"]), len(wanted))
        self.assertEqual(len(seen["hostname"]), len(wanted))
