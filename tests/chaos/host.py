# SPDX-License-Identifier: Apache-2.0
"""What of a daemon is on the host: processes, directories, cgroups, mounts. Found by its directory and by the ids of its VMs."""

import contextlib
import glob
import os
import re
import time

from processes import LAUNCHER, VM_ID, orphans, processes

# What stays behind a daemon that was stopped, and behind the supervisor, by its path.
TEMPLATE = r"state/templates/[a-z]+-\d+-[0-9a-f]{16}"
ALLOWED = tuple(map(re.compile, (r"log|jump", r"run|run/lock|run/vm|run/results", r"state|state/templates", TEMPLATE,
                                 TEMPLATE + r"/(manifest\.json|state|ram)")))
RESULT = re.compile(r"run/results/(\d+-[0-9a-f]{64})\.(?:json|lost)")
POLL_SECONDS = 0.02


def wait(condition, seconds):
    """The first true value of condition(), or its last one when time is over."""
    deadline = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)
    return value


class Host:
    """Of the daemon in `directory`. `vms` are the ids it has ever had."""

    def __init__(self, directory):
        self.directory = directory
        self.runtime = os.path.join(directory, "run")
        self.vms = set()

    def vm_directories(self):
        with contextlib.suppress(FileNotFoundError):
            return set(os.listdir(os.path.join(self.runtime, "vm")))
        return set()

    def note_vms(self):
        """VMs are remembered: what is left at the end may bear their names alone."""
        self.vms |= self.vm_directories()
        return self.vms

    def vm_processes(self, is_wrapper=False):
        """QEMUs of this daemon, or the bubblewraps around them."""
        known = self.note_vms()
        return [one for one in processes()
                if one.vm() in known and one.program.startswith("bwrap") == is_wrapper and one.state != "Z"]

    def launcher(self):
        """Its pid, or None where there is none."""
        return next((one.pid for one in processes()
                     if one.program == LAUNCHER and one.state != "Z" and self._is_ours(one, self._sockets())), None)

    def _is_ours(self, process, ours):
        """Its words or descriptors lead to our directory, or to a socket that has its address there."""
        if any(self.directory in word for word in process.words):
            return True
        with contextlib.suppress(OSError):
            for fd in os.scandir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(OSError):
                    target = os.readlink(fd.path)
                    if self.directory in target or target in ours:
                        return True
        return False

    def _sockets(self):
        with open("/proc/net/unix", encoding="ascii", errors="replace") as file:
            rows = (line.split() for line in file)
            return {f"socket:[{row[6]}]" for row in rows if len(row) > 7 and row[7].startswith(self.directory)}

    def processes(self):
        """All of this daemon's, itself and the tests' own apart: by command line, descriptors, names of VMs."""
        known, sockets = self.note_vms(), self._sockets()
        return [one for one in processes()
                if one.pid != os.getpid() and (one.vm() in known or self._is_ours(one, sockets))]

    def cgroups(self):
        return [path for path in glob.glob("/sys/fs/cgroup/**/*vm_*", recursive=True)
                if os.path.isdir(path) and VM_ID.search(path) and VM_ID.search(path)[0] in self.vms]

    def mounts(self):
        with open("/proc/self/mounts", encoding="utf-8") as file:
            return [line.split()[1] for line in file if line.split()[1].startswith(self.directory)]

    def strangers(self, results):
        """What has no business there. Results stay for those who may still come for them (result_seconds)."""
        for root, folders, names in os.walk(self.directory):
            for name in folders + names:
                path = os.path.relpath(os.path.join(root, name), self.directory)
                result = RESULT.fullmatch(path)
                if not (result and result[1] in results or any(one.fullmatch(path) for one in ALLOWED)):
                    yield path

    def leftovers(self, own_mounts=(), results=()):
        """What is there that should not be, behind the end of the daemon."""
        found = [f"process {one}" for one in self.processes()]
        found += [f"orphan {one}" for one in orphans()]
        found += [f"directory run/vm/{name}" for name in sorted(self.vm_directories())]
        found += [f"cgroup {path}" for path in self.cgroups()]
        found += [f"mount {path}" for path in self.mounts() if path not in own_mounts]
        found += [f"file {path}" for path in self.strangers(results)]
        return found
