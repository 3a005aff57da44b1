#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Programs that end well and badly: a result says which, an error means that nothing has run."""

from execsandbox import Sandbox
from execsandbox.errors import LanguageUnknownError

PROGRAM = """
import os, sys
numbers = [int(word) for word in sys.stdin.read().split()]
print(os.environ["GREETING"], sys.argv[1], sum(numbers))
"""

with Sandbox() as sandbox:
    result = sandbox.run(PROGRAM, args=["sum"], stdin="1 2 39", env={"GREETING": "hello"})
    print(result.status, result.stdout, end="")

    result = sandbox.run("console.log([3, 1, 2].sort())", "javascript", limits={"memory_mb": 128})
    print(result.status, result.stdout, end="")

    result = sandbox.run("1 / 0")
    print(result.status, result.exit_code, result.error.name if result.error else "")

    result = sandbox.run("while true; do :; done", "shell", timeout_seconds=0.5)
    print(result.status, result.exit_code)

    try:
        sandbox.run("DISPLAY 'HELLO'.", "cobol")
    except LanguageUnknownError as error:
        print(error.name, error.data["known"])
