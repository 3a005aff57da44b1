# SPDX-License-Identifier: Apache-2.0
"""Processes of this host: whose children they are, which VM's name they bear, and which of them nobody is there for."""

import contextlib
import os
import re

VM_ID = re.compile(r"\bvm_[0-9a-f]{16}\b")
VM_NAME = re.compile(r"(?:[A-Za-z0-9._-]+-)?vm_[0-9a-f]{16}")
LAUNCHER = "execsandbox-launcher"


class Process:
    """One that is there, as it is now; OSError when it is not. A zombie has no words."""

    def __init__(self, pid):
        self.pid = pid
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        self.state, self.parent, self.start = fields[0], int(fields[1]), fields[19]
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            self.words = file.read().decode(errors="replace").split("\0")[:-1]

    @property
    def program(self):
        return os.path.basename(self.words[0]) if self.words else ""

    @property
    def command(self):
        return " ".join(self.words)

    def vm(self):
        match = VM_ID.search(self.command)
        return match[0] if match else None

    def bears_vm_name(self):
        return any(word == "-name" and VM_NAME.fullmatch(name) for word, name in zip(self.words, self.words[1:]))

    def has_launcher(self):
        """Is one above it?"""
        one = self
        with contextlib.suppress(OSError):  # who had no parent any more
            while one.parent > 0:
                one = Process(one.parent)
                if one.program == LAUNCHER:
                    return True
        return False

    def __str__(self):
        return f"{self.pid} {self.program} {self.vm() or ''} {self.state}"

    __repr__ = __str__


def processes():
    """All of them."""
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it ended meanwhile
            yield Process(int(name))


def descendants(ancestor):
    """Processes under the pid `ancestor`, zombies too."""
    children = {}
    for process in processes():
        children.setdefault(process.parent, []).append(process)
    found, waiting = [], [ancestor]
    while waiting:
        for process in children.get(waiting.pop(), []):
            found.append(process)
            waiting.append(process.pid)
    return found


def orphans():
    """Those of VMs that have no launcher above them, of whichever daemon: found without a list of what there should be."""
    return [process for process in processes() if process.bears_vm_name() and not process.has_launcher()]
