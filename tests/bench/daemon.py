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
LANGUAGES = ("python", "javascript", "shell")
START_SECONDS = 60
STOP_SECONDS = 120
RUN_SECONDS = 600
TEMPLATE_SECONDS = 120
# A spare takes up to half a second, rehearsed ones longer; a thousand are made one after the other.
POOL_SECONDS = 900
# A client of the bench has one connection for each run that it has on its way.
COMMON = ("accel=tcg", "queue_timeout_seconds=600", "connections_per_uid=256")
HOT = 4  # the default of pool_hot
NO_POOL = ("pool_python=0", "pool_javascript=0", "pool_shell=0")


class Daemon:
    """execsandboxd in directories of its own, but for the stored templates, which lie in `state`; its
    log lines are kept with the time they came. `ready_ms` is spawn to READY=1."""

    def __init__(self, state, *settings):
        self.dir = tempfile.mkdtemp(prefix="execsandbox-bench-")
        os.chmod(self.dir, 0o755)
        self.socket = os.path.join(self.dir, "s.sock")
        self.lines = []
        arguments = [PROGRAM, "--config", os.devnull, "--socket", self.socket,
                     "--runtime-dir", os.path.join(self.dir, "run"), "--state-dir", state,
                     "--images-dir", os.path.abspath(IMAGES)]
        for setting in (*COMMON, *settings):
            arguments += ["--set", setting]
        with self._notify_socket() as notify:
            self.started = time.monotonic()
            self.process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True,
                                            env={**os.environ, "NOTIFY_SOCKET": notify.getsockname()})
            threading.Thread(target=self._read, daemon=True).start()
            self._wait_until_ready(notify)
        self.ready_ms = (time.monotonic() - self.started) * 1000

    def _notify_socket(self):
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        notify.bind(os.path.join(self.dir, "notify"))
        os.chmod(notify.getsockname(), 0o666)  # the daemon is not root any more when it is ready
        notify.settimeout(START_SECONDS)
        return notify

    def _wait_until_ready(self, notify):
        try:
            while b"READY=1" not in notify.recv(4096):
                pass
        except TimeoutError:
            self.stop()
            raise RuntimeError("daemon does not start: " + "; ".join(line for _, line in self.lines)) from None

    def _read(self):
        for line in self.process.stderr:
            self.lines.append((time.monotonic(), line.rstrip("\n")))

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def client(self):
        return Client(self.socket)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/status", encoding="ascii", errors="replace") as file:
            return int(re.search(r"VmRSS:\s+(\d+) kB", file.read()).group(1)) * 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def cpu_seconds(self):
        return cpu_seconds(self.process.pid)

    def wait_line(self, words, first=0, seconds=TEMPLATE_SECONDS):
        """When the first log line from `first` on came that matches the pattern."""
        pattern = re.compile(words)
        return wait(lambda: next((when for when, line in self.lines[first:] if pattern.search(line)), None),
                    f"the daemon's log says '{words}'", seconds, pause=0.005)

    def wait_templates(self):
        """Each language's own template is ready, and on disk."""
        with self.client() as client:
            wait(lambda: all((found := client.call("template.info", name=f"{language}-256"))["state"] == "ready"
                             and found["stored"] for language in LANGUAGES), "templates are ready", TEMPLATE_SECONDS)

    def qemu_command(self):
        """The command line of a QEMU that this daemon runs now, or None."""
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/cmdline", "rb") as file:
                    words = file.read().decode().split("\0")[:-1]
                if words and "qemu-system" in words[0] and self.process.pid in ancestors(int(name)):
                    return words
            except OSError:
                continue
        return None


def ancestors(pid):
    """Parents of a process, the nearest first."""
    found = []
    while pid > 1:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            pid = int(file.read().rpartition(")")[2].split()[1])
        found.append(pid)
    return found


def kill_vm(vm, pid):
    """SIGKILL to a QEMU, if the process is still that VM's."""
    with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
        if vm in file.read():
            os.kill(pid, signal.SIGKILL)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def select_nothing(seconds):
    """Lets a short time pass between two looks at a condition."""
    threading.Event().wait(seconds)


def wait(condition, what, seconds, pause=0.02):
    """The first true value of condition()."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {seconds} s: {what}")
        select_nothing(pause)
    return value


class Failed(RuntimeError):
    """An error reply."""

    def __init__(self, method, error):
        super().__init__(f"{method}: {error['message']}")
        self.code = error.get("code")


class Client:
    def __init__(self, path, timeout=RUN_SECONDS):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(path)
        self.file = self.socket.makefile("rb")

    def send(self, method, **params):
        """Asks without waiting for the answer."""
        request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        self.socket.sendall(json.dumps(request).encode() + b"\n")

    def wait_notification(self, method):
        """The parameters of the next one of that method; others are dropped."""
        while True:
            line = json.loads(self.file.readline() or b'{"error":{"message":"the daemon hung up"}}')
            if line.get("method") == method:
                return line["params"]
            if "error" in line:
                raise Failed(method, line["error"])

    def call(self, method, on_notification=None, **params):
        self.send(method, **params)
        return self.read_reply(method, on_notification)

    def read_reply(self, method="", on_notification=None):
        while True:
            reply = json.loads(self.file.readline() or b'{"error":{"message":"the daemon hung up"}}')
            if "method" in reply:
                if on_notification:
                    on_notification(reply["method"], reply["params"])
            elif "error" in reply:
                raise Failed(method, reply["error"])
            else:
                return reply["result"]

    def set_pool(self, language, size):
        """Waits until that many spares wait and nothing else is on its way."""
        self.call("pool.set", language=language, size=size)
        wait(lambda: (pool := self.call("pool.get", language=language))["warm"] == size
             and not pool["starting"], f"{size} spares of {language}", POOL_SECONDS, pause=0.1)

    def wait_pools(self, hot=HOT):
        """All spares wait, as many of them rehearsed as shall be, and no other VM is there."""
        def are_full():
            pools = self.call("pool.get")["pools"]
            return (all(pool["warm"] == pool["target"] and pool["rehearsed"] >= min(pool["target"], hot)
                        and not pool["starting"] for pool in pools)
                    and len(self.call("vm.list")["vms"]) == sum(pool["target"] for pool in pools))
        wait(are_full, "the pools are full", POOL_SECONDS)

    def wait_no_vms(self):
        wait(lambda: not self.call("vm.list")["vms"], "no VM is left", STOP_SECONDS)

    def vm_pids(self):
        """Of the QEMUs that are there: a VM that has just been asked for has none yet."""
        return [vm["pid"] for vm in self.call("vm.list")["vms"] if vm["pid"]]

    def close(self):
        self.file.close()
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


PROGRAMS = {"python": "print(1)", "javascript": "console.log(1)", "shell": "echo 1"}


def run_once(path, language):
    """(milliseconds from connecting to the reply read, the RunResult). Fails on a wrong result."""
    started = time.monotonic()
    with Client(path) as client:
        result = client.call("run", language=language, code=PROGRAMS[language], timeout_seconds=120)
    milliseconds = (time.monotonic() - started) * 1000
    check(language, result)
    return milliseconds, result


def run_streamed(path, language):
    """(when it was asked for, when the first output came, when the reply was read, the RunResult)."""
    outputs = []

    def on_notification(method, _):
        if method == "run.output":
            outputs.append(time.monotonic())

    started = time.monotonic()
    with Client(path) as client:
        result = client.call("run", on_notification, language=language, code=PROGRAMS[language], stream=True,
                             timeout_seconds=120)
    ended = time.monotonic()
    check(language, result)
    return started, outputs[0], ended, result


def check(language, result):
    if result["status"] != "ok" or result["stdout"] != "1\n":
        raise RuntimeError(f"{language}: {result['status']}: {result['stdout']!r} {result['stderr']!r}")
