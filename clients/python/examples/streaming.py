#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Output as it comes, and a program that is stopped when enough was seen."""

import sys

from execsandbox import Sandbox

COUNT = "i=0; while true; do echo $((i += 1)); sleep 0.05; done"


class Enough(Exception):
    """Whatever a callback raises stops the program and is raised by run()."""


def show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
    if "5\n" in text:
        raise Enough


with Sandbox() as sandbox:
    sandbox.run("for i in 3 2 1; do echo $i; sleep 0.1; done; echo lift-off >&2", "shell",
                on_stdout=show, on_stderr=show)
    try:
        sandbox.run(COUNT, "shell", on_stdout=show)
    except Enough:
        print("stopped")
