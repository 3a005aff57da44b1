# SPDX-License-Identifier: Apache-2.0
"""Keeps the daemon running as a service manager would: one that dies is started again at once, in the same directories."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "acceptance"))

from client import Client, Closed, RpcError  # noqa: E402  (the path is set above)
from host import Host, wait  # noqa: E402
from jumping_clock import JumpingClock  # noqa: E402

READY_SECONDS = 60
TEMPLATE_SECONDS = 180
STOP_SECONDS = 60
# Programs of clients that have gone end with their connection.
CALM_SECONDS = 10
# The launcher goes a moment after the daemon and its last VM.
LEFT_SECONDS = 20
# Small, so that they can be filled; state holds three templates of 55 MB and the one that is being made.
MOUNTS = {"state": "300m", "run": "16m"}
SETTINGS = ("accel=tcg", "log_level=info", "log_target=stderr", "pool_python=2", "pool_shell=1", "pool_javascript=0",
            "queue_timeout_seconds=30", "boot_timeout_seconds=20", "connections_per_uid=256", "drain_timeout_seconds=10")


class Supervisor:
    def __init__(self, history, program, clock, images, promises, settings=(), templates=None):
        self.history, self.promises, self.templates = history, promises, templates
        self.directory = tempfile.mkdtemp(prefix="execsandbox-chaos-")
        os.chmod(self.directory, 0o755)
        self.host = Host(self.directory)
        self.socket = os.path.join(self.host.runtime, "sock")
        self.log_path = os.path.join(self.directory, "log")
        self.words = [os.path.abspath(program), "--config", os.devnull, "--socket", self.socket,
                      "--runtime-dir", self.host.runtime, "--state-dir", os.path.join(self.directory, "state"),
                      "--images-dir", os.path.abspath(images)]
        for setting in (*SETTINGS, *settings):
            self.words += ["--set", setting]
        self.clock = JumpingClock(clock, os.path.join(self.directory, "jump"))
        self.lock = threading.Lock()  # a kill never meets a process that has been reaped
        self.process = None
        self.kills = []  # faults that last until the next daemon is back
        self.is_stopping = False
        self.is_serving = threading.Event()
        self.thread = threading.Thread(target=self._keep, name="supervisor")

    def start(self):
        os.stat(self.clock.library)  # the linker goes on without it
        for name, size in MOUNTS.items():
            path = os.path.join(self.directory, name)
            os.mkdir(path)
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "execsandbox-chaos", path], check=True)
            shutil.chown(path, "execsandbox-vm")
        self._copy_templates(self.templates, os.path.join(self.directory, "state"))
        self.clock.set(0)
        self.thread.start()
        if not self.is_serving.wait(READY_SECONDS):
            raise RuntimeError("the daemon does not start")
        with Client(self.socket) as client:
            if not wait(lambda: are_ready(client), TEMPLATE_SECONDS):
                raise RuntimeError("the templates are not ready")
        if self.templates and not os.path.exists(self.templates):
            self._copy_templates(os.path.join(self.directory, "state"), self.templates)

    def _copy_templates(self, source, target):
        """Kept from one run to the next, they save half a minute; the daemon makes those anew that do not fit its images."""
        if source and os.path.exists(source):
            subprocess.run(["cp", "-aT", "--sparse=always", source, target], check=True)

    def mounts(self):
        return [os.path.join(self.directory, name) for name in MOUNTS]

    def _keep(self):
        since = None
        while not self.is_stopping:
            life, old_vms = self.history.life(since), set(self.host.note_vms())
            with self.lock, open(self.log_path, "ab") as log:
                self.process = subprocess.Popen(self.words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                env={**os.environ, **self.clock.environment})
            watcher = threading.Thread(target=self._watch, args=(life, self.process.pid, old_vms), daemon=True)
            watcher.start()
            # Its pid stays its own until the lock is held.
            os.waitid(os.P_PID, self.process.pid, os.WEXITED | os.WNOWAIT)
            with self.lock:
                self.is_serving.clear()
                life.status = self.process.wait()
                since = life.died = self.history.now()

    def _watch(self, life, pid, old_vms):
        """Says when a daemon answers, and whether it has taken over what it found."""
        if not wait(lambda: life.died is not None or self._answers(pid), READY_SECONDS) or life.died is not None:
            return
        life.back = self.history.now()
        while self.kills and self.kills[0].began < life.started:
            self.kills.pop(0).ended = life.back
        self.is_serving.set()
        if old_vms:
            life.is_looked_after = True
            # A daemon that is killed meanwhile leaves the answer to the next one.
            with contextlib.suppress(Closed, OSError, RpcError, TimeoutError):
                self._look_after(life, old_vms)

    def _answers(self, pid):
        with contextlib.suppress(Closed, OSError):
            with Client(self.socket, READY_SECONDS) as client:
                return client.daemon_pid() == pid and client.call("rpc.ping") == "pong"
        return False

    def _look_after(self, life, old_vms):
        expected = {one.name for one in self.history.living_sessions() if one.opened < life.since}
        with Client(self.socket) as client:
            def strangers():
                known = {vm["vm"] for vm in client.call("vm.list")["vms"]}
                there = self.host.vm_directories() | {one.vm() for one in self.host.vm_processes()}
                return old_vms & there - known

            def missing():
                if not self.promises.adopts:
                    return set()
                known = {one["session"] for one in client.call("session.list", limit=1000)["sessions"]}
                return expected & {one.name for one in self.history.living_sessions()} - known

            # All from the end of the one before, with what it has taken to be back.
            wait(lambda: not missing() and not strangers(), life.since + self.promises.back_seconds - self.history.now())
            now = self.history.now()
            gone, left = missing(), strangers()
        if life.died is None:
            life.missing, life.orphans, life.reaped = sorted(gone), sorted(left), now

    def kill(self):
        """kill -9 of the daemon; False when it is not there now."""
        return self._end_one("daemon", signal.SIGKILL)

    def hand_over(self):
        """The daemon leaves all that is alive to the next one. Only one that serves is asked to."""
        return self.is_serving.is_set() and self._end_one("handover", signal.SIGUSR1)

    def _signal(self, number):
        """With the lock, to one that has not been waited for. Popen's own method would wait for it."""
        if self.process.returncode is None:
            os.kill(self.process.pid, number)

    def _end_one(self, kind, number):
        with self.lock:
            if self.process.returncode is not None:
                return False
            self.kills.append(self.history.fault(kind, detail=f"pid {self.process.pid}"))
            self._signal(number)
        return True

    def calm_down(self):
        """Nobody wants anything any more: but for spares there is nothing, and of sessions those whose maker never heard of them."""
        unheard = sum(1 for request in self.history.requests if request.method == "session.create" and request.is_cut_off())
        with Client(self.socket) as client:
            listed = {one["session"] for one in client.call("session.list", limit=1000)["sessions"]}
            for name in listed & set(self.history.sessions):
                self.history.note(f"{name} is there, and its user was told that it is not")
            if len(listed - set(self.history.sessions)) > unheard:
                self.history.note(f"sessions that nobody has made: {listed - set(self.history.sessions)}, {unheard} unheard of")
            for name in listed:
                client.call("session.close", session=name)

            def used():
                return [vm["vm"] for vm in client.call("vm.list")["vms"] if vm["uid"] is not None]

            wait(lambda: not used(), CALM_SECONDS)
            if left := used():
                self.history.note(f"VMs that nobody uses, and no spares: {left}")

    def stop(self):
        """Ends the daemon as a service manager does; says what is left behind it."""
        self.history.fault("stopped")
        self.is_stopping = True
        with self.lock:
            self._signal(signal.SIGTERM)
        self.thread.join(STOP_SECONDS)
        if self.thread.is_alive():
            self.history.note(f"the daemon does not end within {STOP_SECONDS} s")
            with self.lock:
                self._signal(signal.SIGKILL)
            self.thread.join()
        elif self.process.returncode:
            self.history.note(f"the daemon ended with {self.process.returncode} when it was asked to stop")
        own = self.mounts()
        results = {f"{os.getuid()}-{hashlib.sha256(request.exec_id.encode()).hexdigest()}"
                   for request in self.history.requests if request.exec_id}
        wait(lambda: not self.host.leftovers(own, results), LEFT_SECONDS)
        self.history.leftovers = self.host.leftovers(own, results)

    def end(self):
        """No daemon is started any more, and there is none; does nothing behind stop()."""
        self.is_stopping = True
        with self.lock:
            if self.process:
                self._signal(signal.SIGKILL)
        if self.thread.ident:
            self.thread.join()

    def remove(self):
        """Whatever is still there goes, and the directory."""
        for process in self.host.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        wait(lambda: not self.host.processes(), LEFT_SECONDS)
        for path in self.mounts():
            subprocess.run(["umount", "-l", path], check=False, stderr=subprocess.DEVNULL)
        shutil.rmtree(self.directory, ignore_errors=True)


def are_ready(client):
    templates = client.call("template.list")["templates"]
    for one in templates:
        if one["state"] == "failed":  # a machine that was too busy
            with contextlib.suppress(RpcError):
                client.call("template.build", name=one["name"])
    return len(templates) >= 3 and all(one["state"] == "ready" and one["stored"] for one in templates)
