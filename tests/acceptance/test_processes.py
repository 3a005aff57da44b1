# SPDX-License-Identifier: Apache-2.0
"""Background processes of a session in a real VM: terminals, signals, input, and execsandboxctl shell."""

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import time

from support import DEADLINE, DaemonTest, vms_seen

SERVER = """
import socket
server = socket.create_server(("127.0.0.1", 8000))
print("on", flush=True)
while True:
    server.accept()[0].sendall(b"hello\\n")
"""
CTL = os.environ.get("EXECSANDBOXCTL", "execsandboxctl")


class Processes(DaemonTest):
    def setUp(self):
        super().setUp()
        made = self.client.call("session.create", language="shell")
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(lambda: self.client.call("session.close", session=self.session))

    def start(self, command=None, **params):
        params.update({"command": command} if command else {})
        return self.client.call("session.exec", session=self.session, background=True, **params)["process"]

    def call(self, method, process, **params):
        return self.client.call(f"process.{method}", session=self.session, process=process, **params)

    def exec(self, command, **params):
        return self.client.call("session.exec", session=self.session, command=command, **params)

    def written(self, process, pattern):
        """Waits until its standard output has a match; returns all of it."""
        def match():
            text = self.call("wait", process, timeout_seconds=0.05)["stdout"]
            return text if re.search(pattern, text) else None
        return self.until(match, f"it has written {pattern!r}")

    def test_beside_the_programs(self):
        """It lives while programs come and go, which see it and may speak to it; its children end with it."""
        server = self.start(argv=["python3", "-c", SERVER])
        self.written(server, "on")
        self.assertEqual(self.exec("cat </dev/tcp/127.0.0.1/8000")["stdout"], "hello\n")
        self.call("signal", server, signal="INT")
        self.assertEqual(self.call("wait", server)["exit_code"], 130)
        parent = self.start("(setsid sleep 1000 &); sleep 1000 & exec 9>&1; echo on; read -r line; exit 3")
        self.written(parent, "on")
        self.assertEqual(self.exec("pgrep -c sleep")["stdout"], "2\n")
        self.call("write", parent, data="go\n")
        result = self.call("wait", parent)
        self.assertEqual((result["status"], result["exit_code"]), ("error", 3))
        self.assertGreater(result["usage"]["memory_peak_bytes"], 0)
        self.assertEqual(self.exec("pgrep -c sleep")["stdout"], "0\n")

    def test_starts_together(self):
        """Each has its own text, however close they start."""
        requests = [self.client.request("session.exec", session=self.session, background=True, command=f"echo {i}; # {i}")
                    for i in range(8)]
        results = [self.call("wait", self.client.wait(request)["process"]) for request in requests]
        self.assertEqual([result["stdout"] for result in results], [f"{i}\n" for i in range(8)])

    def test_all_places(self):
        """As many as there may be keep neither files nor programs from their places."""
        for _ in range(16):
            self.start("exec sleep 1000")
        self.client.call("file.write", session=self.session, path="f", data="x")
        self.assertEqual(self.exec("cat f")["stdout"], "x")

    def test_signals_and_input(self):
        process = self.start("trap 'echo hup' HUP; echo on; while read -r line; do echo \"<$line>\"; done; echo end >&2",
                             stdin="first\n")
        self.written(process, "<first>")
        self.call("signal", process, signal="SIGHUP")
        self.written(process, "hup")
        self.assertEqual(self.call("write", process, data="zwei ü\n"), {"bytes": 8})
        self.written(process, "<zwei ü>")
        self.call("close_stdin", process)
        result = self.call("wait", process, stdout_offset=3)
        self.assertEqual((result["status"], result["stderr"], result["stdout_offset"]), ("ok", "end\n", 3))
        self.assertEqual(result["stdout"][:8], "<first>\n")
        data = "x" * (3 << 20)
        counter = self.start("wc -c")
        self.assertEqual(self.call("write", counter, data=data), {"bytes": len(data)})
        self.call("close_stdin", counter)
        self.assertEqual(self.call("wait", counter)["stdout"], f"{len(data)}\n")

    def test_output_without_end(self):
        """The last bytes are kept, and a connection that follows it gets all that it reads."""
        process = self.start("seq 1000000; echo done")
        result = self.call("wait", process)
        self.assertEqual((result["stdout_bytes"], result["stdout_truncated"], len(result["stdout"])),
                         (6888896 + 5, True, 1 << 20))
        self.assertTrue(result["stdout"].endswith("\n999999\n1000000\ndone\n"))
        process = self.start("read -r line; seq 300000")
        self.client.call("session.attach", session=self.session, process=process)
        self.call("write", process, data="\n")
        self.call("wait", process)
        pieces = [params["data"] for method, params in self.client.notifications if method == "process.output"]
        self.assertEqual("".join(pieces), "".join(f"{i}\n" for i in range(1, 300001)))

    def test_out_of_memory(self):
        """Its memory is its own to run out of; the session and the others go on."""
        other = self.start("sleep 1000")
        result = self.call("wait", self.start("python3 -c 'x = bytearray(1 << 30)'"))
        self.assertIn(result["status"], ("oom", "error"))
        self.assertEqual(self.exec("echo on")["stdout"], "on\n")
        self.assertEqual(self.call("wait", other, timeout_seconds=0)["state"], "running")

    def test_terminal(self):
        process = self.start(argv=["bash", "--norc"], env={"PS1": "$ "}, terminal={"rows": 30, "columns": 90})
        self.written(process, r"\$ ")
        self.call("write", process, data="stty size; tty; echo $TERM\n")
        self.written(process, r"30 90\r\n/dev/pts/\d+\r\nxterm-256color\r\n")
        self.call("resize", process, rows=40, columns=120)
        self.call("write", process, data="stty size\n")
        self.written(process, r"40 120\r\n")
        # Ctrl-C is for the program in the foreground, Ctrl-Z and jobs work, Ctrl-D ends the shell.
        self.call("write", process, data="sleep 1000\n")
        self.until(lambda: self.exec("pgrep -x sleep")["stdout"], "it sleeps")
        self.call("write", process, data="\x03")
        self.written(process, r"\^C")
        self.call("write", process, data="echo $((100 + $?))\nsleep 1000\n")
        self.written(process, "230\r\n")
        self.until(lambda: self.exec("pgrep -x sleep")["stdout"], "it sleeps again")
        self.call("write", process, data="\x1a")
        self.written(process, "Stopped")
        self.call("write", process, data="disown\nexit 7\n")
        result = self.call("wait", process)
        self.assertEqual((result["status"], result["exit_code"], result["stderr"]), ("error", 7, ""))

    def test_directory(self):
        """One that is not there is the process's failure, as it is a program's."""
        self.assertEqual(self.call("wait", self.start("pwd", cwd="/tmp"))["stdout"], "/tmp\n")
        result = self.call("wait", self.start("echo x", cwd="nowhere"))
        self.assertEqual((result["status"], result["exit_code"], result["stdout"]), ("error", 127, ""))
        self.assertIn("'nowhere'", result["stderr"])

    # execsandboxctl

    def ctl(self, *words, **options):
        return subprocess.run([CTL, *words], capture_output=True, text=True, timeout=DEADLINE, check=False, **options)

    def test_ctl_verbs(self):
        process = self.ctl("session", "exec", self.session, "--background", "-c", "cat; echo bad >&2; exit 5").stdout.strip()
        self.assertIn(process, self.ctl("session", "ps", self.session).stdout)
        self.assertEqual(self.ctl("session", "write", self.session, process, "--end", input="text").returncode, 0)
        done = self.ctl("session", "wait", self.session, process, stdin=subprocess.DEVNULL)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("text", "bad\n", 5))
        self.assertEqual(self.ctl("session", "kill", self.session, process).returncode, 3)
        done = self.ctl("shell", self.session, input="echo out; echo err >&2; exit 9\n")
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("out\n", "err\n", 9))
        done = self.ctl("shell", "-l", "shell", "--", "wc", "-c", input="x" * 200000)
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("200000\n", "", 0))

    def test_ctl_shell_on_a_terminal(self):
        ours, theirs = pty.openpty()
        before = termios.tcgetattr(theirs)
        self.resize(theirs, 33, 77)
        shell = subprocess.Popen([CTL, "shell", self.session], stdin=theirs, stdout=theirs, stderr=theirs,
                                 start_new_session=True, env={**os.environ, "TERM": "vt100"})
        try:
            shown = self.expect(ours, rb"\$ $")
            os.write(ours, b"stty size; echo [$TERM]\n")
            self.assertIn(b"[vt100]", self.expect(ours, rb"33 77\r\n.*\$ $"))
            self.resize(theirs, 44, 88)
            shell.send_signal(signal.SIGWINCH)
            os.write(ours, b"sleep 1000\n")
            self.until(lambda: self.exec("pgrep -x sleep")["stdout"], "it sleeps")
            os.write(ours, b"\x03")
            self.expect(ours, rb"\^C.*\$ $")
            os.write(ours, b"stty size\n")
            self.expect(ours, rb"44 88\r\n.*\$ $")
            os.write(ours, b"(exit 6)\n")
            self.expect(ours, rb"\$ $")
            os.write(ours, b"\x04")
            self.assertEqual(shell.wait(DEADLINE), 6)
            self.assertEqual(termios.tcgetattr(theirs), before)
            self.hang_up(ours, theirs, before)
        finally:
            if shell.poll() is None:
                shell.kill()
            shell.wait()
            os.close(ours)
            os.close(theirs)
        del shown

    def hang_up(self, ours, theirs, before):
        """One that is told to end leaves the terminal as it was, and no shell behind."""
        shell = subprocess.Popen([CTL, "shell", self.session], stdin=theirs, stdout=theirs, stderr=theirs)
        self.expect(ours, rb"\$ $")
        shell.terminate()
        self.assertEqual(shell.wait(DEADLINE), 128 + signal.SIGTERM)
        self.assertEqual(termios.tcgetattr(theirs), before)
        self.until(lambda: self.client.call("session.info", session=self.session)["processes"] == 0, "it has ended")

    @staticmethod
    def resize(terminal, rows, columns):
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))

    def expect(self, terminal, pattern):
        """Reads until what came matches; returns it."""
        text, deadline = b"", time.monotonic() + DEADLINE
        while not re.search(pattern, text, re.DOTALL):
            self.assertLess(time.monotonic(), deadline, text)
            text += os.read(terminal, 65536)
        return text


class ProcessesOfAnInterpreter(DaemonTest):
    def test_interpreter_dies(self):
        """When the interpreter of the session dies, its processes go on; with the session they end."""
        made = self.client.call("session.create")
        vms_seen.add(made["vm"])
        session = made["session"]
        process = self.client.call("session.exec", session=session, command="sleep 1000", background=True)["process"]
        self.client.call("session.exec", session=session, code="import os; os._exit(1)")
        waiting = self.client.request("process.wait", session=session, process=process)
        listed = self.client.call("process.list", session=session)["processes"]
        self.assertEqual([one["state"] for one in listed], ["running"])
        self.client.call("session.close", session=session)
        with self.assertRaisesRegex(Exception, "4002"):
            self.client.wait(waiting)
