#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A VM that is kept: files stay from one program to the next."""

from execsandbox import Sandbox

with Sandbox() as sandbox:
    with sandbox.session(language="shell", idle_timeout_seconds=60) as session:
        session.exec("mkdir work && echo 'print(6 * 7)' >work/answer.py")
        print(session.exec(argv=["python3", "work/answer.py"]).stdout, end="")
        print(session.exec("ls work").stdout, end="")
        print(session.info().execs, "programs,", session.info().state)
    print([one.session for one in sandbox.sessions() if one.session == session.id], "are left")
