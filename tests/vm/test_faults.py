# SPDX-License-Identifier: Apache-2.0
"""What a hostile guest, or a host that runs out of something, costs: one VM or one request, with a typed error, and
only as long as it lasts (fake QEMU)."""

import contextlib
import os
import signal
import socket
import subprocess
import time

from client import Closed, RpcError
from pool_support import PoolTest
from support import SessionTest, VmTest, moment, until

# What a guest may not say: each ends its VM with 3006.
ABUSES = ("garbage", "oversized", "malformed", "unknown-exec", "gap", "early-exit", "second-hello", "host-frame")
# Under a flood of one guest, on a shared machine.
PROMPT_SECONDS = 2.0


class HostileGuest(SessionTest):
    """R9. Its VM dies, with the reason; another user's program, a session and the daemon go on as if nothing was."""

    settings = {"max_vms": 4, "boot_attempts": 1}

    def setUp(self):
        super().setUp()
        self.other = self.sandbox.client()
        self.kept = self.create(self.other)
        self.running, self.vm = self.play_started(self.other, "out before", "hang", timeout_seconds=60)

    def assert_unnoticed(self):
        """The program that ran meanwhile ends well, and the session that was there still works."""
        self.assertEqual(self.other.call("session.exec", session=self.kept, code="out on")["stdout"], "on\n")
        os.kill(self.vm_pid(self.other, self.vm), signal.SIGUSR1)
        result = self.other.wait(self.running)
        self.assertEqual((result["status"], result["stdout"]), ("ok", "before\n"))
        self.other.call("session.close", session=self.kept)

    def test_in_a_run(self):
        before = self.sandbox.rss()
        for name in ABUSES:
            with self.subTest(abuse=name):
                error = self.assert_error(3006, self.play, self.client, f"abuse {name}", "ignore")
                self.assertTrue(error.data["reason"])
                until(lambda vm=error.data["vm"]: vm not in self.sandbox.vm_directories(), "its VM is gone")
        self.assertLess(self.sandbox.rss() - before, 4 << 20)
        self.assert_unnoticed()

    def test_in_a_session(self):
        """Its program is told 3006; the session is closed, and says why."""
        for name in ABUSES:
            with self.subTest(abuse=name):
                session = self.create()
                request = self.client.request("session.exec", session=session, code=f"abuse {name}\nignore")
                self.assert_error(3006, self.client.wait, request)
                error = self.assert_error(4002, self.client.call, "session.info", session=session)
                self.assertEqual(error.data["reason"], "guest_protocol")
        self.assert_unnoticed()

    def test_beside_a_session(self):
        """A background process whose guest breaks its word takes the session's programs along, and no other's."""
        session = self.create()
        self.client.call("session.exec", session=session, command="trap", background=True)
        request = self.client.request("session.exec", session=session, code="abuse garbage\nignore")
        self.assert_error(3006, self.client.wait, request)
        self.assert_error(4002, self.client.call, "process.list", session=session)
        self.assert_unnoticed()

    def test_frame_without_end(self):
        """Nobody can tell a frame that never ends from a slow guest: its program ends at its deadline, and the VM with it."""
        begun = time.monotonic()
        result = self.play(self.client, "abuse never-ending", "ignore", timeout_seconds=0.3)
        self.assertEqual(result["status"], "timeout")
        self.assertLess(time.monotonic() - begun, 0.3 + PROMPT_SECONDS)
        session = self.create()
        result = self.client.call("session.exec", session=session, code="abuse never-ending\nignore", timeout_seconds=0.3)
        self.assertEqual(result["status"], "timeout")
        error = self.assert_error(4002, self.client.call, "session.info", session=session)
        self.assertEqual(error.data["reason"], "unresponsive")
        self.assert_unnoticed()

    def test_frames_without_end(self):
        """A guest that talks as fast as it is read keeps nobody else waiting, and ends at its deadline."""
        request, _ = self.play_started(self.client, "abuse flood", timeout_seconds=3)
        slowest, before = 0.0, self.sandbox.rss()
        stop = time.monotonic() + 2
        while time.monotonic() < stop:
            begun = time.monotonic()
            self.assertEqual(self.other.call("rpc.ping"), "pong")
            self.assertEqual(self.other.call("session.exec", session=self.kept, code="out on")["stdout"], "on\n")
            slowest = max(slowest, time.monotonic() - begun)
        print(f"beside a flood a ping and a program took {slowest * 1000:.0f} ms at the most")
        self.assertLess(slowest, PROMPT_SECONDS)
        self.assertLess(self.sandbox.rss() - before, 4 << 20)
        self.assertEqual(self.client.wait(request)["status"], "timeout")
        self.assert_unnoticed()


class Exhausted(VmTest):
    """R10: the host has no more of something, for a while."""

    def assert_works(self, client):
        self.assertEqual(self.play(client, "out again")["stdout"], "again\n")

    def limit(self, sandbox, descriptors, pid=None):
        """Sets how many the daemon may have, or its launcher, as the daemon's user, who may; returns what it was."""
        pid = pid or sandbox.process.pid
        with open(f"/proc/{pid}/limits", encoding="ascii") as file:
            before = next(line.split()[3] for line in file if line.startswith("Max open files"))
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            ids = {line.split()[0]: int(line.split()[1]) for line in file if line.startswith(("Uid:", "Gid:"))}
        subprocess.run(["prlimit", "--pid", str(pid), f"--nofile={descriptors}:"], check=True, user=ids["Uid:"], group=ids["Gid:"],
                       extra_groups=[])
        return int(before)

    def look_at_every_number(self, sandbox, pid):
        """With 0, 1, 2, … descriptors left, until a VM fits: a typed error each time, and no harm."""
        client = sandbox.client()
        client.call("rpc.ping")
        for left in range(64):
            before = self.limit(sandbox, len(os.listdir(f"/proc/{pid}/fd")) + left, pid)
            try:
                self.assertEqual(self.play(client, "out fits")["stdout"], "fits\n")
                break
            except RpcError as error:
                self.assertIn(error.code, (3002, 3003, 3005), f"{left} left: {error}")
                self.assertNotIn("\n", error.message)
                self.assertEqual(client.call("rpc.ping"), "pong")
            finally:
                self.limit(sandbox, before, pid)
                until(lambda: not sandbox.vm_directories(), "no directory of a VM is left")
        else:
            self.fail("64 descriptors are not enough for a VM")
        self.assertGreater(left, 0)
        self.assert_works(client)
        sandbox.assert_clean()

    def test_descriptors(self):
        sandbox = self.daemon("normal", boot_attempts=1)
        self.assert_works(sandbox.client())
        sandbox.assert_clean()
        self.look_at_every_number(sandbox, sandbox.process.pid)

    def test_descriptors_of_the_launcher(self):
        sandbox = self.daemon("normal", boot_attempts=1)
        self.assert_works(sandbox.client())
        sandbox.assert_clean()
        launcher = sandbox.launcher()
        self.look_at_every_number(sandbox, launcher)
        self.assertEqual(sandbox.launcher(), launcher)

    def test_descriptors_of_a_session(self):
        """Who has a session goes on with it when no other can be had."""
        sandbox = self.daemon("normal", boot_attempts=1)
        client = sandbox.client()
        session = client.call("session.create", language="shell")["session"]
        before = self.limit(sandbox, sandbox.descriptors() + 1)
        self.assert_error((3002, 3003, 3005), self.play, client, "out never")
        self.assert_error((3002, 3003, 3005), client.call, "session.create", language="shell")
        for _ in range(3):
            self.assertEqual(client.call("session.exec", session=session, code="out on")["stdout"], "on\n")
        self.limit(sandbox, before)
        self.assert_works(client)
        client.call("session.close", session=session)

    def test_no_descriptor_for_a_connection(self):
        """Who connects waits until there is one; who is connected is served; nobody spins."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        client.call("rpc.ping")
        before = self.limit(sandbox, sandbox.descriptors())
        with socket.socket(socket.AF_UNIX) as waiting:
            waiting.connect(sandbox.socket)
            waiting.sendall(b'{"jsonrpc":"2.0","id":1,"method":"rpc.ping"}\n')
            used = self.cpu_seconds(sandbox)
            waiting.settimeout(0.5)
            with self.assertRaises(TimeoutError):
                waiting.recv(1)
            self.assertEqual(client.call("rpc.ping"), "pong")
            self.assertLess(self.cpu_seconds(sandbox) - used, 0.2)
            self.limit(sandbox, before)
            waiting.settimeout(30)
            self.assertIn(b"pong", waiting.recv(4096))
        self.assert_works(client)

    def cpu_seconds(self, sandbox):
        with open(f"/proc/{sandbox.process.pid}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def test_connections_are_eaten(self):
        """A user who opens all connections there may be for one has the others refused, by name; they come back."""
        sandbox = self.daemon("normal", connections_per_uid=8)
        eaten = []
        with contextlib.suppress(Closed, ConnectionError):
            for _ in range(20):
                eaten.append(sandbox.client())
                eaten[-1].call("rpc.ping")
            self.fail("nobody was refused")
        self.assertEqual(eaten[0].call("rpc.ping"), "pong")
        self.assertLessEqual(len(eaten), 9)
        for client in eaten:
            client.close()
        until(lambda: sandbox.descriptors() <= sandbox.baseline, "they are closed")
        self.assert_works(sandbox.client())

    @contextlib.contextmanager
    def small_disk(self, path, options):
        os.makedirs(path, exist_ok=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", path], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", "-l", path], check=True)

    def test_runtime_directory_full(self):
        """No inode, then no block: nothing starts, what is there goes on, and all works when there is room."""
        sandbox = self.prepare("normal", boot_attempts=1)
        with self.small_disk(sandbox.runtime, "size=256k,nr_inodes=40,mode=755"):
            client = sandbox.start().client()
            session = client.call("session.create", language="shell")["session"]
            for fill in (self.fill_inodes, self.fill_blocks):
                with self.subTest(fill=fill.__name__):
                    filled = fill(sandbox.runtime)
                    error = self.assert_full(client)
                    self.assertEqual(client.call("session.exec", session=session, code="out on")["stdout"], "on\n")
                    self.assertEqual(client.call("rpc.ping"), "pong")
                    for path in filled:
                        os.unlink(path)
                    self.assert_works(client)
                    if error:
                        print(f"{fill.__name__}: {error.code} {error.message}")
            client.call("session.close", session=session)
            sandbox.assert_clean()
            sandbox.stop()

    def assert_full(self, client):
        """A new VM is refused, unless what it needs takes no room."""
        try:
            self.play(client, "out fits")
            return None
        except RpcError as error:
            self.assertIn(error.code, (3003, 3005))
            self.assertIn("No space left on device", error.message)
            return error

    def fill_inodes(self, folder):
        paths = []
        with contextlib.suppress(OSError):
            while True:
                paths.append(os.path.join(folder, f"filler-{len(paths)}"))
                os.close(os.open(paths[-1], os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        return paths[:-1]

    def fill_blocks(self, folder):
        path = os.path.join(folder, "filler")
        with open(path, "wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        return [path]


class Clock(VmTest):
    """R10: the host's wall clock jumps, a day ahead and three back: it is only shown, all deadlines are on the monotonic one."""

    DAY = 24 * 3600

    def prepare_clock(self):
        sandbox = self.prepare("normal", max_vms=1)
        sandbox.give_clock()
        return sandbox.start()

    def test_jumps(self):
        sandbox = self.prepare_clock()
        client = sandbox.client()
        begun = time.monotonic()
        request, _ = self.play_started(client, "hang", timeout_seconds=4)
        waiting = self.play_request(client, "out waited")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        for seconds in (self.DAY, -2 * self.DAY, 0, 7 * self.DAY):
            sandbox.clock.set(seconds)
            self.assertEqual(client.call("rpc.ping"), "pong")
            self.assertEqual(client.call("info")["vms"], {**client.call("info")["vms"], "current": 1, "queued": 1})
        result = client.wait(request)
        self.assertEqual(result["status"], "timeout")
        self.assertGreaterEqual(time.monotonic() - begun, 4)
        self.assertLess(time.monotonic() - begun, 4 + 2 * PROMPT_SECONDS)
        self.assertLess(result["timing"]["total_ms"], (4 + 2 * PROMPT_SECONDS) * 1000)
        self.assertEqual(client.wait(waiting)["stdout"], "waited\n")
        # That the clock did jump: what is made now is shown a week ahead.
        session = client.call("session.create", language="shell", idle_timeout_seconds=60)
        made = moment(session["created_at"])
        self.assertGreater(made - time.time(), 6 * self.DAY)
        sandbox.clock.set(-self.DAY)
        self.assertEqual(client.call("session.exec", session=session["session"], code="out on")["stdout"], "on\n")
        client.call("session.close", session=session["session"])


class NoMemory(PoolTest):
    """R10: there is no memory for a clone."""

    def starve(self, sandbox, kilobytes):
        """Programs that are spawned from now on have so much address space; 0: all there is."""
        path = os.path.join(sandbox.directory, "kilobytes")
        with open(path + ".new", "w", encoding="utf-8") as file:
            file.write(f"{kilobytes or 'unlimited'}\n")
        os.rename(path + ".new", path)

    def prepare_starved(self, **settings):
        sandbox = self.prepare_pool(**settings)
        path = os.path.join(sandbox.directory, "kilobytes")
        with open(sandbox.settings["bubblewrap"], encoding="utf-8") as file:
            script = file.read()
        with open(sandbox.settings["bubblewrap"], "w", encoding="utf-8") as file:
            file.write(script.replace("exec ", f"ulimit -v $(cat {path})\nexec ", 1))
        self.starve(sandbox, 0)
        return sandbox

    def test_no_memory_for_a_clone(self):
        """A run is told which VM failed and how; when there is memory again, clones are made as before."""
        sandbox = self.prepare_starved(pool_python=1, boot_attempts=1).start()
        client = sandbox.client()
        self.until_template(sandbox)
        self.spares(client, 1)
        request, vm = self.python_started(client, "hang")  # it has its memory, and keeps it
        self.starve(sandbox, 60_000)  # a template has 64 MiB
        second = sandbox.client()
        failed = None
        for _ in range(3):  # of which the first may get the spare that was made before
            try:
                self.python(second, "out lucky")
            except RpcError as error:
                failed = error
        self.assertIn(failed.code, (3001, 3003), failed.message)
        self.assertTrue(failed.data["retryable"])
        self.assertIn("emory", failed.message)
        self.release(client, vm)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.starve(sandbox, 0)
        self.assertEqual(self.python(second, "out again")["stdout"], "again\n")
        self.spares(client, 1)

    def test_template_spoilt_in_use(self):
        """A stored template that is cut, or changed, under a running daemon: that one has its own, sealed, and goes on;
        the next one says so and makes it anew."""
        for spoil in (self.cut, self.change):
            with self.subTest(spoil=spoil.__name__):
                sandbox = self.pool(pool_python=1)
                client = sandbox.client()
                self.until_stored(sandbox, 3)
                self.spares(client, 1)
                spoil(self.stored_ram(sandbox))
                for _ in range(3):
                    self.assertEqual(self.python(client, "out a")["stdout"], "a\n")
                self.spares(client, 1)
                client.close()
                self.end(sandbox)
                os.unlink(sandbox.log_path)
                sandbox.start()
                with sandbox.client() as client:
                    self.assertEqual(self.python(client, "out b")["stdout"], "b\n")
                    self.spares(client, 1)
                self.assertIn("python-64: not loaded: ", sandbox.log())
                self.assertIn("python-64: built in", sandbox.log())
                self.until_stored(sandbox, 3)

    def stored_ram(self, sandbox):
        name = next(name for name in self.stored(sandbox) if name.startswith("python-64-"))
        return os.path.join(sandbox.state, "templates", name, "ram")

    def cut(self, path):
        os.truncate(path, os.stat(path).st_size // 2)

    def change(self, path):
        with open(path, "r+b") as file:
            file.seek(1 << 20)
            byte = file.read(1)[0]
            file.seek(1 << 20)
            file.write(bytes([byte ^ 1]))
