#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""execsandboxctl as a black box against a scripted daemon: what it sends, prints and exits with.

EXECSANDBOXCTL names the program (default: build/ctl/execsandboxctl of this tree).
"""

import base64
import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest

TREE = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../.."))
sys.path.insert(0, os.path.join(TREE, "tests/fake"))
from fake_daemon import FakeDaemon  # noqa: E402

CTL = os.environ.get("EXECSANDBOXCTL", os.path.join(TREE, "build/ctl/execsandboxctl"))
DEADLINE = 20

ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in ("EXECSANDBOX_SOCKET", "NO_COLOR")
}


def run_result(**changes):
    result = {
        "status": "ok", "exit_code": 0, "signal": None, "stdout": "", "stderr": "",
        "stdout_truncated": False, "stderr_truncated": False, "stdout_bytes": 0,
        "stderr_bytes": 0, "error": None, "vm": "vm_1", "language": "python",
    }
    result.update(changes)
    return result


def answer(result):
    """A handler that answers with a result."""
    return lambda connection, request: connection.result(request, result)


def fail(code, message, **data):
    """A handler that answers with an error."""
    return lambda connection, request: connection.error(request, code, message, **data)


class CtlTest(unittest.TestCase):
    def ctl(self, *words, daemon=None, stdin=subprocess.DEVNULL, **options):
        """Runs execsandboxctl; `stdin` may be bytes."""
        environment = dict(ENVIRONMENT, **options.pop("env", {}))
        if daemon:
            environment.setdefault("EXECSANDBOX_SOCKET", daemon.path)
        if isinstance(stdin, bytes):
            options["input"] = stdin
        else:
            options["stdin"] = stdin
        return subprocess.run(
            [CTL, *words], env=environment, capture_output=True, timeout=DEADLINE, **options
        )

    def run_params(self, *words, stdin=subprocess.DEVNULL, **options):
        """The params of the `run` that these words send."""
        with FakeDaemon({"run": answer(run_result())}) as daemon:
            done = self.ctl("run", *words, daemon=daemon, stdin=stdin, **options)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len(daemon.requests), 1)
            return daemon.requests[0]["params"]

    def file(self, name, text):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        path = os.path.join(directory.name, name)
        with open(path, "w", encoding="utf-8") as stream:
            stream.write(text)
        return path

    def check_json(self, words, handlers, expected):
        with FakeDaemon(handlers) as daemon:
            done = self.ctl(*words, "--json", daemon=daemon)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(json.loads(done.stdout), expected)
            return daemon.requests


class RunSource(CtlTest):
    def test_code_option(self):
        """-c is the code, python by default, streaming asked for."""
        self.assertEqual(
            self.run_params("-c", "print(1)"),
            {"language": "python", "code": "print(1)", "stream": True},
        )

    def test_language_by_extension(self):
        """A FILE's extension decides the language."""
        for name, language in (
            ("a.py", "python"), ("a.js", "javascript"), ("a.mjs", "javascript"),
            ("a.ts", "javascript"), ("a.sh", "shell"),
        ):
            with self.subTest(name=name):
                params = self.run_params(self.file(name, "x"))
                self.assertEqual((params["language"], params["code"]), (language, "x"))

    def test_language_by_shebang(self):
        """Without an extension the first line decides, env and version numbers included."""
        for line, language in (
            ("#!/bin/sh -e", "shell"), ("#!/usr/bin/env python3.11", "python"),
            ("#!/usr/bin/env -S bun run", "javascript"), ("#!/usr/bin/bash", "shell"),
            ("#!/usr/bin/perl", "python"),
        ):
            with self.subTest(line=line):
                code = line + "\nx\n"
                self.assertEqual(self.run_params(self.file("x", code))["language"], language)
                self.assertEqual(self.run_params(stdin=code.encode())["language"], language)

    def test_language_option_wins(self):
        """-l goes before extension and first line."""
        params = self.run_params("-l", "shell", self.file("a.py", "#!/bin/node\n"))
        self.assertEqual(params["language"], "shell")

    def test_stdin_is_code(self):
        """Without -c and FILE, and with '-', standard input is the code and not the input."""
        for words in ((), ("-",)):
            with self.subTest(words=words):
                params = self.run_params(*words, stdin="print('ü')\n".encode())
                self.assertEqual(params["code"], "print('ü')\n")
                self.assertNotIn("stdin", params)

    def test_stdin_is_input(self):
        """With -c or FILE standard input is the program's: text as text, bytes as base64."""
        for words in (("-c", "x"), (self.file("a.py", "x"),)):
            with self.subTest(words=words):
                self.assertEqual(self.run_params(*words, stdin=b"a\0b\n")["stdin"], "a\0b\n")
                params = self.run_params(*words, stdin=b"\xff\x00\xfe")
                self.assertEqual(params["stdin_encoding"], "base64")
                self.assertEqual(base64.b64decode(params["stdin"]), b"\xff\x00\xfe")

    def test_closed_stdin(self):
        """A closed standard input is no input."""
        with FakeDaemon({"run": answer(run_result())}) as daemon:
            done = subprocess.run(
                ["sh", "-c", 'exec "$0" run -c x <&-', CTL], timeout=DEADLINE,
                env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path), capture_output=True,
            )
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertNotIn("stdin", daemon.requests[0]["params"])

    def test_all_options(self):
        """Options become parameters; words behind -- are arguments, even if they look alike."""
        params = self.run_params(
            "-c", "x", "-t", "2.5", "-m", "128", "-e", "A=1", "--env", "B=x=y", "-e", "C=",
            "--no-stream", "--", "-c", "", "--", "ü",
        )
        self.assertEqual(
            params,
            {
                "language": "python", "code": "x", "timeout_seconds": 2.5,
                "limits": {"memory_mb": 128}, "env": {"A": "1", "B": "x=y", "C": ""},
                "args": ["-c", "", "--", "ü"],
            },
        )

    def test_usage_errors(self):
        """What cannot be meant is refused with 125, a reason and a hint, nothing is sent."""
        for words, reason in (
            (("-c", "x", "file"), "Both --code and the file"),
            (("/nonexistent.py",), "Cannot read '/nonexistent.py'"),
            (("a", "b"), "arguments behind '--'"),
            (("-t", "soon", "-c", "x"), "--timeout wants a number, not 'soon'"),
            (("-m", "1.5", "-c", "x"), "--memory wants an integer, not '1.5'"),
            (("-e", "A", "-c", "x"), "--env wants NAME=VALUE, not 'A'"),
            (("--bogus",), "Unknown option '--bogus'"),
            (("-Z",), "Unknown option '-Z'"),
            (("-c",), "--code wants CODE"),
            (("--no-stream=1", "-c", "x"), "--no-stream takes no value"),
        ):
            with self.subTest(words=words), FakeDaemon({}) as daemon:
                done = self.ctl("run", *words, daemon=daemon)
                self.assertEqual(done.returncode, 125, done)
                self.assertIn(reason, done.stderr.decode())
                self.assertEqual(done.stdout, b"")
                self.assertEqual(daemon.requests, [])

    def test_code_not_utf8(self):
        """Code that is no text is refused before anything is sent."""
        with FakeDaemon({}) as daemon:
            done = self.ctl("run", daemon=daemon, stdin=b"print('\xff')")
            self.assertEqual(done.returncode, 125)
            self.assertIn(b"not UTF-8", done.stderr)


class RunOutput(CtlTest):
    def run_with(self, handler, *words, **options):
        with FakeDaemon({"run": handler}) as daemon:
            return self.ctl("run", "-c", "x", *words, daemon=daemon, **options)

    def test_streamed_bytes(self):
        """Chunks of both streams arrive exactly, base64 ones too, and are not repeated."""

        def handler(connection, request):
            for seq, (stream, data, encoding) in enumerate(
                [
                    ("stdout", "aü\0\n", "utf-8"), ("stderr", "e1", "utf-8"),
                    ("stdout", "/wD+", "base64"), ("stderr", "e2", None),
                ],
                1,
            ):
                chunk = {"id": request["id"], "seq": seq, "stream": stream, "data": data}
                if encoding:
                    chunk["encoding"] = encoding
                connection.notify("run.output", **chunk)
            out = "aü\0\n".encode() + b"\xff\x00\xfe"
            connection.result(
                request,
                run_result(
                    stdout=base64.b64encode(out).decode(), stdout_encoding="base64",
                    stderr="e1e2", stdout_bytes=len(out), stderr_bytes=4,
                ),
            )

        done = self.run_with(handler)
        self.assertEqual(done.stdout, "aü\0\n".encode() + b"\xff\x00\xfe")
        self.assertEqual(done.stderr, b"e1e2")
        self.assertEqual(done.returncode, 0)

    def test_output_as_it_comes(self):
        """A chunk is on stdout while the run still goes on."""
        seen = []

        def handler(connection, request):
            connection.notify(
                "run.output", id=request["id"], seq=1, stream="stdout", data="first\n"
            )
            self.assertTrue(select.select([process.stdout], [], [], DEADLINE)[0])
            seen.append(process.stdout.readline())
            connection.result(request, run_result(stdout="first\n", stdout_bytes=6))

        with FakeDaemon({"run": handler}) as daemon:
            process = subprocess.Popen(
                [CTL, "-s", daemon.path, "run", "-c", "x"], stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL,
            )
            self.assertEqual(process.wait(DEADLINE), 0)
            process.stdout.close()
        self.assertEqual(seen, [b"first\n"])

    def test_rest_of_the_result(self):
        """What was not streamed is taken from the result; other calls' chunks are ignored."""

        def handler(connection, request):
            connection.notify("run.output", id=999, seq=1, stream="stdout", data="foreign")
            connection.notify("run.output", id=request["id"], seq=1, stream="stdout", data="ab")
            connection.result(request, run_result(stdout="abcd", stderr="zz"))

        done = self.run_with(handler)
        self.assertEqual((done.stdout, done.stderr), (b"abcd", b"zz"))

    def test_large_output(self):
        """Sixteen MiB of output arrive complete through a pipe."""
        text = "0123456789abcde\n" * (1 << 20)
        done = self.run_with(answer(run_result(stdout=text)), "--no-stream")
        self.assertEqual(len(done.stdout), len(text))
        self.assertEqual(done.stdout, text.encode())

    def test_json(self):
        """--json prints the whole RunResult alone, does not stream, and keeps the status."""
        result = run_result(status="error", exit_code=3, stdout="out", stderr="err")
        with FakeDaemon({"run": answer(result)}) as daemon:
            done = self.ctl("run", "--json", "-c", "x", daemon=daemon)
            self.assertNotIn("stream", daemon.requests[0]["params"])
        self.assertEqual(json.loads(done.stdout), result)
        self.assertEqual((done.stderr, done.returncode), (b"", 3))

    def test_exit_status(self):
        """The guest's status, 124 for a timeout, 128+N for a signal, 137 for oom."""
        for result, status in (
            ({"status": "ok", "exit_code": 0}, 0),
            ({"status": "error", "exit_code": 1}, 1),
            ({"status": "error", "exit_code": 255}, 255),
            ({"status": "timeout", "exit_code": 124}, 124),
            ({"status": "signal", "exit_code": 139, "signal": "SIGSEGV"}, 139),
            ({"status": "oom", "exit_code": 137}, 137),
        ):
            with self.subTest(result=result):
                done = self.run_with(answer(run_result(**result)))
                self.assertEqual(done.returncode, status)
                self.assertEqual(done.stderr, b"")  # no notes where nobody looks

    def test_error_reply(self):
        """An RPC error: message, hint and known values on stderr, 125."""
        done = self.run_with(
            fail(2003, "There is no language 'x'", hint="pick one", known=["python", "shell"])
        )
        self.assertEqual(
            done.stderr.decode().splitlines(),
            [
                "execsandboxctl: There is no language 'x'", "hint: pick one",
                "known: python shell",
            ],
        )
        self.assertEqual((done.stdout, done.returncode), (b"", 125))

    def test_error_reply_json(self):
        """With --json the error object is data as well."""
        done = self.run_with(fail(3002, "All VMs are in use", retryable=True), "--json")
        self.assertEqual(json.loads(done.stdout)["error"]["code"], 3002)
        self.assertEqual(done.returncode, 125)

    def test_error_with_partial_result(self):
        """The output that an error brings along is shown."""
        done = self.run_with(fail(3004, "The VM died", result=run_result(stdout="half")))
        self.assertEqual((done.stdout, done.returncode), (b"half", 125))

    def test_connection_lost(self):
        """A daemon that goes away in the middle: 125 and where to look."""
        done = self.run_with(lambda connection, request: connection.close())
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"ended before the reply", done.stderr)
        self.assertIn(b"hint: ", done.stderr)

    def test_not_json_rpc(self):
        """A peer that speaks something else is named as such."""
        done = self.run_with(lambda connection, request: connection.send_raw(b"hello\n"))
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"not JSON-RPC", done.stderr)

    def test_refused_connection(self):
        """An error with id null (too many connections) is the answer to the request."""

        def handler(connection, request):
            connection.error({"id": None}, 1011, "Too many connections")

        done = self.run_with(handler)
        self.assertEqual(done.returncode, 125)
        self.assertIn(b"Too many connections", done.stderr)

    def test_result_in_pieces(self):
        """A reply that comes byte by byte, behind blank-free split lines, is one reply."""

        def handler(connection, request):
            reply = {"jsonrpc": "2.0", "id": request["id"], "result": run_result(stdout="é")}
            for byte in json.dumps(reply, ensure_ascii=False).encode() + b"\n":
                connection.send_raw(bytes([byte]))

        self.assertEqual(self.run_with(handler).stdout, "é".encode())


class RunStopping(CtlTest):
    def start(self, daemon, *words, **options):
        return subprocess.Popen(
            [CTL, "run", "-c", "x", *words], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
            env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path), **options,
        )

    def interrupted(self, signal_number, reply):
        """Sends a signal during a run; returns the process's status and stdout."""

        def handler(connection, request):
            connection.notify(
                "run.output", id=request["id"], seq=1, stream="stdout", data="begun"
            )
            cancel = connection.receive()
            self.assertEqual(cancel["method"], "$/cancelRequest")
            self.assertEqual(cancel["params"], {"id": request["id"]})
            self.assertNotIn("id", cancel)
            reply(connection, request)

        with FakeDaemon({"run": handler}) as daemon:
            process = self.start(daemon, stdout=subprocess.PIPE)
            begun = process.stdout.read(5)
            process.send_signal(signal_number)
            out, err = process.communicate(timeout=DEADLINE)
        return process.returncode, begun + out, err

    def test_ctrl_c(self):
        """Ctrl-C cancels first; the partial output is complete; 130, and 143 for SIGTERM."""

        def reply(connection, request):
            connection.error(
                request, -32800, "Cancelled", name="CANCELLED",
                result=run_result(status="cancelled", stdout="begun and more"),
            )

        for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            with self.subTest(number=number):
                self.assertEqual(
                    self.interrupted(number, reply), (status, b"begun and more", b"")
                )

    def test_ctrl_c_lost_race(self):
        """A run that ended just before: its result is shown, the status is still 130."""

        def reply(connection, request):
            connection.result(request, run_result(stdout="begun"))

        self.assertEqual(self.interrupted(signal.SIGINT, reply), (130, b"begun", b""))

    def test_second_ctrl_c(self):
        """A daemon that does not answer the cancel: the second Ctrl-C ends at once."""

        def reply(connection, request):
            process = connections[0]
            process.send_signal(signal.SIGINT)
            process.wait(DEADLINE)

        connections = []

        def handler(connection, request):
            connections[0].send_signal(signal.SIGINT)
            self.assertEqual(connection.receive()["method"], "$/cancelRequest")
            reply(connection, request)

        with FakeDaemon({"run": handler}) as daemon:
            # The handler starts with the request, which is sent after Popen returned its pid.
            read_end, write_end = os.pipe()
            process = subprocess.Popen(
                ["sh", "-c", 'read _; exec "$0" run -c x', CTL], stdin=read_end,
                stderr=subprocess.PIPE, stdout=subprocess.DEVNULL,
                env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path),
            )
            connections.append(process)
            os.close(read_end)
            os.write(write_end, b"go\n")
            os.close(write_end)
            process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 130)

    def test_reader_gone(self):
        """`run … | head`: a closed stdout cancels the run and ends as SIGPIPE would."""
        cancelled = []

        def handler(connection, request):
            sequence = 0
            while not cancelled:
                sequence += 1
                connection.notify(
                    "run.output", id=request["id"], seq=sequence, stream="stdout",
                    data="x" * 65536,
                )
                if select.select([connection.socket], [], [], 0)[0]:
                    cancelled.append(connection.receive())
            connection.error(request, -32800, "Cancelled", name="CANCELLED")

        with FakeDaemon({"run": handler}) as daemon:
            process = self.start(daemon, stdout=subprocess.PIPE)
            process.stdout.read(1)
            process.stdout.close()
            process.stderr.read()
            self.assertEqual(process.wait(DEADLINE), 141)
            process.stderr.close()
        self.assertEqual(cancelled[0]["method"], "$/cancelRequest")


class Terminal(CtlTest):
    def on_terminal(self, words, daemon, env=None):
        """Runs with a terminal as stdin, stdout and stderr; returns status and what it shows."""
        master, slave = pty.openpty()
        process = subprocess.Popen(
            [CTL, *words], stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            env=dict(
                ENVIRONMENT, TERM="xterm", EXECSANDBOX_SOCKET=daemon.path, **(env or {})
            ),
        )
        os.close(slave)
        shown = b""
        deadline = time.monotonic() + DEADLINE
        while select.select([master], [], [], max(0, deadline - time.monotonic()))[0]:
            try:
                shown += os.read(master, 65536)
            except OSError:  # EIO: the last writer is gone
                break
        os.close(master)
        return process.wait(DEADLINE), shown.decode().replace("\r\n", "\n")

    def test_no_code(self):
        """At a terminal without code: told what to do, nothing is waited for."""
        with FakeDaemon({}) as daemon:
            status, shown = self.on_terminal(["run"], daemon)
        self.assertEqual(status, 125)
        self.assertIn("There is no code to run", shown)
        self.assertIn("give -c CODE or a FILE", shown)

    def test_notes(self):
        """At a terminal: what was cut and why it ended; stdin is not waited for."""
        result = run_result(
            status="timeout", exit_code=124, stdout="x", stdout_truncated=True,
            stdout_bytes=3 << 20,
        )
        with FakeDaemon({"run": answer(result)}) as daemon:
            status, shown = self.on_terminal(["run", "-c", "x"], daemon)
        self.assertEqual(status, 124)
        self.assertIn("stdout was cut: the program wrote 3 MiB", shown)
        self.assertIn("ran out of time", shown)

    def test_colours(self):
        """Colours at a terminal, none with NO_COLOR or TERM=dumb."""
        handlers = {"rpc.ping": fail(-32603, "Broken")}
        for env, has_colours in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            with self.subTest(env=env), FakeDaemon(handlers) as daemon:
                env = dict({"TERM": "xterm"}, **env)
                master, slave = pty.openpty()
                process = subprocess.Popen(
                    [CTL, "call", "rpc.ping"], stderr=slave, stdout=subprocess.DEVNULL,
                    stdin=subprocess.DEVNULL,
                    env=dict(ENVIRONMENT, EXECSANDBOX_SOCKET=daemon.path, **env),
                )
                process.wait(DEADLINE)
                os.close(slave)
                shown = os.read(master, 65536)
                os.close(master)
                self.assertIn(b"Broken", shown)
                self.assertEqual(b"\033[" in shown, has_colours)


class Verbs(CtlTest):
    VM = {
        "vm": "vm_1", "state": "running", "language": "python", "pid": 4711, "memory_mb": 256,
        "uid": 1000, "created_at": "2026-01-02T03:04:05.678Z", "start_ms": 1204.5,
    }
    TEMPLATE = {
        "name": "shell-128", "language": "shell", "memory_mb": 128, "state": "ready",
        "stored": True, "clones": 3, "load_ms": None, "used_at": "2026-01-02T03:04:05.678Z",
        "build": {"boot_ms": 800.5, "rehearsal_ms": 400, "save_ms": 5, "total_ms": 1205.5},
        "error": None,
    }
    POOL = {"language": "shell", "memory_mb": 256, "warm": 2, "starting": 1, "target": 3}

    def test_list(self):
        """list: a table with one line per VM; the result itself with --json."""
        spare = dict(self.VM, vm="vm_2", state="paused", language="shell", uid=None, start_ms=98)
        result = {"vms": [self.VM, spare]}
        with FakeDaemon({"vm.list": answer(result)}) as daemon:
            done = self.ctl("list", daemon=daemon)
        lines = done.stdout.decode().splitlines()
        self.assertEqual(len(lines), 3)
        self.assertRegex(lines[0], r"^VM +STATE +LANGUAGE +PID")
        self.assertRegex(lines[1], r"^vm_1 +running +python +4711 +256 +1000 +1.2 s 2026-01-02T03")
        self.assertRegex(lines[2], r"^vm_2 +paused +shell +4711 +256 +- +98 ms ")
        self.check_json(["list"], {"vm.list": answer(result)}, result)

    def test_list_empty(self):
        """list without VMs prints nothing where nobody looks."""
        with FakeDaemon({"vm.list": answer({"vms": []})}) as daemon:
            done = self.ctl("list", daemon=daemon)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 0))

    def test_status(self):
        """status: readiness, checks and info; 1 when the daemon cannot run code."""
        info = {"version": "1", "accelerator": {"name": "tcg"}, "limits": {"memory_mb": 256}}
        for ready in (True, False):
            health = {
                "ready": ready,
                "checks": [{"name": "images", "ok": ready, "detail": "rootfs missing"}],
            }
            handlers = {"info": answer(info), "health": answer(health)}
            with self.subTest(ready=ready), FakeDaemon(handlers) as daemon:
                done = self.ctl("status", daemon=daemon)
                text = done.stdout.decode()
                self.assertEqual(done.returncode, 0 if ready else 1)
                self.assertEqual(text.splitlines()[0], "ready" if ready else "not ready")
                self.assertIn("rootfs missing", text)
                self.assertRegex(text, r"limits.memory_mb +256")
                done = self.ctl("status", "--json", daemon=daemon)
                self.assertEqual(json.loads(done.stdout), {"info": info, "health": health})
                self.assertEqual(done.returncode, 0 if ready else 1)

    def test_memory_stats(self):
        """memory stats: host and VMs with sizes for people."""
        result = {
            "host": {
                "total_bytes": 16 << 30, "available_bytes": 3 << 29, "reserve_bytes": 1 << 30,
                "budget_bytes": None, "psi_some_avg10": 0.25, "psi_full_avg10": 0,
                "level": "green", "state": "calm",
            },
            "vms": [
                {"vm": "vm_1", "state": "running", "policy_state": "busy", "size_bytes": 256 << 20,
                 "rss_bytes": 20 << 20, "pss_bytes": 3 << 19, "is_pinned": True, "age_ms": 1500},
                {"vm": "vm_2", "state": "starting", "policy_state": None, "is_pinned": False},
            ],
        }
        with FakeDaemon({"memory.stats": answer(result)}) as daemon:
            done = self.ctl("memory", "stats", "vm_1", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"vm": "vm_1"})
        text = done.stdout.decode()
        self.assertRegex(text, r"16 GiB +1.5 GiB +1 GiB +- +0.25 +0 +green +calm")
        self.assertRegex(text, r"vm_1 +busy +256 MiB +20 MiB +1.5 MiB .* yes .* 1.5 s")
        self.assertRegex(text, r"vm_2 +starting .* no ")
        requests = self.check_json(
            ["memory", "stats"], {"memory.stats": answer(result)}, result
        )
        self.assertEqual(requests[0].get("params", {}), {})

    def test_memory_balloon(self):
        """memory balloon: sends an integer, prints what was reached."""
        result = {"vm": "vm_1", "target_bytes": 100 << 20, "actual_bytes": 101 << 20}
        with FakeDaemon({"memory.balloon": answer(result)}) as daemon:
            done = self.ctl("memory", "balloon", "vm_1", "100", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"vm": "vm_1", "target_mb": 100})
            self.assertEqual(done.stdout, b"vm_1: 101 MiB of 100 MiB asked for\n")
            done = self.ctl("memory", "balloon", "vm_1", "much", daemon=daemon)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(len(daemon.requests), 1)

    def test_memory_reclaim(self):
        """memory reclaim: sends bytes, prints what came of them."""
        result = {
            "requested_bytes": 512 << 20, "reclaimed_bytes": 3 << 19,
            "vms": [{"vm": "vm_1", "target_bytes": 128 << 20, "actual_bytes": 130 << 20}],
        }
        handlers = {"memory.reclaim": answer(result)}
        with FakeDaemon(handlers) as daemon:
            done = self.ctl("memory", "reclaim", "512M", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"bytes": 512 << 20})
            lines = done.stdout.decode().splitlines()
            self.assertEqual(lines[0], "1.5 MiB of 512 MiB asked for")
            self.assertRegex(lines[2], r"vm_1 +130 MiB +128 MiB")
            self.ctl("memory", "reclaim", "--vm", "vm_1", "1.5G", daemon=daemon)
            self.assertEqual(daemon.requests[1]["params"], {"vm": "vm_1", "bytes": 3 << 29})
            for size in ("much", "0", "1MB", ""):
                done = self.ctl("memory", "reclaim", size, daemon=daemon)
                self.assertEqual((done.returncode, done.stdout), (2, b""), size)
                self.assertIn(f"'{size}' is not a size", done.stderr.decode())
            self.assertEqual(len(daemon.requests), 2)
        self.check_json(["memory", "reclaim", "1"], handlers, result)

    def test_memory_reclaim_nothing(self):
        """memory reclaim: no VM has anything to give."""
        result = {"requested_bytes": 1024, "reclaimed_bytes": 0, "vms": []}
        with FakeDaemon({"memory.reclaim": answer(result)}) as daemon:
            done = self.ctl("memory", "reclaim", "1K", daemon=daemon)
        self.assertEqual((done.stdout, done.returncode), (b"0 B of 1 KiB asked for\n", 0))

    def test_memory_policy(self):
        """memory policy: asks without operands; sends numbers as numbers, the rest as it is."""
        result = {"mode": "auto", "budget_mb": 2048, "level": "yellow", "may_admit": True}
        handlers = {"memory.policy": answer(result)}
        for words, params in (
            ([], {}),
            (["budget_mb=2048", "mode=off"], {"budget_mb": 2048, "mode": "off"}),
            (["floor_mb:=96"], {"floor_mb": 96}),
            (["floor_mb=some", "bogus=1"], {"floor_mb": "some", "bogus": "1"}),
        ):
            with self.subTest(words=words), FakeDaemon(handlers) as daemon:
                done = self.ctl("memory", "policy", *words, daemon=daemon)
                self.assertEqual(daemon.requests[0]["params"], params)
                self.assertRegex(done.stdout.decode(), r"(?m)^budget_mb +2048$")
        self.check_json(["memory", "policy"], handlers, result)
        for word in ("budget_mb", "=1", "mode:=off"):
            with self.subTest(word=word), FakeDaemon({}) as daemon:
                done = self.ctl("memory", "policy", word, daemon=daemon)
                self.assertEqual(done.returncode, 2)
                self.assertIn(b"hint: execsandboxctl help memory.policy", done.stderr)

    def test_metrics(self):
        """metrics: the text as it is."""
        result = {"content_type": "text/plain", "text": "# HELP a A \u00fc\n# TYPE a gauge\na 1\n"}
        with FakeDaemon({"metrics": answer(result)}) as daemon:
            done = self.ctl("metrics", daemon=daemon)
        self.assertEqual((done.stdout.decode(), done.returncode), (result["text"], 0))
        self.check_json(["metrics"], {"metrics": answer(result)}, result)

    def test_template_list(self):
        """template list: one line each, with the time of its build and why it failed."""
        bad = dict(self.TEMPLATE, name="python-256", state="failed", build=None, stored=False,
                   load_ms=51, error="no room")
        result = {"templates": [self.TEMPLATE, bad]}
        with FakeDaemon({"template.list": answer(result)}) as daemon:
            done = self.ctl("template", "list", daemon=daemon)
        lines = done.stdout.decode().splitlines()
        self.assertEqual((len(lines), done.returncode), (3, 0), done)
        self.assertRegex(lines[1], r"^shell-128 +ready +yes +3 +- +1.2 s 2026-01-02T03\S+ -")
        self.assertRegex(lines[2], r"^python-256 +failed +no +3 +51 ms +- 2026\S+ no room")
        self.check_json(["template", "list"], {"template.list": answer(result)}, result)
        with FakeDaemon({"template.list": answer({"templates": []})}) as daemon:
            done = self.ctl("template", "list", daemon=daemon)
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 0))

    def test_template_info(self):
        """template info: a line per member, inner ones by their whole name; 3 when unknown."""
        with FakeDaemon({"template.info": answer(self.TEMPLATE)}) as daemon:
            done = self.ctl("template", "info", "shell-128", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"name": "shell-128"})
        self.assertRegex(done.stdout.decode(), r"(?m)^build.boot_ms +800.5")
        self.check_json(
            ["template", "info", "x"], {"template.info": answer(self.TEMPLATE)}, self.TEMPLATE
        )
        with FakeDaemon({"template.info": fail(8001, "None", hint="look")}) as daemon:
            done = self.ctl("template", "info", "x", daemon=daemon)
        self.assertEqual((done.returncode, done.stdout), (3, b""))
        self.assertIn(b"hint: look", done.stderr)

    def test_template_build(self):
        """template build: sends what was given, prints how long it took; 1 and the reason else."""
        with FakeDaemon({"template.build": answer(self.TEMPLATE)}) as daemon:
            done = self.ctl("template", "build", "shell", "100", daemon=daemon)
            self.ctl("template", "build", "shell", daemon=daemon)
            self.assertEqual(self.ctl("template", "build", "shell", "x").returncode, 2)
            self.assertEqual(
                [request["params"] for request in daemon.requests],
                [{"language": "shell", "memory_mb": 100}, {"language": "shell"}],
            )
        self.assertEqual(
            done.stdout, b"shell-128: ready after 1.2 s (boot 800 ms, rehearsal 400 ms)\n"
        )
        self.check_json(
            ["template", "build", "shell"], {"template.build": answer(self.TEMPLATE)},
            self.TEMPLATE,
        )
        with FakeDaemon({"template.build": fail(8002, "It did not boot")}) as daemon:
            done = self.ctl("template", "build", "shell", daemon=daemon)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"It did not boot", done.stderr)

    def test_template_build_ctrl_c(self):
        """template build ends with 130 on Ctrl-C, while the daemon goes on."""
        asked = threading.Event()
        with FakeDaemon({"template.build": lambda *_: asked.set()}) as daemon:
            process = subprocess.Popen(
                [CTL, "-s", daemon.path, "template", "build", "shell"], env=ENVIRONMENT,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            )
            self.assertTrue(asked.wait(DEADLINE))
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(DEADLINE), 130)

    def test_template_remove(self):
        """template remove: sends the name; says nothing where nobody looks; {} as JSON."""
        with FakeDaemon({"template.remove": answer({})}) as daemon:
            done = self.ctl("template", "remove", "shell-128", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"name": "shell-128"})
        self.assertEqual((done.stdout, done.stderr, done.returncode), (b"", b"", 0))
        self.check_json(["template", "remove", "x"], {"template.remove": answer({})}, {})

    def test_pool_get(self):
        """pool, pool get: all languages or one, as a table; the result itself with --json."""
        both = {"pools": [self.POOL, dict(self.POOL, language="python")]}
        for words, params, result, count in (
            (["pool"], {}, both, 3),
            (["pool", "get"], {}, both, 3),
            (["pool", "get", "shell"], {"language": "shell"}, self.POOL, 2),
        ):
            with self.subTest(words=words), FakeDaemon({"pool.get": answer(result)}) as daemon:
                lines = self.ctl(*words, daemon=daemon).stdout.decode().splitlines()
                self.assertEqual(daemon.requests[0].get("params", {}), params)
                self.assertEqual(len(lines), count)
                self.assertRegex(lines[1], r"^shell +256 +2 +1 +3$")
                self.check_json(words, {"pool.get": answer(result)}, result)

    def test_pool_set(self):
        """pool set: sends an integer, prints the pool; what is no number or no verb is 2."""
        with FakeDaemon({"pool.set": answer(self.POOL)}) as daemon:
            done = self.ctl("pool", "set", "shell", "3", daemon=daemon)
            self.assertEqual(daemon.requests[0]["params"], {"language": "shell", "size": 3})
            self.assertRegex(done.stdout.decode(), r"\nshell +256 +2 +1 +3\n$")
            for words in (["set", "shell", "1.5"], ["set", "shell"], ["shell"]):
                done = self.ctl("pool", *words, daemon=daemon)
                self.assertEqual((done.returncode, done.stdout), (2, b""), done)
            self.assertEqual(len(daemon.requests), 1)

    def test_call(self):
        """call: strings, JSON values, dotted keys; the result as JSON."""
        with FakeDaemon({"some.method": answer({"x": [1]})}) as daemon:
            done = self.ctl(
                "call", "some.method", "a=1", "b:=1", "c:=null", "d=x=y", "e.f:=true",
                'e.g:={"h":[]}', "i=", daemon=daemon,
            )
            self.assertEqual(
                daemon.requests[0]["params"],
                {
                    "a": "1", "b": 1, "c": None, "d": "x=y",
                    "e": {"f": True, "g": {"h": []}}, "i": "",
                },
            )
        self.assertEqual(json.loads(done.stdout), {"x": [1]})

    def test_call_notifications(self):
        """call prints notifications as lines before the result."""

        def handler(connection, request):
            connection.notify("run.output", data="x")
            connection.result(request, "done")

        with FakeDaemon({"run": handler}) as daemon:
            done = self.ctl("call", "run", daemon=daemon)
        lines = done.stdout.decode().splitlines()
        self.assertEqual(json.loads(lines[0]), {"method": "run.output", "params": {"data": "x"}})
        self.assertEqual(lines[1:], ['"done"'])

    def test_call_usage(self):
        """call refuses words that are no parameters, by name."""
        for words, reason in (
            (["a"], "'a' is neither key=value nor key:=JSON"),
            (["a:=tru"], "'a:=tru' is not JSON"),
            (["=x"], "'=x' is neither"),
            (["a=1", "a=2"], "'a' is given twice"),
            (["a=1", "a.b=2"], "'a' already has a value"),
        ):
            with self.subTest(words=words), FakeDaemon({}) as daemon:
                done = self.ctl("call", "x", *words, daemon=daemon)
                self.assertEqual(done.returncode, 2)
                self.assertIn(reason, done.stderr.decode())

    def test_events(self):
        """events: subscribes, prints each event, ends after --count."""

        def handler(connection, request):
            connection.result(request, {"subscription": "sub_1", "seq": 7})
            for seq in range(8, 11):
                connection.notify(
                    "event", subscription="sub_1", seq=seq, time="2026-01-02T03:04:05.678Z",
                    type="vm.started", vm=f"vm_{seq}", data={"pid": seq},
                )

        with FakeDaemon({"events.subscribe": handler}) as daemon:
            words = ["events", "vm.*", "run.*", "--since", "7", "-n", "2"]
            done = self.ctl(*words, daemon=daemon)
            self.assertEqual(
                daemon.requests[0]["params"], {"types": ["vm.*", "run.*"], "since_seq": 7}
            )
            lines = done.stdout.decode().splitlines()
            self.assertEqual(len(lines), 2)
            self.assertRegex(lines[0], r'^2026-01-02\S+ +vm.started +vm_8 +\{"pid":8\}$')
            done = self.ctl(*words, "--json", daemon=daemon)
            events = [json.loads(line) for line in done.stdout.splitlines()]
            self.assertEqual([event["seq"] for event in events], [8, 9])

    def test_events_ctrl_c(self):
        """events ends with 0 on Ctrl-C, and with 4 when the daemon goes away."""

        def subscribe(connection, request):
            connection.result(request, {"subscription": "sub_1", "seq": 0})
            connection.notify("event", seq=1, type="a", time="t")

        with FakeDaemon({"events.subscribe": subscribe}) as daemon:
            process = subprocess.Popen(
                [CTL, "-s", daemon.path, "events"], stdout=subprocess.PIPE,
                stdin=subprocess.DEVNULL, env=ENVIRONMENT,
            )
            self.assertIn(b" a ", process.stdout.readline())
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(DEADLINE), 0)
            process.stdout.close()

        def vanish(connection, request):
            connection.result(request, {"subscription": "sub_1", "seq": 0})
            connection.close()

        with FakeDaemon({"events.subscribe": vanish}) as daemon:
            self.assertEqual(self.ctl("events", daemon=daemon).returncode, 4)

    def test_exit_statuses(self):
        """Other verbs: 1 error reply, 2 usage, 3 not found, 4 cannot connect."""
        for code, status in ((-32603, 1), (1002, 1), (4030, 3), (4001, 3), (8001, 3),
                             (8004, 1)):
            with self.subTest(code=code), FakeDaemon({"vm.list": fail(code, "No")}) as daemon:
                self.assertEqual(self.ctl("list", daemon=daemon).returncode, status)
        done = self.ctl("list", "--socket", "/nonexistent/socket")
        self.assertEqual(done.returncode, 4)
        self.assertIn(b"'/nonexistent/socket'", done.stderr)
        self.assertIn(b"hint: ", done.stderr)
        for words in (["list", "x"], ["memory"], ["memory", "x"], ["bogus"], [], ["call"],
                      ["events", "-n", "0"], ["list", "--", "x"], ["--bogus", "list"]):
            with self.subTest(words=words):
                done = self.ctl(*words)
                self.assertEqual(done.returncode, 2, done)
                self.assertEqual(done.stdout, b"")
        self.assertEqual(self.ctl("run", "-c", "x", "-s", "/nonexistent/s").returncode, 125)

    def test_socket_sources(self):
        """--socket goes before EXECSANDBOX_SOCKET, on either side of the verb."""
        with FakeDaemon({"rpc.ping": answer("pong")}) as daemon:
            for words in (["-s", daemon.path, "call", "rpc.ping"],
                          ["call", "rpc.ping", "--socket=" + daemon.path]):
                with self.subTest(words=words):
                    done = self.ctl(*words, env={"EXECSANDBOX_SOCKET": "/nonexistent/s"})
                    self.assertEqual(done.stdout, b'"pong"\n')

    def test_long_socket_path(self):
        """A socket whose path is longer than sun_path is reached."""
        with FakeDaemon({"rpc.ping": answer("pong")}) as daemon:
            deep = os.path.join(os.path.dirname(daemon.path), *["d" * 60] * 3)
            os.makedirs(deep)
            os.rename(daemon.path, os.path.join(deep, "socket"))
            done = self.ctl("call", "rpc.ping", "-s", os.path.join(deep, "socket"))
            self.assertEqual(done.returncode, 0, done.stderr)

    def test_refused_message_size(self):
        """A request over 16 MiB is refused here, with the reason."""
        with FakeDaemon({"x": answer(1)}) as daemon:
            value = "y" * 100000
            words = [f"k{i}={value}" for i in range(17)]
            done = self.ctl("call", "x", *words, daemon=daemon)
            self.assertEqual(done.returncode, 0)  # 1.7 MB pass
            big = b"\x01" * (9 << 20)  # six bytes each as JSON
            done = self.ctl("run", "-c", "x", daemon=daemon, stdin=big)
            self.assertEqual(done.returncode, 125)
            self.assertIn(b"over the 16 MiB", done.stderr)
            self.assertEqual(len(daemon.requests), 1)


class Service(CtlTest):
    def test_reload(self):
        """reload: prints what has changed; why it was refused, with the hint; the answer as JSON."""
        changed = {"changed": [{"key": "queue_max", "from": "1024", "to": "7"}]}
        with FakeDaemon({"daemon.reload": answer(changed)}) as daemon:
            lines = self.ctl("reload", daemon=daemon).stdout.decode().splitlines()
            self.assertEqual([line.split() for line in lines], [["KEY", "FROM", "TO"], ["queue_max", "1024", "7"]])
        self.check_json(["reload"], {"daemon.reload": answer(changed)}, changed)
        with FakeDaemon({"daemon.reload": answer({"changed": []})}) as daemon:
            done = self.ctl("reload", daemon=daemon)
            self.assertEqual((done.returncode, done.stdout), (0, b""))
        refusal = fail(1004, "/etc/x.conf:3: Unknown key 'y'", name="CONFIG_REFUSED", hint="nothing was changed")
        with FakeDaemon({"daemon.reload": refusal}) as daemon:
            done = self.ctl("reload", daemon=daemon)
            self.assertEqual(done.returncode, 1)
            self.assertIn(b"/etc/x.conf:3: Unknown key", done.stderr)
            self.assertIn(b"nothing was changed", done.stderr)

    def test_drain(self):
        with FakeDaemon({"daemon.drain": answer({"vms": 3})}) as daemon:
            done = self.ctl("drain", daemon=daemon)
            self.assertEqual((done.returncode, done.stdout), (0, b""))
        self.check_json(["drain"], {"daemon.drain": answer({"vms": 3})}, {"vms": 3})


class Help(CtlTest):
    VERBS = ("run", "list", "status", "top", "memory stats", "memory balloon", "memory reclaim",
             "memory policy", "pool", "pool get", "pool set", "template list", "template info",
             "template build", "template remove", "reload", "drain", "events", "metrics", "call", "doctor", "help",
             "version")

    def test_every_verb(self):
        """--help and help VERB give the same text for every verb; all are listed."""
        listed = self.ctl("help").stdout.decode()
        self.assertEqual(listed, self.ctl("--help").stdout.decode())
        for verb in self.VERBS:
            with self.subTest(verb=verb):
                text = self.ctl("help", *verb.split()).stdout.decode()
                self.assertTrue(text.startswith(f"Usage: execsandboxctl {verb}"), text)
                self.assertEqual(text, self.ctl(*verb.split(), "--help").stdout.decode())
                self.assertIn(f"  {verb} ", listed)
                self.assertLessEqual(max(map(len, text.splitlines())), 80)

    def test_method(self):
        """help METHOD shows a method's parameters; unknown words are 2."""
        text = self.ctl("help", "memory.balloon").stdout.decode()
        self.assertRegex(text, r"target_mb +integer")
        self.assertEqual(self.ctl("help", "bogus").returncode, 2)

    def test_man_page(self):
        """The manual page in docs/man is the one that the verb table makes."""
        with open(os.path.join(TREE, "docs/man/execsandboxctl.1"), "rb") as page:
            self.assertEqual(self.ctl("help", "--man").stdout, page.read())

    def test_version(self):
        """version works without a daemon, as JSON too."""
        self.assertRegex(self.ctl("version").stdout.decode(), r"^execsandboxctl \d+\.\d+\.\d+\n$")
        self.assertIn("version", json.loads(self.ctl("version", "--json").stdout))


class Doctor(CtlTest):
    def checks(self, *words, **options):
        done = self.ctl("doctor", "--json", *words, **options)
        result = json.loads(done.stdout)
        failed = any(check["verdict"] == "fail" for check in result["checks"])
        self.assertEqual(done.returncode, 1 if failed else 0)
        self.assertEqual(result["ok"], not failed)
        return {check["name"]: check for check in result["checks"]}

    def test_without_daemon(self):
        """doctor without a daemon: fails on the socket, still checks the host, says mends."""
        checks = self.checks("-s", "/nonexistent/socket")
        self.assertEqual(checks["socket"]["verdict"], "fail")
        self.assertIn("systemctl", checks["socket"]["mend"])
        self.assertNotIn("daemon", checks)
        for name in ("kvm", "qemu", "bubblewrap", "sealing", "pressure", "cgroups",
                     "overcommit", "descriptors", "state", "images", "stand-ins", "accounts", "configuration"):
            self.assertIn(checks[name]["verdict"], ("ok", "warn", "fail"))
        text = self.ctl("doctor", "-s", "/nonexistent/socket").stdout.decode()
        self.assertRegex(text, r"(?m)^fail  socket ")
        self.assertRegex(text, r"(?m)^ +\$ systemctl")

    def test_with_daemon(self):
        """doctor shows the daemon's accelerator, its reason, and what health lacks."""
        for ready, verdict in ((True, "ok"), (False, "fail")):
            handlers = {
                "info": answer(
                    {"accelerator": {"name": "tcg", "kvm": "900 times too slow"}}
                ),
                "health": answer(
                    {
                        "ready": ready,
                        "checks": [{"name": "images", "ok": ready, "detail": "gone"}],
                    }
                ),
            }
            with self.subTest(ready=ready), FakeDaemon(handlers) as daemon:
                checks = self.checks(daemon=daemon)
                self.assertEqual(checks["socket"]["verdict"], "ok")
                self.assertEqual(checks["daemon"]["verdict"], verdict)
                self.assertEqual(
                    checks["accelerator"]["detail"],
                    "tcg; the probe of KVM says: 900 times too slow",
                )
                if not ready:
                    self.assertIn("images (gone)", checks["daemon"]["detail"])

    def doctor_templates(self, templates, known=(), checks=()):
        """All findings about a daemon whose info has `templates`; `known` are template.list's."""
        handlers = {
            "info": answer({"accelerator": {"name": "tcg"}, "templates": templates}),
            "health": answer({"ready": True, "checks": list(checks)}),
            "template.list": answer({"templates": list(known)}),
        }
        with FakeDaemon(handlers) as daemon:
            return self.checks(daemon=daemon)

    def test_templates(self):
        """doctor: templates that are there, failed, off, not kept, or not to be had here."""
        good = {"name": "shell-256", "state": "ready", "error": None}
        bad = {"name": "python-256", "state": "failed", "error": "it hung"}
        auto = {"mode": "auto", "unsupported": None, "kept": True}
        for templates, known, verdict, text in (
            (auto, [good], "ok", "1 ready"),
            (auto, [good, bad], "warn", "python-256 (it hung)"),
            (dict(auto, kept=False), [good], "warn", "not kept on disk"),
            (dict(auto, unsupported="no x-ignore-shared"), [], "warn", "no x-ignore-shared"),
            ({"mode": "off"}, [], "ok", "off by configuration"),
        ):
            with self.subTest(text=text):
                finding = self.doctor_templates(templates, known)["templates"]
                self.assertEqual(finding["verdict"], verdict)
                self.assertIn(text, finding["detail"])

    def test_ready_but(self):
        """doctor warns of what health finds wrong when runs work all the same."""
        check = {"name": "template_python", "ok": False, "detail": "VMs boot instead"}
        finding = self.doctor_templates({"mode": "auto"}, checks=[check])["daemon"]
        self.assertEqual(finding["verdict"], "warn")
        self.assertIn("template_python (VMs boot instead)", finding["detail"])

    def test_launcher(self):
        """doctor has a line for the launcher, with what brings its socket back; an older daemon does not speak of it."""
        for is_ok, detail, verdict in ((True, "VMs can be started", "ok"), (False, "cannot be reached: gone", "fail")):
            check = {"name": "launcher", "ok": is_ok, "detail": detail}
            with self.subTest(verdict=verdict):
                finding = self.doctor_templates({"mode": "auto"}, checks=[check])["launcher"]
                self.assertEqual((finding["verdict"], finding["detail"]), (verdict, detail))
                self.assertEqual("systemctl start execsandbox-launcher.socket" in finding.get("mend", ""), not is_ok)
        self.assertNotIn("launcher", self.doctor_templates({"mode": "auto"}))

    def test_state_dir(self):
        """doctor looks at the directory the daemon names: writable, free room, not there yet."""
        with tempfile.TemporaryDirectory() as directory:
            kept = {"mode": "auto", "state_dir": os.path.join(directory, "none")}
            finding = self.doctor_templates(kept)["state"]
            self.assertEqual(finding["verdict"], "ok")
            self.assertIn("is made when the daemon starts", finding["detail"])
        finding = self.doctor_templates(dict(kept, state_dir="/proc"))["state"]
        self.assertEqual(finding["verdict"], "warn")
        self.assertIn("cannot write to '/proc'", finding["detail"])

    def test_silent_daemon(self):
        """doctor does not wait for ever for a daemon that does not answer."""

        with FakeDaemon({"info": lambda c, r: None, "health": lambda c, r: None}) as daemon:
            checks = self.checks(daemon=daemon)
        self.assertEqual(checks["daemon"]["verdict"], "fail")
        self.assertIn("does not answer", checks["daemon"]["detail"])


if __name__ == "__main__":
    program = unittest.main(exit=False)
    bad = len(program.result.failures) + len(program.result.errors)
    print(f"{program.result.testsRun - bad} passed, {bad} failed")
    sys.exit(bad != 0)
