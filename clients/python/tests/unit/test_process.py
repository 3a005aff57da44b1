# SPDX-License-Identifier: Apache-2.0
"""Process and AsyncProcess against a scripted daemon."""

import unittest

from execsandbox import AsyncSandbox, Sandbox, errors
from scripted import SESSION, ScriptedTest, answer, fail, result

INFO = {"process": "proc_1", "state": "running", "command": "cat", "status": None, "terminal": {"rows": 2, "columns": 3}}


def output(connection, offset, data, process="proc_1", stream="stdout", **more):
    connection.notify("process.output", session="ses_1", process=process, offset=offset, stream=stream, data=data, **more)


def wait_while_it_writes(connection, request):
    """The end comes when somebody is attached, behind some output; the answer repeats the last of it."""
    attach = connection.receive()
    assert (attach["method"], attach["params"]) == ("session.attach", {"session": "ses_1", "process": "proc_1"}), attach
    connection.result(attach, {})
    output(connection, 0, "gr")
    output(connection, 0, "other", process="proc_2")
    output(connection, 2, "w7w=", encoding="base64")
    output(connection, 0, "e", stream="stderr")
    connection.result(request, result(process="proc_1", stdout="\u00fcn", stdout_offset=2, stderr="e", stderr_offset=0,
                                      exit_code=3, status="error"))


HANDLERS = {
    "session_create": answer(SESSION), "session_close": answer(SESSION), "process_list": answer({"processes": [INFO]}),
    "session_exec": answer({"process": "proc_1", "session": "ses_1"}), "process_wait": wait_while_it_writes,
    "process_write": answer({"bytes": 3}), "process_signal": answer({}), "process_close_stdin": answer({}),
    "process_resize": answer({}),
}
NAMES = {"session": "ses_1", "process": "proc_1"}
SENT = [
    ("session.exec", {"session": "ses_1", "background": True, "argv": ["cat"], "cwd": "d", "stdin": "eA==",
                      "stdin_encoding": "base64", "terminal": {"rows": 2, "columns": 3}}),
    ("process.write", {**NAMES, "data": "abc"}),
    ("process.write", {**NAMES, "data": "AP8=", "encoding": "base64"}),
    ("process.close_stdin", NAMES), ("process.signal", {**NAMES, "signal": "INT"}),
    ("process.signal", {**NAMES, "signal": "KILL"}), ("process.resize", {**NAMES, "rows": 4, "columns": 5}),
    ("process.list", {"session": "ses_1"}), ("process.wait", NAMES),
]


class ProcessTest(ScriptedTest):
    def session(self, **handlers):
        daemon = self.serve(**{**HANDLERS, **handlers})
        sandbox = Sandbox(daemon.path)
        self.addCleanup(sandbox.close)
        return sandbox.session(), daemon

    def test_life(self):
        session, daemon = self.session()
        process = session.start(argv=["cat"], cwd="d", stdin=b"x", terminal=(2, 3))
        self.assertEqual((process.id, process.write("abc"), process.write(b"\0\xff")), ("proc_1", 3, 3))
        process.close_stdin()
        process.signal("INT")
        process.kill()
        process.resize(4, 5)
        (shown,) = session.processes()
        self.assertEqual((shown.process, shown.command, shown.terminal, shown.status), ("proc_1", "cat", INFO["terminal"], None))
        out, err = [], []
        done = process.wait(on_stdout=out.append, on_stderr=err.append)
        self.assertEqual(("".join(out), err, done.exit_code), ("grün", ["e"], 3))
        self.assertEqual([(one["method"], one["params"]) for one in daemon.requests[1:]], SENT)

    def test_while_it_runs(self):
        running = {"state": "running", "stdout": "//8=", "stdout_encoding": "base64", "stdout_offset": 7, "stderr": "",
                   "stderr_offset": 0, "stdout_bytes": 9}
        session, daemon = self.session(process_wait=answer(running))
        process = session.process("proc_1")
        self.assertIsNone(process.wait(0.5))
        self.assertEqual(daemon.requests[-1]["params"], {**NAMES, "timeout_seconds": 0.5})
        seen = process.output(5)
        self.assertEqual((seen.stdout_raw, seen.stdout, seen.stdout_offset, seen.is_running),
                         (b"\xff\xff", "\ufffd\ufffd", 7, True))

    def test_errors(self):
        session, _ = self.session(process_write=fail(4010, "Ended", reason="ended"))
        with self.assertRaises(errors.ProcessNotFoundError) as caught:
            session.process("proc_1").write("x")
        self.assertEqual(caught.exception.data["reason"], "ended")
        for wrong in ({}, {"command": "x", "argv": ["x"]}, {"argv": "x"}, {"command": "x", "timeout_seconds": 1}):
            with self.assertRaises(TypeError):
                session.start(**wrong)


class AsyncProcessTest(ScriptedTest, unittest.IsolatedAsyncioTestCase):
    async def test_life(self):
        daemon = self.serve(**HANDLERS)
        async with AsyncSandbox(daemon.path) as sandbox, sandbox.session() as session:
            process = await session.start(argv=["cat"], cwd="d", stdin=b"x", terminal=(2, 3))
            self.assertEqual([await process.write("abc"), await process.write(b"\0\xff")], [3, 3])
            await process.close_stdin()
            await process.signal("INT")
            await process.kill()
            await process.resize(4, 5)
            self.assertEqual((await session.processes())[0].state, "running")
            out = []

            async def hear(text):
                out.append(text)

            self.assertEqual((await process.wait(on_stdout=hear)).exit_code, 3)
            self.assertEqual("".join(out), "grün")
        self.assertEqual([(one["method"], one["params"]) for one in daemon.requests[1:-1]], SENT)
