# SPDX-License-Identifier: Apache-2.0
"""A wall clock of a daemon's own, by a library that is loaded before its others (tests/fake/clock/jump.c)."""

import os


class JumpingClock:
    def __init__(self, library, path):
        """`path` is where the library looks. Who starts the daemon checks that there is a library: the linker goes on without."""
        self.library, self.path = os.path.abspath(library), path
        # ASan wants to be the first of all libraries; what comes before it here does nothing of its kind.
        self.environment = {"LD_PRELOAD": self.library, "CLOCK_JUMP": path, "ASAN_OPTIONS": "verify_asan_link_order=0"}

    def set(self, seconds):
        """How far it is from the host's. By a new file: a reader has the old number or the new one."""
        with open(self.path + ".new", "w", encoding="ascii") as file:
            file.write(f"{seconds}\n")
            os.fchmod(file.fileno(), 0o644)
        os.rename(self.path + ".new", self.path)
