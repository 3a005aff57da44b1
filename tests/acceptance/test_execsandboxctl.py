# SPDX-License-Identifier: Apache-2.0
"""execsandboxctl against the live daemon: what a person at a terminal does."""

import json
import os
import signal
import subprocess
import sys
import unittest

from support import DEADLINE, HERE, SOCKET, DaemonTest, exclusive, needs_root, vms_seen

sys.path.append(os.path.join(HERE, "ctl"))
from tmux import Terminal  # noqa: E402

CTL = os.environ.get(
    "EXECSANDBOXCTL", os.path.join(HERE, "../../build/ctl/execsandboxctl")
)


@unittest.skipUnless(os.access(CTL, os.X_OK), "needs execsandboxctl, see EXECSANDBOXCTL")
class Ctl(DaemonTest):
    def ctl(self, *words, stdin=b""):
        return subprocess.run(
            [CTL, "--socket", SOCKET, *words], input=stdin, capture_output=True,
            timeout=DEADLINE, check=False,
        )

    def test_run(self):
        """run: code, arguments, input, environment; both outputs, exact bytes, exit status."""
        done = self.ctl(
            "run", "-e", "MODE=fast", "-t", "20", "-m", "128", "-c",
            "import os, sys\n"
            "sys.stdout.buffer.write(b'\\xff\\x00' + os.environb[b'MODE'])\n"
            "print(sys.argv[1:], sys.stdin.read(), file=sys.stderr)\nsys.exit(9)",
            "--", "a b", "ü", stdin="grüße".encode(),
        )
        self.assertEqual(done.stdout, b"\xff\x00fast")
        self.assertEqual(done.stderr.decode(), "['a b', 'ü'] grüße\n")
        self.assertEqual(done.returncode, 9)

    def test_run_stdin_code(self):
        """Piped code with a first line; --json; a timeout is 124."""
        done = self.ctl("run", "--json", "-t", "3", stdin=b"#!/bin/sh\necho hi\nsleep 50\n")
        result = json.loads(done.stdout)
        vms_seen.add(result["vm"])
        self.assertEqual((result["language"], result["status"]), ("shell", "timeout"))
        self.assertEqual((result["stdout"], done.returncode), ("hi\n", 124))

    def test_run_refused(self):
        """What the daemon refuses: 125, the message and the hint."""
        done = self.ctl("run", "-l", "cobol", "-c", "x")
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"cobol", done.stderr)
        self.assertIn(b"known: python javascript shell", done.stderr)
        done = self.ctl("run", "-c", " ")
        self.assertEqual((done.returncode, done.stdout), (125, b""))
        self.assertIn(b"\nhint: ", done.stderr)

    def test_ctrl_c(self):
        """Output comes as it is written; Ctrl-C ends the program in its VM and exits with 130."""
        process = subprocess.Popen(
            [CTL, "--socket", SOCKET, "run", "-c",
             "import time\nprint('begun', flush=True)\nwhile True:\n    time.sleep(1)\n"],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )
        self.assertEqual(process.stdout.readline(), b"begun\n")
        process.send_signal(signal.SIGINT)
        self.assertEqual(process.wait(DEADLINE), 130)
        process.stdout.close()

    @needs_root
    def test_look_around(self):
        """list, memory stats, memory balloon and events show a VM that runs; status, doctor."""
        request_id = self.start("import time\nprint(1, flush=True)\nwhile True:\n    time.sleep(1)\n")
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "1")
        self.assertRegex(self.ctl("list").stdout.decode(), rf"(?m)^{vm} +running +python +\d+ +256 ")
        self.assertIn(vm, self.ctl("memory", "stats").stdout.decode())
        self.assertRegex(
            self.ctl("memory", "balloon", vm, "200").stdout.decode(), rf"^{vm}: \d.* of 200 MiB"
        )
        self.assertRegex(self.ctl("memory", "stats", vm).stdout.decode(), rf"(?m)^{vm} .* yes ")
        self.assertRegex(
            self.ctl("memory", "reclaim", "--vm", vm, "1M").stdout.decode(), "of 1 MiB asked for"
        )
        listed = json.loads(self.ctl("list", "--json").stdout)
        self.assertIn(vm, [entry["vm"] for entry in listed["vms"]])
        event = json.loads(
            self.ctl("events", "vm.ready", "--since", "0", "-n", "1", "--json").stdout
        )
        self.assertEqual(event["type"], "vm.ready")
        self.stop(request_id)
        self.assertEqual(self.ctl("memory", "stats", "vm_nobody").returncode, 3)
        status = self.ctl("status")
        self.assertEqual((status.returncode, status.stdout.split()[0]), (0, b"ready"))
        checks = {
            check["name"]: check
            for check in json.loads(self.ctl("doctor", "--json").stdout)["checks"]
        }
        for name in ("socket", "daemon", "accelerator", "qemu", "bubblewrap", "sealing", "images"):
            self.assertEqual(checks[name]["verdict"], "ok", checks[name])

    def test_sessions(self):
        """A session from create to close; its programs have run's output, input and exit status."""
        session = self.ctl("session", "create", "-l", "shell", "-n", "ctl-test", "-e", "A=1").stdout.decode().strip()
        self.assertRegex(session, "^ses_[0-9a-f]{16}$")
        vms_seen.add(self.client.call("session.info", session=session)["vm"])
        first = self.ctl("session", "exec", "ctl-test", "-c", "cat >kept; echo $A; exit 7", stdin=b"in")
        self.assertEqual((first.returncode, first.stdout), (7, b"1\n"))
        second = self.ctl("session", "exec", session, "--exec-id", session, "--", "cat", "kept")
        self.assertEqual((second.returncode, second.stdout), (0, b"in"))
        result = json.loads(self.ctl("session", "result", session, "--json").stdout)
        self.assertEqual((result["status"], result["stdout"]), ("ok", "in"))
        self.assertRegex(self.ctl("session", "list").stdout.decode(), rf"(?m)^{session} +ctl-test +idle +shell ")
        self.assertRegex(self.ctl("session", "update", session, "-i", "99").stdout.decode(), "idle_timeout_seconds +99")
        self.assertIn("execs", self.ctl("session", "info", session).stdout.decode())
        for code, stdout in (("kept=1", b""), ("echo $kept", b"1\n")):
            self.assertEqual(self.ctl("session", "exec", session, "-p", code).stdout, stdout)
        third = self.ctl("session", "exec", session, "-C", "/usr", "-c", 'pwd; echo "$@"', "--", "a", "-b")
        self.assertEqual((third.returncode, third.stdout), (0, b"/usr\na -b\n"))
        for wrong in ([], ["-c", "echo", "-p", "1"]):
            self.assertEqual(self.ctl("session", "exec", session, *wrong).returncode, 125)
        self.assertEqual(self.ctl("session", "close", "ctl-test").returncode, 0)
        self.assertEqual(self.ctl("session", "info", session).returncode, 3)
        self.assertEqual(self.ctl("session", "result", "no such").returncode, 3)

    @needs_root
    @exclusive
    def test_top(self):
        """top: a VM that runs has a row; s and r move its balloon, and the row says so."""
        request_id = self.start("import time\nprint(1, flush=True)\nwhile True:\n    time.sleep(1)\n")
        vm = self.vm_of(request_id)
        self.client.wait_output(request_id, "1")
        self.assertRegex(self.ctl("top", "--once").stdout.decode(), rf"(?m)^{vm} +python +busy ")
        terminal = Terminal(dict(os.environ, EXECSANDBOX_SOCKET=SOCKET))
        self.addCleanup(terminal.close)
        terminal.type(f"exec {CTL} top -i 0.5")
        terminal.wait_for(rf"^{vm} +python ")
        terminal.keys(*"<<<<<<", "Home", "s")  # by state: who runs code is before the spares
        terminal.wait_for(f"^Squeeze {vm} ")
        terminal.keys("BSpace", "BSpace", "BSpace", *"160", "Enter")
        terminal.wait_for(rf"^{vm} has 1\d\d[\d.]* MiB$")
        terminal.wait_for(rf"^{vm} +python +\w+! +256M +\w+ +160M +160M ")
        terminal.keys("r")
        terminal.wait_for(rf"^{vm} has 256 MiB$")
        terminal.wait_for(rf"^{vm} +python +\w+ +256M +\w+ +256M +256M ")
        self.stop(request_id)
        terminal.wait_until(lambda screen: f"{vm} " not in screen.split("has 256")[0], "its end")

    @needs_root
    def test_numbers(self):
        """memory policy shows the policy, metrics the numbers."""
        self.assertRegex(self.ctl("memory", "policy").stdout.decode(), r"(?m)^mode +auto$")
        done = self.ctl("memory", "policy", "floor_mb=1")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"floor_mb", done.stderr)
        self.assertRegex(self.ctl("metrics").stdout.decode(), r"(?m)^execsandbox_build_info\{")

    def test_call(self):
        """call: any method, with notifications before the result."""
        done = self.ctl(
            "call", "run", "language=shell", "code=echo hi", "stream:=true",
            "limits.memory_mb:=128",
        )
        lines = done.stdout.decode().splitlines()
        self.assertEqual(json.loads(lines[0])["method"], "run.started")
        self.assertEqual(json.loads(lines[1])["params"]["data"], "hi\n")
        result = json.loads("\n".join(lines[2:]))
        vms_seen.add(result["vm"])
        self.assertEqual(result["stdout"], "hi\n")
        self.assertEqual(self.ctl("call", "no.such").returncode, 1)
