# SPDX-License-Identifier: Apache-2.0
"""Processes of VMs that nobody is there for any more, of whichever daemon: found without a list of what there should be."""

import contextlib
import os
import re

VM_NAME = re.compile(rb"\0-name\0(?:[A-Za-z0-9._-]+-)?vm_[0-9a-f]{16}\0")
LAUNCHER = b"execsandbox-launcher"


def _words(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read()


def _parent(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[1])


def _has_launcher(pid):
    with contextlib.suppress(OSError):
        while (pid := _parent(pid)) > 0:
            if os.path.basename(_words(pid).split(b"\0")[0]) == LAUNCHER:
                return True
    return False


def orphans():
    """[(pid, command line)] of those that bear the name of a VM and have no launcher above them."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            words = _words(name)
            if VM_NAME.search(words) and not _has_launcher(int(name)):
                found.append((int(name), words.replace(b"\0", b" ").decode(errors="replace")))
    return found
