# SPDX-License-Identifier: Apache-2.0
"""VMs that do not come up, in every way one can fail to (fake QEMU)."""

import contextlib
import os
import signal
import socket
import time

import support
from support import VmTest, until


class Boots(VmTest):
    def failures(self, sandbox):
        return sandbox.log().count("Failed while starting")

    def assert_boot_fails(self, scenario, code, words, attempts=2):
        sandbox = self.daemon(scenario, boot_timeout_seconds=1, boot_attempts=2)
        client = sandbox.client()
        begun = time.monotonic()
        error = self.assert_error(code, self.play, client, "out never")
        self.assertIn(words, error.message)
        self.assertEqual(self.failures(sandbox), attempts)
        self.assertNotIn("result", error.data)
        sandbox.assert_clean()
        return error, time.monotonic() - begun

    def test_agent_silent(self):
        """3001 after boot_timeout, boot_attempts times, and worth another try."""
        error, seconds = self.assert_boot_fails("agent-silent", 3001, "agent has not answered")
        self.assertTrue(error.data["retryable"])
        self.assertGreaterEqual(seconds, 2.0)
        self.assertIn("Boot log: fake: booting", self.daemons[0].log())

    def test_no_identity(self):
        """A VM that did not take its identity is never used."""
        self.assert_boot_fails("no-identity", 3001, "agent has not answered")

    def test_qmp_silent(self):
        self.assert_boot_fails("qmp-silent", 3001, "QEMU has not answered")

    def test_agent_babbles(self):
        for scenario in ("agent-garbage", "agent-oversized", "agent-malformed", "agent-version",
                         "agent-early"):
            with self.subTest(scenario=scenario):
                self.assert_boot_fails(scenario, 3006, "broke the protocol")

    def test_qmp_garbage(self):
        self.assert_boot_fails("qmp-garbage", 3003, "QMP link failed")

    def test_dies(self):
        for scenario, words in (("dies-at-start", "cannot start the machine"),
                                ("dies-after-hello", "the end after HELLO")):
            with self.subTest(scenario=scenario):
                error, _ = self.assert_boot_fails(scenario, 3003, words)
                self.assertTrue(error.data["retryable"])

    def test_dies_when_ready(self):
        """Before or after dispatch, nobody can tell from outside: it never hangs."""
        sandbox = self.daemon("dies-when-ready", boot_attempts=2)
        self.assert_error((3003, 3004), self.play, sandbox.client(), "out never")

    def test_dies_after_exec(self):
        """After dispatch there is no second attempt: the code may have run."""
        sandbox = self.daemon("dies-after-exec", boot_attempts=3)
        error = self.assert_error(3004, self.play, sandbox.client(), "out never")
        self.assertFalse(error.data["retryable"])
        self.assertEqual(sandbox.log().count("starting -> ready"), 1)

    def test_killed_while_starting(self):
        """Each attempt's QEMU is killed from outside: 3003 after the last."""
        sandbox = self.daemon("agent-silent", boot_attempts=2)
        client = sandbox.client()
        request = self.play_request(client, "out never")
        for attempt in range(2):
            os.kill(self.only_vm(client)["pid"], signal.SIGKILL)
            until(lambda: self.failures(sandbox) > attempt, "the attempt has failed")
        error = self.assert_error(3003, client.wait, request)
        self.assertIn("QEMU ended", error.message)

    def test_second_attempt_works(self):
        """The first boot hangs, the second one works: the caller gets a result."""
        sandbox = self.daemon("agent-silent", boot_timeout_seconds=3, boot_attempts=2)
        client = sandbox.client()
        request = self.play_request(client, "out at last")
        pid = self.only_vm(client)["pid"]
        # Its pid is known before the jail has executed it.
        until(lambda: os.readlink(f"/proc/{pid}/exe") == sandbox.program, "the first one runs")
        # The next attempt finds a program that goes by another scenario.
        with open(sandbox.program + ".new", "w", encoding="utf-8") as stream:
            stream.write(f'#!/bin/sh\nexec {os.path.dirname(sandbox.program)}/fake_qemu "$@"\n')
        os.chmod(sandbox.program + ".new", 0o755)
        sandbox.program, first = os.path.join(os.path.dirname(sandbox.program), "fake_qemu"), sandbox.program
        sandbox.install_fake(support.FAKE_QEMU)
        os.rename(first + ".new", first)
        result = client.wait(request)
        self.assertEqual((result["status"], result["stdout"]), ("ok", "at last\n"))
        self.assertEqual(self.failures(sandbox), 1)

    def test_cancel_while_starting(self):
        sandbox = self.daemon("agent-silent")
        client = sandbox.client()
        request = self.play_request(client, "out never")
        self.only_vm(client)
        client.cancel(request)
        error = self.assert_error(-32800, client.wait, request)
        self.assertEqual(error.data["result"]["status"], "cancelled")

    def test_caller_gone_while_starting(self):
        sandbox = self.daemon("agent-silent")
        client, other = sandbox.client(), sandbox.client()
        self.play_request(other, "out never")
        pid = self.only_vm(client)["pid"]
        other.close()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its caller")

    def test_cancel_right_away(self):
        """Cancelled before the jail has told QEMU's pid."""
        sandbox = self.daemon("agent-silent", max_vms=8)
        client = sandbox.client()
        for _ in range(8):
            client.cancel(self.play_request(client, "out never"))
        for request in range(1, 9):
            self.assert_error(-32800, client.wait, request)

    def test_queues_of_a_busy_qemu(self):
        """Each daemon that is killed leaves its connections in them: the next ones find room."""
        sandbox = self.daemon("normal")
        client = sandbox.client()
        request, vm = self.play_started(client, "hang")
        pid = self.vm_pid(client, vm)
        os.kill(pid, signal.SIGSTOP)
        with contextlib.ExitStack() as stack:
            for name in ("qmp.sock", "agent.sock"):
                for _ in range(6):
                    daemon = stack.enter_context(socket.socket(socket.AF_UNIX))
                    daemon.setblocking(False)
                    daemon.connect(os.path.join(sandbox.runtime, "vm", vm, name))
        os.kill(pid, signal.SIGCONT)
        client.cancel(request)
        self.assert_error(-32800, client.wait, request)
