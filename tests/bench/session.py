# SPDX-License-Identifier: Apache-2.0
"""S5: a program in a session that is there."""

import time

import daemon

OWN = "**execsandbox**"

PROGRAMS = (
    ("python", "code in its interpreter", {"code": "1"}, "1\n"),
    ("python", "a command", {"command": "echo 1"}, "1\n"),
    ("javascript", "code in its interpreter", {"code": "1"}, "1\n"),
    ("shell", "code in its interpreter", {"code": "echo 1"}, "1\n"),
    ("shell", "a command", {"command": "echo 1"}, "1\n"),
)
# Behind a program the guest starts the next one's bash: who thinks that long finds it waiting.
THINK_SECONDS = 0.7


def exec_once(client, session, program, expected):
    started = time.monotonic()
    result = client.call("session.exec", session=session, **program)
    if result["stdout"] != expected:
        raise RuntimeError(f"session.exec: {result}")
    return (time.monotonic() - started) * 1000


def session(bench, table):
    """S5: the first program, then one after another with a pause for thought."""
    with bench.daemon() as served, served.client() as client:
        served.wait_templates()
        for language, what, program, expected in PROGRAMS:
            client.wait_pools()
            started = time.monotonic()
            made = client.call("session.create", language=language)["session"]
            table.add("S5", f"{language} session: session.create", OWN, [(time.monotonic() - started) * 1000])
            table.add("S5", f"{language} session: {what}, the first", OWN,
                      [exec_once(client, made, program, expected)])
            samples = []
            for _ in range(bench.sizes["execs"]):
                daemon.select_nothing(THINK_SECONDS)
                samples.append(exec_once(client, made, program, expected))
            table.add("S5", f"{language} session: {what}", OWN, samples, "ms",
                      "3 ms / 10 ms (p50 / p99)" if "code" in program else "")
            client.call("session.close", session=made)
