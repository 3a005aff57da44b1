# SPDX-License-Identifier: Apache-2.0
"""A machine of containers: a real systemd, booted by systemd-nspawn in a root tree of its own, that commands are run in.

No network, no machine registered, none of the host's cgroups but the ones it is started in. What systemd-nspawn covers in
/proc stays covered, as it is for any service of a container: the jail mounts no procfs of its own.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
BOOT_SECONDS = 60
DEADLINE = 120


class BootError(AssertionError):
    """The machine did not come up; the text says how far it came."""


def until(condition, what, deadline=DEADLINE):
    """The first true value of condition(), looked at again and again: there is no notification for what happens inside."""
    stop = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > stop:
            raise AssertionError(f"not within {deadline} s: {what}")
        threading.Event().wait(0.05)


def children(pid):
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as stream:
        return [int(word) for word in stream.read().split()]
    return []


class Container:
    def __init__(self, root_tar):
        self.directory = tempfile.mkdtemp(prefix="execsandbox-system-", dir="/var/tmp")
        self.root = os.path.join(self.directory, "root")
        self.console = os.path.join(self.directory, "console")
        self.nspawn = None
        self.leader = None
        os.mkdir(self.root, 0o755)
        subprocess.run(["tar", "-xpf", root_tar, "-C", self.root, "--numeric-owner"], check=True)

    # --- Life. ---

    def boot(self):
        words = ["systemd-nspawn", "--register=no", "--keep-unit", "--quiet", "--boot", "--directory", self.root,
                 "--hostname=execsandbox-test", "--private-network", "--console=pipe", "--link-journal=no"]
        with open(self.console, "wb") as console:
            try:
                self.nspawn = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=console, stderr=console)
            except FileNotFoundError as error:
                raise BootError("there is no systemd-nspawn; install the package 'systemd-container'") from error
        try:
            until(self.is_up, "systemd says that it is up", BOOT_SECONDS)
        except AssertionError as error:
            raise BootError(f"systemd-nspawn cannot boot here: {error}\n{self.console_tail()}") from error
        return self

    def is_up(self):
        """Its first child is not yet the init: that is looked for again each time."""
        if self.nspawn.poll() is not None:
            raise AssertionError(f"it ended with {self.nspawn.returncode}")
        self.leader = next(iter(children(self.nspawn.pid)), None)
        return self.leader and self.run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")

    def console_tail(self):
        with contextlib.suppress(OSError), open(self.console, encoding="utf-8", errors="replace") as stream:
            return stream.read()[-4000:]
        return ""

    def stop(self):
        """Ends it, however far it came. What is left of its processes dies with its init."""
        if self.nspawn and self.nspawn.poll() is None:
            self.nspawn.terminate()
            try:
                self.nspawn.wait(20)
            except subprocess.TimeoutExpired:
                for pid in children(self.nspawn.pid):
                    os.kill(pid, signal.SIGKILL)
                self.nspawn.kill()
                self.nspawn.wait()

    def end(self):
        self.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    # --- Commands. ---

    def command(self, words, user=None):
        inside = ["runuser", "-u", user, "--", *words] if user else list(words)
        return ["nsenter", "--target", str(self.leader), "--all", "--wd=/", "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
                "LC_ALL=C", "HOME=/root", *inside]

    def run(self, *words, user=None, timeout=DEADLINE):
        """Runs a command; never raises for what it answers."""
        return subprocess.run(self.command(words, user), stdin=subprocess.DEVNULL, capture_output=True, text=True,
                              errors="replace", timeout=timeout, check=False)

    def check(self, *words, user=None, timeout=DEADLINE):
        """Its standard output; an error when it fails."""
        done = self.run(*words, user=user, timeout=timeout)
        if done.returncode:
            raise AssertionError(f"{' '.join(words)}: status {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout

    def start(self, *words, user=None):
        """A command that goes on; its output is read by communicate()."""
        return subprocess.Popen(self.command(words, user), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, text=True)

    def write(self, path, text):
        """A file inside, with the directories above it."""
        place = self.root + path
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with open(place, "w", encoding="utf-8") as stream:
            stream.write(text)

    def show(self, unit, *properties):
        """{property: value} of systemctl show."""
        out = self.check("systemctl", "show", unit, *(f"--property={name}" for name in properties))
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def journal(self, *units):
        out = self.run("journalctl", "--no-pager", "--output=short-monotonic", *(f"--unit={unit}" for unit in units)).stdout
        return "\n".join(out.splitlines()[-80:])

    # --- Processes, as the host sees them. ---

    def processes(self):
        """{pid: command line} of all that runs inside."""
        found, waiting = {}, [self.leader]
        while waiting:
            pid = waiting.pop()
            waiting += children(pid)
            with contextlib.suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as stream:
                found[pid] = stream.read().replace(b"\0", b" ").decode(errors="replace").strip()
        return found
