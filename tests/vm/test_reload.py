# SPDX-License-Identifier: Apache-2.0
"""Reading the configuration again: all of it or nothing, by call and by signal; and the drain that is asked for (fake QEMU)."""

import os
import signal

from pool_support import PoolTest
from support import VmTest, until


class ReloadTest(VmTest):
    def prepare(self, scenario=None, text="", **settings):
        sandbox = super().prepare(scenario, **settings)
        sandbox.config = os.path.join(sandbox.directory, "execsandboxd.conf")
        self.write(sandbox, text)
        return sandbox

    def write(self, sandbox, text):
        with open(sandbox.config + ".new", "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(sandbox.config + ".new", 0o644)
        os.rename(sandbox.config + ".new", sandbox.config)

    def reload(self, client, sandbox, text):
        """{key: (from, to)} of what has changed."""
        self.write(sandbox, text)
        return {entry["key"]: (entry["from"], entry["to"]) for entry in client.call("daemon.reload")["changed"]}

    def refused(self, client, sandbox, text):
        self.write(sandbox, text)
        error = self.assert_error(1004, client.call, "daemon.reload")
        self.assertEqual(error.data["name"], "CONFIG_REFUSED")
        self.assertIn("nothing was changed", error.data["hint"])
        return error


class Reload(ReloadTest):
    def limits(self, client):
        return client.call("info")["limits"]

    def test_limits_hold_at_once(self):
        sandbox = self.daemon("normal")
        client = sandbox.client()
        changed = self.reload(client, sandbox, "[limits]\ncode_max_bytes = 8\nmax_timeout_seconds = 90\n")
        self.assertEqual(changed, {"code_max_bytes": ("1M", "8"), "max_timeout_seconds": ("3600", "90")})
        self.assertEqual(self.limits(client)["code_bytes_max"], 8)
        self.assertEqual(self.limits(client)["timeout_seconds_max"], 90)
        self.assert_error(2001, self.play, client, "out 123456789")
        self.assertEqual(self.reload(client, sandbox, "[limits]\ncode_max_bytes = 8\n"), {"max_timeout_seconds": ("90", "3600")})
        self.assertEqual(self.reload(client, sandbox, "[limits]\ncode_max_bytes = 8\n"), {})
        self.assertIn("changed max_timeout_seconds, code_max_bytes", sandbox.log())

    def test_mistakes_change_nothing(self):
        """One wrong line of many: the answer names file and line, and the right ones are not taken over either."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        before = self.limits(client)
        for text, line, word in (
            ("[limits]\ncode_max_bytes = 8\nenv_max = lots\n", 3, "env_max"),
            ("[limits]\ncode_max_bytes = 8\nno_such_key = 1\n", 3, "no_such_key"),
            ("[limits]\nenv_max = 5\n\n[nowhere]\nx = 1\n", 4, "nowhere"),
        ):
            error = self.refused(client, sandbox, text)
            self.assertEqual(error.data["reason"], "invalid")
            self.assertTrue(error.data["problems"][0].startswith(f"{sandbox.config}:{line}: "), error.data["problems"])
            self.assertIn(word, error.message)
        self.assertIn("(and 1 more)", self.refused(client, sandbox, "[limits]\nx = 1\ny = 2\n").message)
        # Each value is good, but not with the others.
        error = self.refused(client, sandbox, "[limits]\nenv_max = 5\nmax_timeout_seconds = 10\n")
        self.assertIn("default_timeout_seconds", error.message)
        os.unlink(sandbox.config)
        self.assertIn(sandbox.config, self.assert_error(1004, client.call, "daemon.reload").message)
        self.assertEqual(self.limits(client), before)
        self.assertEqual(self.play(client, "out on")["stdout"], "on\n")

    def test_keys_for_a_restart(self):
        """Named, all of them; and what could be taken over beside them is not."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        before = self.limits(client)
        error = self.refused(client, sandbox, "[daemon]\nnode = other\n[limits]\nenv_max = 5\n[memory]\ndefault_memory_mb = 512\n")
        self.assertEqual(error.data["reason"], "restart")
        self.assertEqual(error.data["keys"], ["node", "default_memory_mb"])
        self.assertIn("node, default_memory_mb", error.message)
        self.assertIn("restart", error.data["hint"])
        self.assertEqual(self.limits(client), before)

    def test_command_line_still_counts(self):
        """What --set says hides the file's value at a reload as at the start."""
        sandbox = self.daemon("normal", env_max=7)
        client = sandbox.client()
        self.assertEqual(self.reload(client, sandbox, "[limits]\nenv_max = 5\nargs_max = 6\n"), {"args_max": ("100", "6")})
        self.assertEqual((self.limits(client)["env_max"], self.limits(client)["args_max"]), (7, 6))

    def test_more_room(self):
        """Runs that wait for a place are let in by a reload that gives more; one that gives fewer ends nobody."""
        sandbox = self.prepare("normal", text="[vm]\nmax_vms = 1\n")
        del sandbox.settings["max_vms"]
        client = sandbox.start().client()
        first, vm = self.play_started(client, "hang")
        waiting = self.play_request(client, "out in")
        until(lambda: client.call("info")["vms"]["queued"] == 1, "one waits")
        self.assertEqual(self.reload(client, sandbox, "[vm]\nmax_vms = 2\n"), {"max_vms": ("1", "2")})
        self.assertEqual(client.wait(waiting)["stdout"], "in\n")
        self.reload(client, sandbox, "[vm]\nmax_vms = 1\nqueue_max = 0\n")
        os.kill(self.vm_pid(client, vm), signal.SIGUSR1)
        self.assertEqual(client.wait(first)["status"], "ok")

    def test_memory(self):
        """Keys of the policy are taken over; what memory.policy set stays where the file says what it said."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        client.call("memory.policy", reserve_mb=700)
        self.reload(client, sandbox, "[memory]\nmemory_budget_mb = 900\nmemory_control = off\n")
        policy = client.call("memory.policy")
        self.assertEqual((policy["mode"], policy["budget_mb"], policy["reserve_mb"]), ("off", 900, 700))
        self.reload(client, sandbox, "[memory]\nmemory_budget_mb = 900\nhost_reserve_mb = 600\n")
        policy = client.call("memory.policy")
        self.assertEqual((policy["mode"], policy["budget_mb"], policy["reserve_mb"]), ("auto", 900, 600))

    def test_smaller_buffers(self):
        """A limit that falls below what a user holds: more is refused, nothing wraps round, nobody is thrown out."""
        sandbox = self.daemon("normal", text="[limits]\nbuffered_bytes_per_uid = 64M\n", max_vms=1)
        client = sandbox.client()
        first, vm = self.play_started(client, "hang")
        held = [self.play_request(client, "out x", stdin="x" * (4 << 20)) for _ in range(3)]
        until(lambda: client.call("info")["vms"]["queued"] == len(held), "they wait")
        self.reload(client, sandbox, "[limits]\nbuffered_bytes_per_uid = 16M\n")
        self.assert_error(1003, self.play, client, "out never", stdin="x" * 100_000)
        os.kill(self.vm_pid(client, vm), signal.SIGUSR1)
        for request in (first, *held):
            self.assertEqual(client.wait(request)["status"], "ok")

    def test_signal(self):
        """SIGHUP: the same, and the log says what came of it."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        self.write(sandbox, "[limits]\nenv_max = 5\n")
        sandbox.signal(signal.SIGHUP)
        until(lambda: "Configuration read again: changed env_max" in sandbox.log(), "it is taken over")
        self.assertEqual(self.limits(client)["env_max"], 5)
        self.write(sandbox, "[limits]\nenv_max = five\n")
        sandbox.signal(signal.SIGHUP)
        until(lambda: "Configuration not taken over: " in sandbox.log(), "it is refused")
        self.assertEqual(self.limits(client)["env_max"], 5)


class ReloadPool(ReloadTest, PoolTest):
    def test_sizes(self):
        """A size of the file is taken over; what pool.set said stays while the file says the same."""
        sandbox = self.prepare_pool(pool_python=1)
        del sandbox.settings["pool_python"]
        self.write(sandbox, "[pool]\npool_python = 1\n")
        client = sandbox.start().client()
        self.spares(client, 1)
        self.reload(client, sandbox, "[pool]\npool_python = 2\n")
        self.spares(client, 2)
        client.call("pool.set", language="python", size=1)
        self.spares(client, 1)
        self.assertEqual(self.reload(client, sandbox, "[pool]\npool_python = 2\n[limits]\nenv_max = 5\n"), {"env_max": ("100", "5")})
        self.assertEqual(client.call("pool.get", language="python")["target"], 1)
        self.reload(client, sandbox, "[pool]\npool_python = 0\n[limits]\nenv_max = 5\n")
        self.spares(client, 0)


class Drain(VmTest):
    def test_drain(self):
        """daemon.drain is answered at once; what runs ends by itself, new work and reloads are refused, then the daemon ends."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        request, vm = self.play_started(client, "hang")
        pid = self.vm_pid(client, vm)
        self.assertEqual(client.call("daemon.drain"), {"vms": 1})
        self.assertEqual(client.call("daemon.drain"), {"vms": 1})
        self.assert_error(1001, self.play, client, "out never")
        self.assert_error(1001, client.call, "daemon.reload")
        self.assertIsNone(sandbox.process.poll())
        os.kill(pid, signal.SIGUSR1)
        self.assertEqual(client.wait(request)["status"], "ok")
        self.assertEqual(sandbox.wait(), 0)

    def test_drain_of_an_idle_daemon(self):
        """Its answer is out before it ends."""
        sandbox = self.daemon("normal")
        self.assertEqual(sandbox.client().call("daemon.drain"), {"vms": 0})
        self.assertEqual(sandbox.wait(), 0)
