# SPDX-License-Identifier: Apache-2.0
"""Runs over a guest that is well, that lies, and that is taken away (fake QEMU)."""

import base64
import os
import signal
import time

from support import VmTest, processes, until

# Kill grace and time to report (API, "Closer rules"), and what a loaded machine adds.
KILL_SECONDS = 0.05 + 0.25
SLACK_SECONDS = 2.0


class Runs(VmTest):
    def setUp(self):
        super().setUp()
        self.sandbox = self.daemon("normal")
        self.client = self.sandbox.client()

    def test_outcomes(self):
        """Each end of a program has its status, exit code and signal."""
        for lines, status, exit_code, name in (
            (["out hello"], "ok", 0, None),
            (["exit 3"], "error", 3, None),
            (["signal 9"], "signal", 137, "SIGKILL"),
            (["signal 11"], "signal", 139, "SIGSEGV"),
            (["oom"], "oom", 137, "SIGKILL"),
        ):
            with self.subTest(lines=lines):
                result = self.play(self.client, *lines)
                self.assertEqual((result["status"], result["exit_code"], result["signal"]),
                                 (status, exit_code, name))
        self.assertEqual(self.play(self.client, "out one", "err two")["stdout"], "one\n")
        error = self.assert_error(3003, self.play, self.client, "failed no interpreter")
        self.assertIn("no interpreter", error.message)

    def test_data(self):
        """Megabytes of code and input arrive byte for byte and come back so."""
        sent = os.urandom(3 << 20)
        lines = ["cat"] + ["out x" * 60] * 3000
        result = self.play(self.client, *lines[:1], stdin=base64.b64encode(sent[:1 << 20]).decode(),
                           stdin_encoding="base64")
        self.assertEqual(result["stdout_encoding"], "base64")
        self.assertEqual(base64.b64decode(result["stdout"]), sent[:1 << 20])
        code = "\n".join(lines[1:])
        self.assertGreater(len(code), 900_000)
        result = self.client.call("run", language="shell", code=code)
        self.assertEqual(result["stdout"], "".join(line[4:] + "\n" for line in lines[1:]))

    def test_output_limits(self):
        """Output up to the limit is all there; a guest that sends more broke its word."""
        result = self.play(self.client, f"fill {1 << 20}")
        self.assertEqual((len(result["stdout"]), result["stdout_truncated"]), (1 << 20, False))
        self.assert_error(3006, self.play, self.client, f"fill {(1 << 20) + 1}")
        self.assert_error(3006, self.play, self.client, "fill 20000000")
        self.assert_error(3006, self.play, self.client, "fill 11", limits={"stdout_bytes": 10})

    def test_broken_protocol(self):
        """Every frame a guest may not send ends its VM, and says so; the run never hangs."""
        for name in ("garbage", "oversized", "malformed", "unknown-exec", "gap",
                     "early-exit", "second-hello", "host-frame"):
            with self.subTest(abuse=name):
                error = self.assert_error(3006, self.play, self.client, f"abuse {name}", "ignore")
                self.assertFalse(error.data["retryable"])
                self.assertTrue(error.data["reason"])
                self.assertTrue(error.data["vm"].startswith("vm_"))

    def test_frame_without_end(self):
        """A frame that never ends costs its own run, at its timeout."""
        result = self.play(self.client, "out before", "abuse never-ending", timeout_seconds=0.3)
        self.assertEqual(result["status"], "timeout")

    def test_forged_exit(self):
        """The end of another's exec does not end this one."""
        request, vm = self.play_started(self.client, "abuse forged-exit", "hang")
        self.client.call("rpc.ping")
        os.kill(self.vm_pid(self.client, vm), signal.SIGUSR1)
        self.assertEqual(self.client.wait(request)["exit_code"], 0)

    def test_qemu_ends(self):
        """A QEMU that ends while code runs: outcome unknown, with its last words."""
        error = self.assert_error(3004, self.play, self.client, "words it hurts", "die 3")
        self.assertFalse(error.data["retryable"])
        self.assertIn("it hurts", error.message)
        for name in ("GUEST_PANICKED", "SHUTDOWN"):
            self.assert_error(3004, self.play, self.client, f"event {name}", "ignore")

    def test_link_closes(self):
        """A guest link that hangs up under a living QEMU ends the run at its timeout."""
        result = self.play(self.client, "close", "ignore", timeout_seconds=0.3)
        self.assertEqual(result["status"], "timeout")

    def test_killed_while_running(self):
        request, vm = self.play_started(self.client, "out x", "hang")
        os.kill(self.vm_pid(self.client, vm), signal.SIGKILL)
        self.assert_error(3004, self.client.wait, request)

    def test_timeout(self):
        """Who leaves at SIGTERM and who ignores everything: both end in time."""
        for word in ("hang", "ignore"):
            with self.subTest(word=word):
                self.play(self.client, "out warm")
                begun = time.monotonic()
                result = self.play(self.client, "out so far", word, timeout_seconds=0.5)
                self.assertEqual((result["status"], result["exit_code"], result["stdout"]),
                                 ("timeout", 124, "so far\n"))
                self.assertLess(result["timing"]["execute_ms"],
                                (0.5 + KILL_SECONDS + SLACK_SECONDS) * 1000)
                self.assertGreaterEqual(time.monotonic() - begun, 0.5)

    def test_cancel_while_running(self):
        for word in ("hang", "ignore"):
            with self.subTest(word=word):
                request, _ = self.play_started(self.client, "out so far", word)
                self.client.wait_output(request, "so far")
                begun = time.monotonic()
                self.client.cancel(request)
                self.client.cancel(request)  # a second one changes nothing
                error = self.assert_error(-32800, self.client.wait, request)
                self.assertLess(time.monotonic() - begun, KILL_SECONDS + SLACK_SECONDS)
                self.assertEqual(error.data["result"]["status"], "cancelled")
                self.assertEqual(error.data["result"]["stdout"], "so far\n")

    def test_caller_gone_while_running(self):
        other = self.sandbox.client()
        _, vm = self.play_started(other, "ignore")
        pid = self.vm_pid(self.client, vm)
        other.close()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its caller")

    def test_caller_gone_while_killing(self):
        other = self.sandbox.client()
        request, vm = self.play_started(other, "ignore")
        pid = self.vm_pid(self.client, vm)
        other.cancel(request)
        other.call("rpc.ping")
        other.close()
        until(lambda: not os.path.exists(f"/proc/{pid}"), "QEMU ends with its caller")

    def test_wrapper_stuck_while_stopping(self):
        """A VM whose wrapper does not end is 'stopping', keeps its share, and is gone in the end."""
        _, vm = self.play_started(self.client, "hang", timeout_seconds=60)
        pid = self.vm_pid(self.client, vm)
        wrapper = next(process.parent for process in processes() if process.pid == pid)
        os.kill(wrapper, signal.SIGSTOP)
        os.kill(pid, signal.SIGKILL)
        states = set()

        def is_gone():
            vms = self.client.call("vm.list")["vms"]
            states.update(found["state"] for found in vms)
            current = self.client.call("info")["vms"]["current"]
            self.assertGreaterEqual(current, len(self.client.call("vm.list")["vms"]))
            return not vms
        until(is_gone, "the VM is gone")
        self.assertIn("stopping", states)
        self.assertFalse(os.path.exists(f"/proc/{wrapper}"))

    def test_many_runs_leave_nothing(self):
        """Forty runs of all kinds, four at a time: descriptors, processes and files are as before."""
        programs = (["out a"], ["die 1"], ["abuse garbage"], ["hang"], ["fill 300000"])
        requests = []
        for i in range(40):
            requests.append(self.play_request(self.client, *programs[i % len(programs)],
                                              timeout_seconds=0.2))
        for request in requests:
            try:
                self.client.wait(request)
            except Exception as error:  # the outcome is another test's
                self.assertIn(error.code, (3004, 3006))
        self.sandbox.assert_clean()
