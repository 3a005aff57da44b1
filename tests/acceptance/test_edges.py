# SPDX-License-Identifier: Apache-2.0
"""The table "Edge cases" of docs/SESSIONS.md: what programs at the edges get and give, in runs and in a session.

Cases of one kind follow each other in one session; a run gets as many of them as its one outcome can tell.
"""

import base64
import os
import re
import unittest

from support import DaemonTest, vms_seen

MIB = 1 << 20
HERE = os.path.dirname(os.path.abspath(__file__))
BOM = "\ufeff"
OK = {"status": "ok", "exit_code": 0, "signal": None, "stderr": "", "error": None}
TIMEOUT = {"status": "timeout", "exit_code": 124}
OOM = {"status": "oom", "exit_code": 137}
MANY = {f"N{i}": "x" for i in range(99)}
UNREAD = {"stdin": "x" * (4 * MIB)}


def failed(code, error=None):
    return {"status": "error", "exit_code": code, "signal": None, "error": error}


def signalled(name, number):
    return {"status": "signal", "exit_code": 128 + number, "signal": name}


def code_of(length, line, comment):
    """A program of exactly so many bytes."""
    text = f"{line}\n{comment}"
    return text + "x" * (length - len(text.encode()))


class EdgeTest(DaemonTest):
    def compare(self, result, expected):
        """`error` is the exception's name; a pattern where the text is not ours to say."""
        found = {**result, "error": result["error"] and result["error"]["name"]}
        for name, value in expected.items():
            if isinstance(value, re.Pattern):
                self.assertRegex(found[name], value, name)
            else:
                self.assertEqual(found[name], value, result if len(str(result)) < 3000 else name)

    def play_runs(self, language, cases):
        for code, params, expected in cases:
            with self.subTest(code=code[:80]):
                self.compare(self.run_code(code, language, **params), expected)


class Runs(EdgeTest):
    """One VM each."""

    def test_python(self):
        self.play_runs("python", (
            (BOM + "#!/usr/bin/env python3\r\nprint('é', len('''a\r\nb'''))\r\n", {}, {**OK, "stdout": "é 3\n"}),
            ("""import os, sys, time
for _ in range(50):
    if os.fork() == 0: os._exit(0)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(3); print("late", flush=True); time.sleep(1000)
    os._exit(0)
sys.stdout.write("x" * (1 << 20)); sys.stderr.buffer.write(b"\\xff"); sys.exit(255)""", {},
             {**failed(255), "stdout": "x" * MIB, "stderr": "/w==", "stderr_encoding": "base64"}),
            ("import os, time\nprint(sum(n[0] == 'N' for n in os.environ), time.strftime('%Z %H', time.localtime(0)))"
             "\nimport zoneinfo\nprint(zoneinfo.ZoneInfo('Asia/Tokyo'))",
             {"env": {**MANY, "TZ": "Asia/Tokyo"}, **UNREAD}, {**OK, "stdout": "99 JST 09\nAsia/Tokyo\n"}),
            ("import os\nos.close(0); os.close(1); os.close(2)", {}, {**OK, "stdout": ""}),
            ("def deep(n): return deep(n + 1)\ndeep(0)", {}, failed(1, "RecursionError")),
            ("bytearray(1 << 40)", {}, failed(1, "MemoryError")),
            ("import os\nos.kill(os.getpid(), 2)", {}, signalled("SIGINT", 2)),
            ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", {"timeout_seconds": 1}, TIMEOUT),
        ))

    def test_javascript(self):
        self.play_runs("javascript", (
            (BOM + "#!/usr/bin/env bun\r\nconsole.log('é', `a\r\nb`.length, '\\ud800');\r\n", {}, {**OK, "stdout": "é 3 \ufffd\n"}),
            ("""const { spawn } = require("child_process");
spawn("sh", ["-c", "sleep 3; echo late; sleep 1000"], { detached: true, stdio: "inherit" }).unref();
process.stdout.write("x".repeat(1 << 20)); process.stderr.write(Buffer.from([255])); process.exitCode = 255;""", {},
             {**failed(255), "stdout": "x" * MIB, "stderr": "/w==", "stderr_encoding": "base64"}),
            (code_of(MIB, "console.log(Object.keys(process.env).filter((n) => n[0] == 'N').length, new Date(0).getHours())", "//"),
             {"env": {**MANY, "TZ": "Asia/Tokyo"}, **UNREAD}, {**OK, "stdout": "99 9\n"}),
            ("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 9999)", {}, signalled("SIGTERM", 15)),
            ("process.abort()", {}, signalled("SIGABRT", 6)),
            ("require('fs').closeSync(1); console.log(1)", {}, {**OK, "stdout": ""}),
            ("function deep(n) { return deep(n + 1) + 1 }\ndeep(0)", {}, failed(1, "RangeError")),
            ("const kept = []; while (true) kept.push(new Uint8Array(1 << 20).fill(1))", {"timeout_seconds": 60}, OOM),
            ("while (true);", {"timeout_seconds": 1}, TIMEOUT),
        ))

    def test_shell(self):
        self.play_runs("shell", (
            (BOM + "echo 1", {}, {**failed(127), "stderr": re.compile("command not found")}),
            ("#!/no/such/shell\r\necho é\r\nset\r\n", {}, {"stdout": re.compile("^é\r\n")}),
            ("for i in {1..50}; do true & done; (setsid sh -c 'sleep 3; echo late; sleep 1000' &)\n"
             "head -c 1048576 /dev/zero | tr '\\0' x; printf '\\xff' >&2; exit 255", {},
             {**failed(255), "stdout": "x" * MIB, "stderr": "/w==", "stderr_encoding": "base64"}),
            (code_of(MIB, "env | grep -c ^N; date -d @0 +%Z%H; locale charmap; printf é | wc -m", "#"),
             {"env": {**MANY, "TZ": "Asia/Tokyo"}, **UNREAD}, {**OK, "stdout": "99\nJST09\nUTF-8\n1\n"}),
            ("kill -KILL $$", {}, signalled("SIGKILL", 9)),
            ("sh -c 'kill -SEGV $$'", {}, {**failed(139), "stderr": re.compile("Segmentation fault")}),
            ("exec >&-; echo no; echo $? >&2", {}, {**OK, "stdout": "", "stderr": re.compile("write error: Bad file descriptor\n1\n$")}),
            ("ulimit -s 256; deep() { deep; }; deep", {}, signalled("SIGSEGV", 11)),
            ("kill -STOP $$", {"timeout_seconds": 1}, TIMEOUT),
        ))


class InSession(EdgeTest):
    """One VM each; `code` of Python, `command` for the shell."""

    def setUp(self):
        super().setUp()
        made = self.client.call("session.create")
        vms_seen.add(made["vm"])
        self.session = made["session"]
        self.addCleanup(lambda: self.client.call("session.close", session=self.session))

    def exec(self, **params):
        return self.client.call("session.exec", session=self.session, **params)

    def play(self, what, cases):
        """(program, parameters, what its result has); the session goes on behind each."""
        for program, params, expected in cases:
            with self.subTest(**{what: program[:80]}):
                self.compare(self.exec(**{what: program}, **params), expected)

    def test_exit_codes(self):
        """Each of the 256 is what it is; numbers beyond are cut as the kernel cuts them."""
        self.exec(code="import sys")
        for status in range(256):
            expected = failed(status) if status else OK
            self.compare(self.exec(code=f"sys.exit({status})"), expected)
        for status in (0, 1, 2, 124, 126, 127, 128, 137, 254, 255):
            self.compare(self.exec(command=f"exit {status}"), failed(status) if status else OK)
        self.play("code", (
            ("sys.exit(256)", {}, OK), ("sys.exit(-1)", {}, failed(255)), ("sys.exit(10 ** 30)", {}, failed(255)),
            ("sys.exit()", {}, OK), ("sys.exit('why')", {}, {**failed(1), "stderr": "why\n"}), ("exit(3)", {}, failed(3)),
        ))

    def test_signals(self):
        """By name, 128 + number; real-time signals by number; what a program ignores or handles is its own affair."""
        names = {1: "SIGHUP", 2: "SIGINT", 4: "SIGILL", 5: "SIGTRAP", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 9: "SIGKILL",
                 10: "SIGUSR1", 11: "SIGSEGV", 12: "SIGUSR2", 13: "SIGPIPE", 14: "SIGALRM", 15: "SIGTERM", 16: "SIGSTKFLT",
                 24: "SIGXCPU", 25: "SIGXFSZ", 26: "SIGVTALRM", 27: "SIGPROF", 29: "SIGPOLL", 30: "SIGPWR", 31: "SIGSYS",
                 34: "SIG34", 64: "SIG64"}
        for number, name in names.items():
            self.compare(self.exec(command=f"kill -{number} $$"), signalled(name, number))
        self.play("command", (
            ("kill -QUIT $$; echo bash ignores it", {}, {**OK, "stdout": "bash ignores it\n"}),
            ("trap 'echo handled; exit 4' TERM; kill $$", {}, {**failed(4), "stdout": "handled\n"}),
            ("kill -STOP $$", {"timeout_seconds": 0.5}, TIMEOUT),
            ("sh -c 'kill $$'", {}, failed(143)),
        ))
        self.play("code", (
            ("import os, signal\nos.kill(os.getpid(), signal.SIGTERM)", {}, signalled("SIGTERM", 15)),
            ("import os\nos.abort()", {}, signalled("SIGABRT", 6)),
            ("import os\nos.kill(os.getpid(), 2)", {}, failed(130, "KeyboardInterrupt")),
        ))

    def test_alarm_behind_its_program(self):
        """A handler that raises when its program has ended costs nothing of the session."""
        self.play("code", (
            ("import signal, time\ndef ring(*_):\n    seen.append(1)\n    raise TimeoutError\nseen = []\n"
             "signal.signal(signal.SIGALRM, ring)\nold = signal.setitimer(signal.ITIMER_REAL, 0.2, 0.05)", {}, {**OK, "stdout": ""}),
        ))
        self.until(lambda: self.times_rung() > 2, "it has rung between programs")

    def times_rung(self):
        """It may ring in this program, too, which is then the one that is told."""
        result = self.exec(code="len(seen)")
        return int(result["stdout"]) if result["status"] == "ok" else 0

    def test_output(self):
        """Bytes as they were written: no newline is added or missed, lines may be long, text is text and the rest base64."""
        self.play("code", (
            ("print('é 日本 🎉', end='')", {}, {**OK, "stdout": "é 日本 🎉", "stdout_bytes": 14}),
            ("import sys, time\nfor piece in (b'a\\xc3', b'\\xbcb', b'\\nend'):\n"
             "    sys.stdout.buffer.write(piece); sys.stdout.flush(); time.sleep(0.05)\n", {}, {**OK, "stdout": "aüb\nend"}),
            ("_ = sys.stdout.buffer.write(bytes(range(256)))", {},
             {**OK, "stdout": base64.b64encode(bytes(range(256))).decode(), "stdout_encoding": "base64", "stdout_bytes": 256}),
            ("_ = sys.stdout.write('a\\0b')", {}, {**OK, "stdout": "a\0b"}),
            (f"_ = sys.stdout.write('x' * {MIB})", {}, {**OK, "stdout": "x" * MIB, "stdout_truncated": False}),
            (f"_ = sys.stdout.write('x' * {MIB + 1})", {}, {**OK, "stdout": "x" * MIB, "stdout_truncated": True}),
            ("print('\\ud800')", {}, failed(1, "UnicodeEncodeError")),
            ("import os\nos.close(0); os.close(1); os.close(2)", {}, {**OK, "stdout": ""}),
            ("print(1)", {}, {**OK, "stdout": "1\n"}),
            ("sys.stdout.close()\nprint(1)", {}, failed(1, "ValueError")),
            ("print(1)", {}, {**OK, "stdout": "1\n"}),
        ))
        self.play("command", (
            ("printf 'é\\nend'", {}, {**OK, "stdout": "é\nend"}),
            ("printf '\\377'", {}, {**OK, "stdout": "/w==", "stdout_encoding": "base64"}),
            ("exec >&- 2>&-; echo no; exit 5", {}, {**failed(5), "stdout": "", "stderr": ""}),
        ))

    def test_input(self):
        """It ends; nobody has to read it."""
        self.play("code", (
            ("input()", {}, failed(1, "EOFError")),
            ("import sys\nlen(sys.stdin.read())", UNREAD, {**OK, "stdout": f"{4 * MIB}\n"}),
            ("1", UNREAD, {**OK, "stdout": "1\n"}),
            ("sys.stdin.read(3)", UNREAD, {**OK, "stdout": "'xxx'\n"}),
            ("sys.stdin.read()", {}, {**OK, "stdout": "''\n"}),
        ))
        self.play("command", (
            ("read -r line; echo $?", {}, {**OK, "stdout": "1\n"}),
            ("echo 1", UNREAD, {**OK, "stdout": "1\n"}),
            ("head -c 3", UNREAD, {**OK, "stdout": "xxx"}),
            ("wc -c", UNREAD, {**OK, "stdout": f"{4 * MIB}\n"}),
        ))

    def test_processes(self):
        """What a program leaves: of a command nothing, of code what it wants, and no output of it."""
        children = "for _ in range(50):\n    if os.fork() == 0: os._exit(0)"
        daemon = ("if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
                  "        time.sleep(1); print('late', flush=True); time.sleep(1000)\n    os._exit(0)")
        self.play("code", (
            (f"import os, time\n{children}\n{daemon}\nprint('now')", {}, {**OK, "stdout": "now\n"}),
            ("time.sleep(1.5)", {}, {**OK, "stdout": ""}),
            ("ended = 0\ntry:\n    while os.waitpid(-1, 0)[0]: ended += 1\nexcept ChildProcessError: pass\nended", {},
             {**OK, "stdout": "51\n"}),
        ))
        self.play("command", (
            (f"python3 -c '''import os, time\n{children}\n{daemon}'''; echo now".replace("'''", '"'), {}, {**OK, "stdout": "now\n"}),
            ("sleep 1.5; ps -eo stat,user,comm | grep -e '^Z' -e python || true", {}, {**OK, "stdout": ""}),
        ))

    def test_depth_and_memory(self):
        """Python tells of both while it can; what it cannot tell of is the kernel's verdict. The session goes on."""
        self.play("code", (
            ("kept = 1\ndef deep(n): return deep(n + 1)\ndeep(0)", {}, failed(1, "RecursionError")),
            ("eval('(' * 1000 + ')' * 1000)", {}, failed(1, "SyntaxError")),
            ("bytearray(1 << 40)", {}, failed(1, "MemoryError")),
            ("kept", {}, {**OK, "stdout": "1\n"}),
            ("import ctypes\nctypes.string_at(0)", {}, signalled("SIGSEGV", 11)),
            ("'kept' in globals()", {}, {**OK, "stdout": "False\n"}),
        ))
        self.play("command", (
            ("ulimit -s 256; deep() { deep; }; deep", {}, signalled("SIGSEGV", 11)),
            ("python3 -c 'bytearray(1 << 40)'", {}, {**failed(1), "stderr": re.compile("MemoryError")}),
            ("tail /dev/zero", {}, OOM),
            ("echo on", {}, {**OK, "stdout": "on\n"}),
        ))

    def test_loops(self):
        """Whatever a program catches, at its deadline it ends."""
        self.exec(code="1")
        self.play("code", (
            ("while True:\n    try:\n        while True: pass\n    except BaseException: pass", {"timeout_seconds": 0.5}, TIMEOUT),
            ("1", {}, {**OK, "stdout": "1\n"}),
        ))
        self.play("command", (
            ("trap '' TERM INT HUP; while :; do :; done", {"timeout_seconds": 0.5}, TIMEOUT),
        ))

    def test_text(self):
        """Byte order marks, line ends, first lines: as the interpreters take them from a file."""
        self.play("code", (
            (BOM, {}, {**OK, "stdout": ""}),
            (BOM + "#!/usr/bin/env python3\r\nif True:\r\n    len('''a\r\nb''')\r\n7\r\n", {}, {**OK, "stdout": "7\n"}),
            ("print(1)\rprint(2)", {}, {**OK, "stdout": "1\n2\n"}),
            ("# -*- coding: latin-1 -*-\nprint('ü')", {}, {**OK, "stdout": "Ã¼\n"}),
            ("x = 'a\u2028b🎉'\nx", {}, {**OK, "stdout": "'a\\u2028b🎉'\n"}),
            ("   print(1)", {}, failed(1, "IndentationError")),
            (code_of(MIB, "2", "#"), {}, {**OK, "stdout": "2\n"}),
        ))
        self.play("command", (
            (BOM + "echo 1", {}, {**failed(127), "stderr": re.compile("command not found")}),
            ("#!/no/such/shell\necho 'a\r'\r", {}, {**OK, "stdout": "a\r\r\n"}),
            ("cat <<END\nhere", {}, {"status": "ok", "stdout": "here\n"}),
            (code_of(MIB, "echo 2", "#"), {}, {**OK, "stdout": "2\n"}),
        ))
        for what in ("code", "command"):
            for text in ("", " \n\t\r", "\0", "1\0", code_of(MIB + 1, "1", "#")):
                error = self.assert_error(2001, "CODE_INVALID", "session.exec", session=self.session, **{what: text})
                self.assertEqual(error.data["field"], what)

    def test_environment(self):
        """100 variables; the time zone and the locale are those that are asked for, and the program's only."""
        zone = "import os, time\ntime.strftime('%Z %H', time.localtime(0))"
        self.play("code", (
            ("import os\nsum(n[0] == 'N' for n in os.environ)", {"env": {**MANY, "N": "ü\n"}}, {**OK, "stdout": "100\n"}),
            ("sum(n[0] == 'N' for n in os.environ)", {}, {**OK, "stdout": "0\n"}),
            (zone, {}, {**OK, "stdout": "'UTC 00'\n"}),
            (zone, {"env": {"TZ": "Asia/Tokyo"}}, {**OK, "stdout": "'JST 09'\n"}),
            (zone, {"env": {"TZ": "<+0530>-5:30"}}, {**OK, "stdout": "'+0530 05'\n"}),
            (zone, {}, {**OK, "stdout": "'UTC 00'\n"}),
            ("from zoneinfo import ZoneInfo\nfrom datetime import datetime\n"
             "print(datetime(2026, 7, 1, tzinfo=ZoneInfo('Europe/Berlin')))", {}, {**OK, "stdout": "2026-07-01 00:00:00+02:00\n"}),
            ("import locale, sys\nlocale.getpreferredencoding(), sys.stdout.encoding, sys.getfilesystemencoding()", {},
             {**OK, "stdout": "('UTF-8', 'utf-8', 'utf-8')\n"}),
        ))
        self.play("command", (
            ("env | grep -c ^N", {"env": {**MANY, "N": "ü"}}, {**OK, "stdout": "100\n"}),
            ("date -d @0 +%Z%H", {"env": {"TZ": "Asia/Tokyo"}}, {**OK, "stdout": "JST09\n"}),
            ("locale charmap; printf é | wc -m; echo é >ü; ls ü", {}, {**OK, "stdout": "UTF-8\n1\nü\n"}),
        ))
        for what in ("code", "command"):
            error = self.assert_error(2002, "ENV_INVALID", "session.exec", session=self.session, env={**MANY, "A": "", "B": ""},
                                      **{what: "1"})
            self.assertEqual(error.data["max"], 100)


class Table(unittest.TestCase):
    def test_names_tests(self):
        """Each row of the table in docs/SESSIONS.md names tests that are there."""
        with open(os.path.join(HERE, "../../docs/SESSIONS.md"), encoding="utf-8") as page:
            table = page.read().partition("## Edge cases")[2].partition("\n## ")[0]
        rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
        self.assertGreater(len(rows), 20)
        for row in rows:
            names = re.findall(r"`(test_\w+)\.(\w+)\.(test_\w+)`", row.rpartition(" | ")[2])
            self.assertTrue(names, row)
            for module, group, test in names:
                with open(os.path.join(HERE, f"{module}.py"), encoding="utf-8") as source:
                    self.assertRegex(source.read(), rf"(?s)class {group}\(.*?def {test}\(", row)
