# SPDX-License-Identifier: Apache-2.0
"""A daemon of a test's own, over the fake QEMU or the real one, and what must be left after it: nothing."""

import contextlib
import datetime
import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "acceptance"))

from client import Client, RpcError  # noqa: E402  (the path is set above)
from jumping_clock import JumpingClock  # noqa: E402
from processes import LAUNCHER, descendants, orphans, processes  # noqa: E402

# Set by tests/vm/run.
DAEMON = IMAGES = LYING_IMAGES = FAKE_QEMU = None

# For what takes a moment on an idle machine; shared ones get much more.
DEADLINE = 60
POLL_SECONDS = 0.02


def until(condition, what, deadline=DEADLINE):
    """Polls until condition() is true and returns its value; the things watched have no events."""
    stop = time.monotonic() + deadline
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > stop:
            raise AssertionError(f"not within {deadline} s: {what}")
        time.sleep(POLL_SECONDS)


def moment(text):
    """Seconds of an RFC 3339 time."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def read_text(path):
    with open(path, encoding="utf-8", errors="replace") as stream:
        return stream.read()


class Daemon:
    """One daemon with directories of its own. `scenario` chooses what the fake QEMU plays; None is the real one."""

    def __init__(self, scenario=None, images=None, directory=None, **settings):
        self.directory = directory or tempfile.mkdtemp(prefix="execsandbox-vm-test-")
        os.chmod(self.directory, 0o755)  # the daemon's user looks for the fake below it
        self.socket = os.path.join(self.directory, "sock")
        self.runtime = os.path.join(self.directory, "run")
        self.state = os.path.join(self.directory, "state")
        self.program = os.path.join(self.directory, "bin", "fake_qemu")
        self.images = images or IMAGES
        self.config = os.devnull
        self.settings = {"log_level": "debug", "log_target": "stderr", "accel": "tcg", "max_vms": 4,
                         "templates": "off"}
        if scenario is not None:
            self.use_fake(scenario)
        self.settings.update(settings)
        self.log_path = os.path.join(self.directory, "log")
        self.environment = {}  # beside what the tests have
        self.process = None
        self.clients = []
        self.vms_seen = set()
        self.baseline = None

    def use_fake(self, scenario):
        """Puts the fake where the jail can see it: a bubblewrap that binds one directory more."""
        directory = os.path.join(self.directory, "bin")
        os.makedirs(directory, exist_ok=True)
        self.settings["qemu"] = self.program = os.path.join(directory, f"fake_qemu-{scenario}")
        self.install_fake(FAKE_QEMU)
        wrapper = os.path.join(directory, "bwrap")
        with open(wrapper, "w", encoding="utf-8") as stream:
            stream.write(f'#!/bin/sh\nexec /usr/bin/bwrap --ro-bind {directory} {directory} "$@"\n')
        os.chmod(wrapper, 0o755)
        self.settings["bubblewrap"] = wrapper

    def install_fake(self, source):
        shutil.copy(source, self.program + ".new")
        os.chmod(self.program + ".new", 0o755)
        os.rename(self.program + ".new", self.program)

    def plan(self, *lines):
        """What the fake QEMUs do wrong from now on: tests/fake/qemu/plan.h."""
        path = os.path.join(os.path.dirname(self.program), "plan")
        with open(path + ".new", "w", encoding="utf-8") as stream:
            stream.write("\n".join(lines) + "\n")
        os.chmod(path + ".new", 0o644)
        os.rename(path + ".new", path)

    def give_clock(self):
        """A wall clock of its own from the next start on: clock.set()."""
        library = os.path.join(os.path.dirname(FAKE_QEMU), "clock_jump.so")
        assert os.path.exists(library), "make check-vm builds it"
        self.clock = JumpingClock(library, os.path.join(self.directory, "jump"))
        self.environment = self.clock.environment
        self.clock.set(0)

    def spawn(self):
        """Starts the process alone; for daemons that are expected to refuse."""
        self.starts = self.log().count("Serving") if os.path.exists(self.log_path) else 0
        words = [DAEMON, "--config", self.config, "--socket", self.socket, "--runtime-dir", self.runtime,
                 "--state-dir", self.state, "--images-dir", self.images]
        for key, value in self.settings.items():
            words += ["--set", f"{key}={value}"]
        with open(self.log_path, "ab") as log:
            self.process = self.popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                      env={**os.environ, **self.environment})
        return self

    def popen(self, words, **options):
        return subprocess.Popen(words, **options)

    def start(self):
        self.spawn()
        until(self.is_serving, "the daemon serves")
        with self.client() as client:
            client.call("rpc.ping")
        self.clients.clear()
        self.baseline = until(lambda: self.descriptors() or None, "descriptors")
        return self

    def is_serving(self):
        if self.process.poll() is not None:
            raise AssertionError(f"the daemon ended with {self.process.returncode}:\n{self.log()}")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                    return False
                raise
        return self.log().count("Serving") > self.starts

    def client(self):
        self.clients.append(Client(self.socket))
        return self.clients[-1]

    def log(self):
        return read_text(self.log_path)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def rss(self):
        """Bytes of memory it holds."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def vm_directories(self):
        return os.listdir(os.path.join(self.runtime, "vm"))

    def launchers(self):
        """Processes of execsandbox-launcher for this runtime directory; one, as long as it serves."""
        return [process.pid for process in processes()
                if process.program == LAUNCHER and self.runtime in process.command]

    def launcher(self):
        return until(self.launchers, "there is a launcher")[0]

    def leftovers(self):
        """Processes of this daemon's VMs, wherever they hang in the tree, itself and its launcher excluded."""
        found = descendants(self.process.pid)
        for launcher in self.launchers():
            found += descendants(launcher)  # also zombies, which have no command line
        self.vms_seen.update(self.vm_directories())
        for process in processes():
            marks = [os.path.join(self.directory, "bin"), *self.vms_seen]
            is_ours = any(mark in process.command for mark in marks)
            if is_ours and process.pid not in (self.process.pid, os.getpid()):
                found.append(process)
        return found

    def assert_clean(self):
        """No process, no zombie, no file, no descriptor of any VM is left; the daemon serves."""
        for client in self.clients:
            client.close()
        self.clients.clear()
        until(lambda: not self.leftovers(), "no process of a VM is left")
        until(lambda: not orphans(), "no process of a VM is without a launcher")
        until(lambda: not self.vm_directories(), "no directory of a VM is left")
        # A connection less at the baseline than now and then: those close a moment later.
        until(lambda: self.descriptors() <= self.baseline,
              f"at most {self.baseline} descriptors are open")
        with Client(self.socket) as client:
            vms = client.call("info")["vms"]
            assert (vms["current"], vms["queued"]) == (0, 0), vms

    def signal(self, number):
        self.process.send_signal(number)

    def wait(self, deadline=DEADLINE):
        return self.process.wait(deadline)

    def stop(self):
        """Ends the daemon if it still runs, and removes its directory. Idempotent."""
        for client in self.clients:
            client.close()
        if self.process and self.process.poll() is None:
            self.signal(signal.SIGINT)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for pid in self.launchers():  # of a daemon that was killed: its VMs go with it
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        until(lambda: not self.launchers(), "no launcher is left")
        shutil.rmtree(self.directory, ignore_errors=True)


class VmTest(unittest.TestCase):
    """Each test starts the daemons it needs with daemon(); all must be clean at its end."""

    def setUp(self):
        self.daemons = []
        self.problems_before = self.problems()

    def problems(self):
        return len(self._outcome.result.failures) + len(self._outcome.result.errors)

    def tearDown(self):
        try:
            for daemon in self.daemons:
                if daemon.process and daemon.process.poll() is None:
                    daemon.assert_clean()
        finally:
            if self.problems() > self.problems_before:
                for daemon in self.daemons:
                    with contextlib.suppress(FileNotFoundError, AttributeError):
                        print(daemon.log()[-6000:], file=sys.stderr)
            for daemon in self.daemons:
                daemon.stop()

    def daemon(self, scenario=None, **settings):
        """A started daemon."""
        return self.prepare(scenario, **settings).start()

    def prepare(self, scenario=None, **settings):
        """A daemon that is not started yet."""
        self.daemons.append(Daemon(scenario, **settings))
        return self.daemons[-1]

    def assert_error(self, code, function, *args, **kwargs):
        with self.assertRaises(RpcError) as caught:
            function(*args, **kwargs)
        error = caught.exception
        self.assertIn(error.code, code if isinstance(code, tuple) else (code,), error.message)
        self.assertIn("retryable", error.data)
        self.assertNotIn("\n", error.message)
        return error

    def play(self, client, *lines, **params):
        """Runs lines of the fake's language."""
        return client.call("run", language="shell", code="\n".join(lines), **params)

    def play_request(self, client, *lines, **params):
        return client.request("run", language="shell", code="\n".join(lines), **params)

    def play_started(self, client, *lines, **params):
        """Sends such a run and waits until it runs; returns its id and its VM."""
        request = self.play_request(client, *lines, stream=True, **params)
        started = client.wait_notification(
            lambda method, given: method == "run.started" and given["id"] == request)
        return request, started["vm"]

    def vm_pid(self, client, vm):
        return until(lambda: client.call("vm.info", vm=vm)["pid"], "the VM's pid is known")

    def only_vm(self, client):
        """The one VM there is, as soon as its pid is known."""
        def find():
            vms = client.call("vm.list")["vms"]
            return vms[0] if vms and vms[0]["pid"] else None
        return until(find, "there is a VM with a process")


class SessionTest(VmTest):
    """With a daemon, `self.sandbox`, and a connection; sessions of shell that are left are closed."""

    settings = {}  # of the daemon

    def setUp(self):
        super().setUp()
        self.sandbox = self.daemon("normal", **self.settings)
        self.client = self.sandbox.client()

    def tearDown(self):
        if self.sandbox.process.poll() is None:
            with self.sandbox.client() as client:
                for session in client.call("session.list")["sessions"]:
                    client.call("session.close", session=session["session"])
        super().tearDown()

    def create(self, client=None, **params):
        return (client or self.client).call("session.create", language="shell", **params)["session"]
