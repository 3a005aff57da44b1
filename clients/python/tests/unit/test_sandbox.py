# SPDX-License-Identifier: Apache-2.0
"""Sandbox and Session against a scripted daemon."""

import concurrent.futures
import json
import os
import signal
import tempfile
import threading
import unittest.mock

from execsandbox import ConnectError, ConnectionLostError, Sandbox, errors
from fake_daemon import FakeDaemon
from scripted import SESSION, ScriptedTest, answer, fail, hold, pages, result, stream, until_cancelled

DEADLINE = 20


class SandboxCase(ScriptedTest):
    def connect(self, **handlers):
        """(sandbox, daemon)."""
        daemon = self.serve(**handlers)
        sandbox = Sandbox(daemon.path)
        self.addCleanup(sandbox.close)
        return sandbox, daemon


class SandboxTest(SandboxCase):
    def test_run(self):
        sandbox, daemon = self.connect(run=answer(result(stdout="42\n", exit_code=0)))
        done = sandbox.run("print(42)", env={"A": "1"})
        self.assertEqual((done.stdout, done.ok, done.vm), ("42\n", True, "vm_1"))
        self.assertEqual(daemon.requests[0]["params"],
                         {"language": "python", "code": "print(42)", "env": {"A": "1"}})

    def test_streaming(self):
        """Callbacks run in the caller's thread, and what was not streamed comes from the result."""
        def handler(connection, request):
            stream(connection, request, ("stdout", "grü"), ("stderr", "e"), ("stdout", "ße"))
            connection.result(request, result(stdout="grüße!\n", stderr="e"))

        sandbox, daemon = self.connect(run=handler)
        heard, threads = [], set()

        def hear(text):
            heard.append(text)
            threads.add(threading.current_thread())

        self.assertEqual(sandbox.run("x", on_stdout=hear).stdout, "grüße!\n")
        self.assertEqual((heard, threads), (["grü", "ße", "!\n"], {threading.current_thread()}))
        self.assertIs(daemon.requests[0]["params"]["stream"], True)

    def test_threads(self):
        """Calls of several threads run at once and get their own replies, whatever the order."""
        sandbox, _ = self.connect(run=hold(40))
        with concurrent.futures.ThreadPoolExecutor(40) as pool:
            done = list(pool.map(lambda n: sandbox.run(str(n), on_stdout=str).stdout, range(40)))
        self.assertEqual(done, [str(n) for n in range(40)])

    def test_in_flight(self):
        """The daemon takes 64 requests at once: more wait here, and are not refused."""
        sandbox, daemon = self.connect(run=hold(64))
        with concurrent.futures.ThreadPoolExecutor(128) as pool:
            calls = [pool.submit(sandbox.run, str(n)) for n in range(128)]
            self.assertEqual([call.result(DEADLINE).stdout for call in calls], [str(n) for n in range(128)])
        self.assertEqual(len(daemon.requests), 128)

    def test_error(self):
        sandbox, _ = self.connect(run=fail(2003, "No 'x'", name="LANGUAGE_UNKNOWN", known=["python"]))
        with self.assertRaises(errors.LanguageUnknownError) as caught:
            sandbox.run("x", "x")
        self.assertEqual(caught.exception.data["known"], ["python"])

    def test_callback_raises(self):
        """An exception of a callback stops the program and is the caller's; the connection goes on."""
        sandbox, _ = self.connect(run=until_cancelled, info=answer({"version": "1"}))

        def bad(text):
            raise ZeroDivisionError(text)

        with self.assertRaisesRegex(ZeroDivisionError, "on"):
            sandbox.run("x", on_stdout=bad)
        self.assertEqual(sandbox.info(), {"version": "1"})

    def test_interrupt(self):
        """Ctrl-C while a call waits stops the program; the connection goes on."""
        heard = threading.Event()

        def handler(connection, request):
            stream(connection, request, ("stderr", "x"))
            self.assertTrue(heard.wait(DEADLINE))
            os.kill(os.getpid(), signal.SIGINT)
            until_cancelled(connection, request)

        sandbox, _ = self.connect(run=handler, rpc_ping=answer("pong"))
        with self.assertRaises(KeyboardInterrupt):
            sandbox.run("x", on_stderr=lambda text: heard.set())
        sandbox.ping()

    def test_lost_in_the_middle(self):
        """The connection ends within a line: what was streamed was heard, the call fails, so do later ones."""
        def handler(connection, request):
            stream(connection, request, ("stdout", "a"))
            connection.send_raw(b'{"jsonrpc":"2.0","id":1,"resu')
            connection.close()

        sandbox, _ = self.connect(run=handler)
        heard = []
        with self.assertRaises(ConnectionLostError):
            sandbox.run("x", on_stdout=heard.append)
        self.assertEqual(heard, ["a"])
        with self.assertRaises(ConnectionLostError):
            sandbox.ping()

    def test_refused_connection(self):
        """The reason that the daemon gave is what the caller hears, whenever it came."""
        def handler(connection, request):
            error = {"code": 1011, "message": "Too many connections"}
            connection.send({"jsonrpc": "2.0", "id": None, "error": error})
            connection.close()

        sandbox, _ = self.connect(run=handler)
        for _ in range(2):
            with self.assertRaises(errors.TooManyRequestsError):
                sandbox.run("x" * 1000000)

    def test_close_elsewhere(self):
        """close() ends the calls of other threads."""
        started = threading.Event()
        sandbox, _ = self.connect(run=lambda connection, request: started.set())
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            call = pool.submit(sandbox.run, "x")
            self.assertTrue(started.wait(DEADLINE))
            sandbox.close()
            with self.assertRaises(ConnectionLostError):
                call.result(DEADLINE)
        sandbox.close()
        with self.assertRaises(ConnectionLostError):
            sandbox.ping()

    def test_nobody_reads(self):
        """A daemon that does not read holds the caller, and close() ends that."""
        started, closed = threading.Event(), threading.Event()

        def handler(connection, request):
            started.set()
            closed.wait(DEADLINE)
            raise BrokenPipeError  # half a request is left to read

        sandbox, _ = self.connect(run=handler)
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(sandbox.run, "x" * (8 << 20)) for _ in range(2)]
            self.assertTrue(started.wait(DEADLINE))
            sandbox.close()
            closed.set()
            for call in calls:
                self.assertIsInstance(call.exception(DEADLINE), ConnectionLostError)

    def test_cannot_connect(self):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "socket")
            with self.assertRaises(ConnectError) as caught:
                Sandbox(path)
            self.assertIn(path, str(caught.exception))
            self.assertTrue(caught.exception.hint)
            with unittest.mock.patch.dict(os.environ, EXECSANDBOX_SOCKET=path):
                with self.assertRaisesRegex(ConnectError, path):
                    Sandbox()

    def test_no_thread_is_left(self):
        with FakeDaemon({"rpc.ping": answer("pong")}) as daemon:
            with Sandbox(daemon.path) as sandbox:
                sandbox.ping()
                self.assertIn("execsandbox", [thread.name for thread in threading.enumerate()])
            self.assertNotIn("execsandbox", [thread.name for thread in threading.enumerate()])


class SessionTest(SandboxCase):
    def test_life(self):
        sandbox, daemon = self.connect(
            session_create=answer(SESSION), session_exec=answer(result(session="ses_1")),
            session_info=answer(SESSION), session_update=answer({**SESSION, "name": "n"}),
            session_close=answer({**SESSION, "state": "closed"}))
        with sandbox.session(language="shell", metadata={"a": "b"}) as session:
            self.assertEqual((session.id, session.vm), ("ses_1", "vm_1"))
            self.assertEqual(session.exec("ls").session, "ses_1")
            session.exec(argv=["ls", "-l"], stdin="x", cwd="d")
            self.assertEqual(session.info().state, "idle")
            session.update(name="n")
            self.assertEqual(session.name, "n")
        self.assertEqual([(one["method"], one["params"]) for one in daemon.requests], [
            ("session.create", {"language": "shell", "metadata": {"a": "b"}}),
            ("session.exec", {"session": "ses_1", "command": "ls"}),
            ("session.exec", {"session": "ses_1", "argv": ["ls", "-l"], "stdin": "x", "cwd": "d"}),
            ("session.info", {"session": "ses_1"}),
            ("session.update", {"session": "ses_1", "name": "n"}),
            ("session.close", {"session": "ses_1"}),
        ])

    def test_closed_already(self):
        """The end of `with` finds it closed: fine. Its own exception goes before that of closing."""
        closed = fail(4002, "Closed", reason="idle_timeout")
        sandbox, _ = self.connect(session_create=answer(SESSION), session_close=closed, session_info=closed)
        with sandbox.session():
            pass
        with self.assertRaises(errors.SessionClosedError) as caught, sandbox.session() as session:
            session.info()
        self.assertEqual(caught.exception.data["reason"], "idle_timeout")
        sandbox, _ = self.connect(session_create=answer(SESSION), session_close=fail(-32603, "Failed"))
        with self.assertRaises(errors.InternalError), sandbox.session():
            pass
        with self.assertRaises(KeyError), sandbox.session():
            raise KeyError

    def test_list(self):
        sandbox, daemon = self.connect(session_list=pages)
        found = sandbox.sessions(state="idle", page_size=2)
        self.assertEqual(next(found).session, "ses_0")
        self.assertEqual(len(daemon.requests), 1)
        self.assertEqual([one.session for one in found], ["ses_1", "ses_2"])
        self.assertEqual([json.dumps(one["params"]) for one in daemon.requests],
                         ['{"state": "idle", "limit": 2}', '{"state": "idle", "limit": 2, "cursor": "2"}'])
