# SPDX-License-Identifier: Apache-2.0
"""A daemon of the bench's own, and clients of it."""
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

PROGRAM = "build/daemon/execsandboxd"
IMAGES = "build/images"
START_SECONDS = 60
RUN_SECONDS = 300


class Daemon:
    """execsandboxd in directories of its own; its log lines are kept with the time they came."""

    def __init__(self, *settings):
        self.dir = tempfile.mkdtemp(prefix="execsandbox-bench-")
        os.chmod(self.dir, 0o755)
        self.socket = os.path.join(self.dir, "s.sock")
        self.lines = []
        arguments = [PROGRAM, "--socket", self.socket, "--runtime-dir", os.path.join(self.dir, "run"),
                     "--state-dir", os.path.join(self.dir, "state"), "--images-dir", os.path.abspath(IMAGES)]
        for setting in settings:
            arguments += ["--set", setting]
        self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()
        self._wait_until_ready()

    def _read(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def _wait_until_ready(self):
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                with Client(self.socket) as client:
                    client.call("rpc.ping")
                    return
            except OSError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("daemon does not start: " + "; ".join(line for _, line in self.lines)) from None
                select_nothing(0.05)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def footprint(self):
        """(resident bytes, open descriptors) of the daemon itself."""
        pid = self.process.pid
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            resident = int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024
        return resident, len(os.listdir(f"/proc/{pid}/fd"))

    def qemu_command(self):
        """The command line of a QEMU that this daemon runs now, or None."""
        for name in os.listdir("/proc"):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().decode().split("\0")[:-1]
                if words and "qemu-system" in words[0] and self._is_ours(int(name)):
                    return words
            except (OSError, ValueError):
                continue
        return None

    def _is_ours(self, pid):
        while pid > 1:
            if pid == self.process.pid:
                return True
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
                pid = int(file.read().rpartition(")")[2].split()[1])
        return False


def select_nothing(seconds):
    """Lets a short time pass between two looks at a condition."""
    threading.Event().wait(seconds)


class Client:
    def __init__(self, path, timeout=RUN_SECONDS):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def call(self, method, **params):
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        reply = json.loads(self.file.readline() or b'{"error":{"message":"the daemon hung up"}}')
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']['message']}")
        return reply["result"]

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


PROGRAMS = {
    "python": ("print(1)", "1\n"),
    "javascript": ("console.log(1)", "1\n"),
    "shell": ("echo 1", "1\n"),
}


def run_once(path, language):
    """(milliseconds from connecting to the reply read, the RunResult). Fails on a wrong result."""
    code, wanted = PROGRAMS[language]
    started = time.monotonic()
    with Client(path) as client:
        result = client.call("run", language=language, code=code, timeout_seconds=120)
    milliseconds = (time.monotonic() - started) * 1000
    if result["status"] != "ok" or result["stdout"] != wanted:
        raise RuntimeError(f"{language}: {result['status']}: {result['stdout']!r} {result['stderr']!r}")
    return milliseconds, result
