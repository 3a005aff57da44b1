# SPDX-License-Identifier: Apache-2.0
"""Sessions in real VMs: what stays from one program to the next, and what does not."""

import base64

from client import RpcError
from support import DaemonTest, connect, vms_seen


class Session(DaemonTest):
    def setUp(self):
        super().setUp()
        made = self.client.call("session.create", language="shell", env={"COLOR": "red"}, metadata={"test": self.id()})
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(self.close)

    def close(self):
        with connect() as client:
            try:
                client.call("session.close", session=self.session)
            except RpcError as error:
                self.assertEqual(error.code, 4002)

    def exec(self, command, **params):
        return self.client.call("session.exec", session=self.session, command=command, **params)

    def exec_ok(self, command, **params):
        result = self.exec(command, **params)
        self.assertEqual((result["status"], result["stderr"]), ("ok", ""), result)
        return result["stdout"]

    def test_files_stay(self):
        """Files, modes and links in the home directory and /tmp are there for the next program."""
        self.exec_ok("mkdir -p a/b && printf 'grüße' >a/b/c && chmod 600 a/b/c && ln -s a/b/c d && echo t >/tmp/t")
        self.assertEqual(self.exec_ok("cat d; stat -c ' %a' a/b/c; cat /tmp/t"), "grüße 600\nt\n")
        self.assertEqual(self.exec_ok("python3 -c 'print(open(\"d\").read()[:2])'"), "gr\n")

    def test_world(self):
        """Standard input, variables of the session and of the program, the words of argv."""
        self.assertEqual(self.exec_ok('cat; echo "$COLOR $SHAPE"', stdin="in ", env={"SHAPE": "round"}), "in red round\n")
        self.assertEqual(self.exec_ok('echo "$COLOR $SHAPE"', env={"COLOR": "blue"}), "blue \n")
        self.assertEqual(self.exec_ok('echo "$COLOR"'), "red\n")
        result = self.client.call("session.exec", session=self.session,
                                  argv=["printf", "%s|", "a b", "", "$HOME", "-n", "ü'\"\\"])
        self.assertEqual(result["stdout"], "a b||$HOME|-n|ü'\"\\|")
        result = self.client.call("session.exec", session=self.session, argv=["-no-such-program"])
        self.assertEqual((result["status"], result["exit_code"]), ("error", 127))
        sent = bytes(range(256)) * 64
        result = self.exec("cat", stdin=base64.b64encode(sent).decode(), stdin_encoding="base64")
        self.assertEqual(base64.b64decode(result["stdout"]), sent)

    def test_nothing_runs_on(self):
        """Processes of a program end with it: the next one is alone."""
        self.exec_ok("sleep 1000 & (setsid sleep 1000 &) ; echo started")
        self.assertEqual(self.exec_ok("ps -eo user,comm | grep -c '^user *sleep' || true"), "0\n")
        result = self.exec("trap '' TERM; setsid sleep 1000 & sleep 1000", timeout_seconds=0.5)
        self.assertEqual((result["status"], result["exit_code"]), ("timeout", 124))
        self.assertEqual(self.exec_ok("ps -eo user,comm | grep -c '^user *sleep' || true"), "0\n")

    def test_outcomes_are_its_own(self):
        """What one program does of its memory, its signals and its output is not the next one's."""
        self.assertEqual(self.exec("kill -SEGV $$")["signal"], "SIGSEGV")
        result = self.exec("python3 -c 'x = bytearray(1 << 30)'")
        self.assertIn(result["status"], ("oom", "error"))
        self.assertEqual(self.exec("head -c 3000000 /dev/zero | tr '\\0' x")["stdout_bytes"], 3000000)
        result = self.exec("echo on")
        self.assertEqual((result["status"], result["stdout"], result["usage"]["oom_kills"]), ("ok", "on\n", 0))

    def test_refused(self):
        for params in ({}, {"command": "echo", "argv": ["echo"]}, {"argv": []}, {"argv": [""]}, {"code": "print(1)"}):
            with self.assertRaises(RpcError) as caught:
                self.client.call("session.exec", session=self.session, **params)
            self.assertEqual(caught.exception.code, -32602, params)
        with self.assertRaises(RpcError) as caught:
            self.exec(" ")
        self.assertEqual((caught.exception.code, caught.exception.data["field"]), (2001, "command"))
