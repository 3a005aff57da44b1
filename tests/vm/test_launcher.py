# SPDX-License-Identifier: Apache-2.0
"""The launcher: its socket, with and without a service manager; control groups, where its own is delegated to it (version 1). Fake QEMU."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import unittest

import support
from support import Daemon, SessionTest, VmTest, read_text, until

CONTROLLERS = ("memory", "pids", "cpu")
ROOT = "/sys/fs/cgroup"


def has_version_1():
    return all(os.access(f"{ROOT}/{name}/cgroup.procs", os.W_OK) for name in CONTROLLERS)


class Socket(SessionTest):
    """Where daemon and launcher find each other when no service manager has made it."""

    def test_terminated_and_daemon_killed(self):
        """A launcher that is told to end leaves its socket to the daemon, or nobody finds the next launcher."""
        first = self.sandbox.launcher()
        os.kill(first, signal.SIGTERM)
        until(lambda: first not in self.sandbox.launchers(), "the launcher has ended")
        session = self.create()
        self.client.call("session.exec", session=session, code="set x kept")
        second = self.sandbox.launcher()
        self.sandbox.signal(signal.SIGKILL)
        self.sandbox.wait()
        self.client.close()
        self.sandbox.clients.clear()
        self.sandbox.start()
        self.assertEqual(self.sandbox.launchers(), [second])
        client = self.sandbox.client()
        self.assertEqual([each["session"] for each in client.call("session.list")["sessions"]], [session])
        client.call("session.close", session=session)
        self.sandbox.assert_clean()
        self.sandbox.signal(signal.SIGINT)
        self.assertEqual(self.sandbox.wait(), 0)
        until(lambda: not self.sandbox.launchers(), "no launcher is left")
        self.assertNotIn("launcher.sock", os.listdir(self.sandbox.runtime))


class Managed(Daemon):
    """With sockets that a service manager has made: the daemon's is passed to it, the launcher's is started by hand."""

    def __init__(self, scenario):
        super().__init__(scenario, boot_attempts=1)
        user = pwd.getpwnam("execsandbox-vm")
        os.mkdir(self.runtime, 0o700)
        os.chown(self.runtime, user.pw_uid, user.pw_gid)
        self.hand = None
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.socket)
        self.listener.listen(8)

    def popen(self, words, **options):
        """As sd_listen_fds(3) has it: descriptor 3, of this process."""
        listener = self.listener.fileno()
        words = ["sh", "-c", 'LISTEN_PID=$$ LISTEN_FDS=1 exec "$@"', "sh", *words]
        return subprocess.Popen(words, pass_fds=(3,), preexec_fn=lambda: os.dup2(listener, 3), **options)

    def start_launcher(self):
        program = shutil.copy(os.path.join(os.path.dirname(support.DAEMON), "execsandbox-launcher"), self.directory)
        self.lose_socket()
        with open(self.log_path, "ab") as log:
            self.hand = subprocess.Popen([program, "--runtime-dir", self.runtime], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                         user="execsandbox-vm", group="execsandbox-vm", extra_groups=[])
        until(self.has_launcher, "the launcher listens")
        return self

    def has_launcher(self):
        """It hangs up on us, who are another user."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            return probe.connect_ex(self.launcher_socket()) == 0

    def kill_launcher(self):
        """What stays is a socket that nobody listens on."""
        self.hand.kill()
        self.hand.wait()

    def launcher_socket(self):
        return os.path.join(self.runtime, "launcher.sock")

    def lose_socket(self):
        if os.path.exists(self.launcher_socket()):
            os.unlink(self.launcher_socket())

    def stop(self):
        super().stop()
        self.listener.close()
        if self.hand:
            self.hand.wait()


class Manager(VmTest):
    """The launcher's socket is a service manager's, which may give it up."""

    def check(self, client):
        """(ready, ok) of health, as to the launcher."""
        health = client.call("health")
        return health["ready"], next(check["ok"] for check in health["checks"] if check["name"] == "launcher")

    def test_socket_given_up(self):
        """Refused or not there: one error, to be tried again, that says where to look; health knows as well when it is back."""
        self.daemons.append(Managed("normal"))
        sandbox = self.daemons[-1].start_launcher().start()
        client = sandbox.client()
        self.assertEqual(self.play(client, "out one")["stdout"], "one\n")
        self.assertEqual(self.check(client), (True, True))
        sandbox.kill_launcher()
        for why in ("Connection refused", "No such file or directory"):
            error = self.assert_error(3003, self.play, client, "x")
            self.assertTrue(error.data["retryable"])
            self.assertIn(f"see 'systemctl status execsandbox-launcher.socket': {why}", error.message)
            self.assertIn("doctor", error.data["hint"])
            self.assertEqual(self.check(client), (False, False))
            sandbox.lose_socket()
        sandbox.start_launcher()
        self.assertEqual(self.check(client), (True, True))
        self.assertEqual(self.play(client, "out two")["stdout"], "two\n")

    def test_another_failure(self):
        """What QEMU lacks is no fault of the launcher's, even when that could not be reached either."""
        self.daemons.append(Managed("normal"))
        sandbox = self.daemons[-1].start_launcher().start()
        client = sandbox.client()
        sandbox.kill_launcher()
        self.assert_error(3003, self.play, client, "x")
        os.unlink(sandbox.program)
        error = self.assert_error(3005, self.play, client, "x")
        self.assertNotIn("launcher", error.message)
        self.assertIn("names what is missing", error.data["hint"])


@unittest.skipUnless(has_version_1(), "this host has no control groups of version 1")
class ControlGroups(VmTest):
    """The daemon is started in a group that its user may write, as a service manager delegates one."""

    def setUp(self):
        super().setUp()
        self.groups = {name: f"{ROOT}/{name}/execsandbox-vm-test-{os.getpid()}" for name in CONTROLLERS}
        user = pwd.getpwnam("execsandbox-vm").pw_uid
        for path in self.groups.values():
            os.mkdir(path)
            os.chown(path, user, -1)
        self.sandbox = self.delegated("normal")

    def tearDown(self):
        try:
            super().tearDown()
        finally:
            for path in self.groups.values():
                until(lambda path=path: not read_text(f"{path}/cgroup.procs"), "the group is empty")
                os.rmdir(path)  # fails when a leaf is left

    def delegated(self, scenario):
        """A daemon that is born in the groups."""
        sandbox = self.prepare(scenario)
        start = subprocess.Popen

        def enter():
            for path in self.groups.values():
                with open(f"{path}/cgroup.procs", "w", encoding="ascii") as file:
                    file.write("0")

        support.subprocess.Popen = lambda *args, **kwargs: start(*args, preexec_fn=enter, **kwargs)
        try:
            return sandbox.start()
        finally:
            support.subprocess.Popen = start

    def leaf(self, controller, vm, name):
        return read_text(f"{self.groups[controller]}/{vm}/{name}").strip()

    def leaves(self):
        return [name for path in self.groups.values() for name in os.listdir(path) if "vm_" in name]

    def test_limits(self):
        client = self.sandbox.client()
        self.assertEqual(client.call("info")["cgroups"], "v1")
        request, vm = self.play_started(client, "hang")
        pid = self.vm_pid(client, vm)
        for controller in CONTROLLERS:
            self.assertIn(str(pid), self.leaf(controller, vm, "cgroup.procs").split())
        limit = int(self.leaf("memory", vm, "memory.limit_in_bytes"))
        memory = client.call("info")["limits"]["memory_mb_default"]
        self.assertGreater(limit, memory << 20)
        self.assertLess(limit, memory + 256 << 20)
        self.assertEqual(self.leaf("pids", vm, "pids.max"), "256")
        self.assertEqual(self.leaf("cpu", vm, "cpu.cfs_quota_us"), "200000")
        client.cancel(request)
        self.sandbox.assert_clean()
        until(lambda: not self.leaves(), "no leaf is left")

    def test_memory_limit(self):
        """A QEMU that takes more than it may is killed by the kernel, and who waits is told that."""
        client = self.sandbox.client()
        memory = client.call("info")["limits"]["memory_mb_default"]
        error = self.assert_error(3004, self.play, client, f"fill {memory + 256 << 20}")
        self.assertIn("its memory limit", error.message)
        self.assertEqual(self.play(client, "out again")["stdout"], "again\n")
        until(lambda: not self.leaves(), "no leaf is left")

    def test_limit_of_the_launcher(self):
        """The memory that is watched is that of the launcher's group: the next daemon is outside of it, as one is under systemd."""
        with open(f"{self.groups['memory']}/memory.limit_in_bytes", "w", encoding="ascii") as file:
            file.write(str(400 << 20))
        client = self.sandbox.client()
        self.play_started(client, "hang")
        launcher = self.sandbox.launcher()
        self.sandbox.signal(signal.SIGKILL)
        self.sandbox.wait()
        client.close()
        self.sandbox.clients.clear()
        self.sandbox.start()
        self.assertEqual(self.sandbox.launcher(), launcher)
        self.assertNotIn(str(self.sandbox.process.pid), self.leaf("memory", ".", "cgroup.procs").split())
        self.assertEqual(self.sandbox.client().call("memory.stats")["host"]["managed_bytes"], 400 << 20)

    def test_launcher_killed(self):
        """Leaves of a launcher that was killed are removed by the next one."""
        client = self.sandbox.client()
        request, _ = self.play_started(client, "hang")
        os.kill(self.sandbox.launcher(), 9)
        self.assert_error(3004, client.wait, request)
        self.assertTrue(self.leaves())
        self.assertEqual(self.play(client, "out again")["stdout"], "again\n")
        until(lambda: not self.leaves(), "no leaf is left")
