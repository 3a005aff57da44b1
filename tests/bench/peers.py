# SPDX-License-Identifier: Apache-2.0
"""What the daemon is measured against: QEMU without a daemon, bubblewrap, runc, runsc.

Each peer is a class whose once() returns the milliseconds of one cold start to output, and whose
constructor raises Unavailable with the reason when it cannot run here.
"""
import json
import os
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time

FRAME_READY = 32  # protocol/frame.h
BOOT_SECONDS = 120
START_SECONDS = 60


class Unavailable(Exception):
    pass


def require(program):
    found = shutil.which(program)
    if not found:
        raise Unavailable(f"{program} is not installed")
    return found


def timed(command, wanted=b"1\n"):
    started = time.monotonic()
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=START_SECONDS, check=False)
    milliseconds = (time.monotonic() - started) * 1000
    if done.returncode or done.stdout != wanted:
        last = done.stderr.decode(errors="replace").strip().split("\n")[-1]
        raise Unavailable(f"{os.path.basename(command[0])} ended with {done.returncode}: {last[:120]}")
    return milliseconds


class PlainQemu:
    """The daemon's own QEMU command line with its descriptors replaced by ours; no jail, no daemon.

    Ends when the agent has said READY on its port: kernel, root filesystem and agent are up, and no
    interpreter was started.
    """

    def __init__(self, command, images):
        if not command:
            raise Unavailable("the daemon's QEMU was not seen")
        self.command, self.images = command, images

    def once(self):
        """Milliseconds to READY."""
        with tempfile.TemporaryDirectory(prefix="execsandbox-bench-") as folder:
            agent, qmp = listener(folder, "agent"), listener(folder, "qmp")
            console_theirs, console = socket.socketpair()
            files = [os.open(os.path.join(self.images, name), os.O_RDONLY) for name in ("vmlinux", "rootfs.erofs")]
            command = self._command(agent, qmp, console_theirs, *files)
            descriptors = [agent.fileno(), qmp.fileno(), console_theirs.fileno(), *files]
            started = time.monotonic()
            process = subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                with socket.socket(socket.AF_UNIX) as link:
                    link.connect(os.path.join(folder, "agent"))
                    return wait_ready(link, console, started)
            finally:
                process.kill()
                process.wait()
                for one in (agent, qmp, console_theirs, console):
                    one.close()
                for one in files:
                    os.close(one)

    def close(self):
        """Each VM is removed when it has been measured."""

    def _command(self, agent, qmp, console, kernel, rootfs):
        """Which descriptor is which is told by the words around it."""
        words = []
        for word in self.command:
            if word.startswith("socket,id=qmp,"):
                word = re.sub(r"fd=\d+", f"fd={qmp.fileno()}", word)
            elif word.startswith("socket,id=agent,"):
                word = re.sub(r"fd=\d+", f"fd={agent.fileno()}", word)
            elif word.startswith("socket,id=console,"):
                word = re.sub(r"fd=\d+", f"fd={console.fileno()}", word)
            elif word.startswith("driver=file,"):
                word = re.sub(r"/proc/self/fd/\d+", f"/proc/self/fd/{rootfs}", word)
            elif re.fullmatch(r"/proc/self/fd/\d+", word):
                word = f"/proc/self/fd/{kernel}"
            words.append(word)
        return words


def listener(folder, name):
    one = socket.socket(socket.AF_UNIX)
    one.bind(os.path.join(folder, name))
    one.listen(1)
    return one


def wait_ready(link, console, started):
    log, link_bytes = b"", b""
    deadline = started + BOOT_SECONDS
    while True:
        readable, _, _ = select.select([link, console], [], [], max(0, deadline - time.monotonic()))
        if not readable:
            raise Unavailable("QEMU did not boot: " + log[-100:].decode(errors="replace"))
        if console in readable:
            log += console.recv(65536)
        if link in readable:
            link_bytes += link.recv(65536)
            if len(link_bytes) >= 5:
                if link_bytes[4] != FRAME_READY:
                    raise Unavailable("the agent said something else than READY")
                return (time.monotonic() - started) * 1000


class Bubblewrap:
    def __init__(self, *program):
        self.command = [require("bwrap"), "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin", "--symlink",
                        "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
                        "--tmpfs", "/tmp", "--unshare-all", "--die-with-parent", "--", *program]
        timed(self.command)

    def once(self):
        return timed(self.command)

    def close(self):
        """Nothing to remove."""


class Oci:
    """A container of the host's /usr in a bundle of its own, by an OCI runtime."""

    def __init__(self, runtime, *program, options=()):
        self.runtime, self.options = require(runtime), options
        self.folder = tempfile.mkdtemp(prefix="execsandbox-bench-")
        self.count = 0
        root = os.path.join(self.folder, "rootfs")
        for name in ("usr", "proc", "dev", "sys", "tmp"):
            os.makedirs(os.path.join(root, name))
        for name in ("bin", "lib", "lib64"):
            os.symlink("usr/" + name, os.path.join(root, name))
        subprocess.run([self.runtime, "spec", "--bundle", self.folder], check=True)
        path = os.path.join(self.folder, "config.json")
        with open(path, encoding="utf-8") as file:
            spec = json.load(file)
        spec["process"].update(terminal=False, args=list(program))
        spec["mounts"].append({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]})
        with open(path, "w", encoding="utf-8") as file:
            json.dump(spec, file)
        try:
            self.once()
        except Unavailable:
            self.close()
            raise

    def once(self):
        self.count += 1
        name = f"execsandbox-bench-{os.getpid()}-{self.count}"
        return timed([self.runtime, *self.options, "--root", os.path.join(self.folder, "state"), "run", "--bundle",
                      self.folder, name])

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)
