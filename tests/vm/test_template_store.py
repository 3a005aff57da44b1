# SPDX-License-Identifier: Apache-2.0
"""Templates that outlive their daemon, and what may happen to them on disk (fake QEMU)."""

import contextlib
import json
import os
import shutil
import signal
import subprocess

from pool_support import SETTINGS, PoolTest
from support import Daemon, until

FILES = ("ram", "state", "manifest.json")


class Store(PoolTest):
    def stored_pool(self, **settings):
        """A daemon that has stored its three templates and has ended."""
        sandbox = self.pool(pool_python=1, **settings)
        self.until_stored(sandbox, 3)
        until(lambda: not self.unfinished(sandbox), "nothing is being stored")
        self.end(sandbox, signal.SIGINT)
        return sandbox

    def unfinished(self, sandbox):
        return [name for name in os.listdir(os.path.join(sandbox.state, "templates")) if name.startswith(".")]

    def template_dir(self, sandbox, name="python-64"):
        found = [entry for entry in self.stored(sandbox) if entry.startswith(f"{name}-")]
        self.assertEqual(len(found), 1, found)
        return os.path.join(sandbox.state, "templates", found[0])

    def restart(self, sandbox):
        """Starts it again, with a log of its own, and uses its pool; what the log says."""
        os.unlink(sandbox.log_path)
        sandbox.start()
        with sandbox.client() as client:
            self.spares(client, 1)
            result = self.python(client, "standby")
            self.assertEqual((result["status"], result["start"], result["stdout"]), ("ok", "warm", "waited\n"))
        self.until_template(sandbox, "shell-64")
        return sandbox.log()

    def test_loaded(self):
        """A daemon that starts again builds nothing."""
        sandbox = self.stored_pool()
        log = self.restart(sandbox)
        for name in ("python-64", "javascript-64", "shell-64"):
            self.assertIn(f"{name}: loaded in", log)
        self.assertNotIn("built in", log)

    def test_another_qemu(self):
        """What was made with another QEMU is not loaded but replaced."""
        sandbox = self.stored_pool()
        before = self.stored(sandbox)
        os.utime(sandbox.program, ns=(1, 1))
        self.assertIn("python-64: built in", self.restart(sandbox))
        until(lambda: len(self.stored(sandbox)) == 3 and not set(before) & set(self.stored(sandbox)),
              "the old ones are gone, the new ones stored")

    def assert_rebuilt(self, sandbox, damage):
        """Only the damaged template is made anew, with a reason, and the store is whole again."""
        path = self.template_dir(sandbox)
        damage(path)
        log = self.restart(sandbox)
        self.assertIn("python-64: not loaded: ", log)
        self.assertIn("python-64: built in", log)
        self.assertIn("shell-64: loaded in", log)
        until(lambda: os.path.exists(path) and not self.unfinished(sandbox), "it is stored again")
        self.end(sandbox, signal.SIGINT)
        log = self.restart(sandbox)
        self.assertNotIn("built in", log)
        self.end(sandbox, signal.SIGINT)

    def test_truncated(self):
        sandbox = self.stored_pool()
        for name in FILES:
            for part in (0, 0.5):
                with self.subTest(name=name, part=part):
                    def damage(path, name=name, part=part):
                        path = os.path.join(path, name)
                        os.truncate(path, int(os.stat(path).st_size * part))
                    self.assert_rebuilt(sandbox, damage)

    def test_flipped(self):
        """One bit, anywhere: in the memory, the devices' state, the marker, a hash."""
        sandbox = self.stored_pool()
        for name, place in (("ram", 1 << 20), ("state", 30000), ("state", 8)):
            with self.subTest(name=name, place=place):
                self.assert_rebuilt(sandbox, lambda path, name=name, place=place:
                                    self.flip(os.path.join(path, name), place))
        with open(os.path.join(self.template_dir(sandbox), "manifest.json"), encoding="utf-8") as stream:
            text = stream.read()
        for key, value in self.leaves(json.loads(text)):
            if isinstance(value, str) and len(value) >= 32 and "/" not in value and " " not in value:
                with self.subTest(key=key):
                    self.assert_rebuilt(sandbox, lambda path, value=value: self.flip(
                        os.path.join(path, "manifest.json"), text.index(value) + 3))

    def leaves(self, value, key=""):
        if isinstance(value, dict):
            for name, part in value.items():
                if name != "identity":
                    yield from self.leaves(part, f"{key}.{name}")
        else:
            yield key, value

    def flip(self, path, place):
        with open(path, "r+b") as stream:
            stream.seek(place)
            byte = stream.read(1)[0]
            stream.seek(place)
            stream.write(bytes([byte ^ 1]))

    def test_deleted(self):
        sandbox = self.stored_pool()
        for name in FILES:
            with self.subTest(name=name):
                self.assert_rebuilt(sandbox, lambda path, name=name: os.unlink(os.path.join(path, name)))

    def test_replaced(self):
        """By what is no file, and by files of another template."""
        sandbox = self.stored_pool()
        other = self.template_dir(sandbox, "shell-64")
        for name in FILES:
            with self.subTest(name=name):
                self.assert_rebuilt(sandbox, lambda path, name=name: (
                    os.unlink(os.path.join(path, name)), os.mkfifo(os.path.join(path, name))))
                self.assert_rebuilt(sandbox, lambda path, name=name: shutil.copyfile(
                    os.path.join(other, name), os.path.join(path, name)))

    def test_deleted_while_in_use(self):
        """The store is emptied under a running daemon: what it has loaded is its own."""
        sandbox = self.pool(pool_python=1)
        self.until_stored(sandbox, 3)
        client = sandbox.client()
        self.spares(client, 1)
        store = os.path.join(sandbox.state, "templates")
        for name in self.stored(sandbox):
            shutil.rmtree(os.path.join(store, name))
        for _ in range(3):
            self.assertEqual(self.python(client, "out a")["status"], "ok")
        self.spares(client, 1)

    def test_no_store(self):
        """A directory that others may enter is not used: templates all the same, but not kept."""
        sandbox = self.stored_pool()
        os.chmod(os.path.join(sandbox.state, "templates"), 0o755)
        log = self.restart(sandbox)
        self.assertIn("Templates are not kept", log)
        self.assertIn("python-64: built in", log)

    def test_two_daemons(self):
        """One store for both, at the same time: both have their pools, and the store is whole."""
        first = self.prepare_pool(pool_python=1)
        second = self.prepare_pool(pool_python=1)
        second.state = first.state
        # The same program under the same name: the same identity.
        second.settings["qemu"] = second.program = first.program
        second.settings["bubblewrap"] = first.settings["bubblewrap"]
        # Both see all QEMUs of the program; which are whose only their lists tell.
        for sandbox in (first, second):
            sandbox.spawn()
            sandbox.assert_clean = lambda: None
        for sandbox in (first, second):
            until(sandbox.is_serving, "the daemon serves")
        for sandbox in (first, second):
            client = sandbox.client()
            self.spares(client, 1)
            self.assertEqual(self.python(client, "out a")["start"], "warm")
            self.until_template(sandbox, "shell-64")
        self.until_stored(first, 3)
        until(lambda: not self.unfinished(first), "nothing is being stored")
        for sandbox in (first, second):
            sandbox.signal(signal.SIGINT)
            self.assertEqual(sandbox.wait(), 0)
        self.assert_nothing_left(first)
        self.assertEqual(len(self.stored(first)), 3)
        self.assertNotIn("built in", self.restart(first))
        self.end(first, signal.SIGINT)

    @contextlib.contextmanager
    def small_disk(self, sandbox, size):
        os.makedirs(sandbox.state)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=711", "none", sandbox.state], check=True)
        try:
            yield
        finally:
            if sandbox.process.poll() is None:
                sandbox.signal(signal.SIGINT)
                sandbox.wait()
            subprocess.run(["umount", sandbox.state], check=True)

    def test_disk_full(self):
        """Templates that do not fit the disk: used, not kept, told why; nothing half written stays."""
        for size in ("4k", "40k", "100k"):
            sandbox = Daemon("normal", **{**SETTINGS, "pool_python": 1})
            sandbox.plan()
            self.addCleanup(sandbox.stop)
            with self.subTest(size=size), self.small_disk(sandbox, size):
                sandbox.start()
                client = sandbox.client()
                self.spares(client, 1)
                self.until_log(sandbox, "not stored, the next daemon builds it again", 3)
                self.assertIn("No space left on device", sandbox.log())
                for _ in range(3):
                    self.assertEqual(self.python(client, "out a")["status"], "ok")
                self.spares(client, 1)
                until(lambda: not self.unfinished(sandbox), "nothing half written stays")
                self.assertEqual(self.stored(sandbox), [])
                self.end(sandbox, signal.SIGINT)
