# SPDX-License-Identifier: Apache-2.0
"""Values in, values out: parameters, results, errors."""

import base64
import os
import pickle
import re
import traceback
import unittest

from execsandbox import RpcError, RunResult, SessionInfo, _requests, errors
from execsandbox._call import Call
from execsandbox._requests import Request
from execsandbox._rpc import Output, Reply

TREE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../../..")


class Errors(unittest.TestCase):
    def test_table_of_the_daemon(self):
        """There is a class for each row of protocol/rpc_error.c, with its code, retryable and help."""
        with open(os.path.join(TREE, "protocol/rpc_error.h"), encoding="utf-8") as header:
            numbers = dict(re.findall(r"\t(RPC_\w+) = (-?\d+),", header.read()))
        with open(os.path.join(TREE, "protocol/rpc_error.c"), encoding="utf-8") as source:
            rows = re.findall(r'\{(RPC_\w+), (true|false), "(\w+)",\s*"([^"]*)"\}', source.read())
        self.assertEqual(len(rows), len(numbers))
        self.assertEqual(len(RpcError.__subclasses__()), len(rows))
        for constant, retryable, name, sentence in rows:
            with self.subTest(name=name):
                error = RpcError.from_wire({"code": int(numbers[constant]), "message": "m"})
                class_name = name.title().replace("_", "").removesuffix("Error") + "Error"
                self.assertEqual(type(error).__name__, class_name)
                self.assertIs(getattr(errors, class_name), type(error))
                self.assertEqual((error.name, error.retryable), (name, retryable == "true"))
                self.assertTrue(type(error).__doc__.startswith(sentence.partition(";")[0]))

    def test_unknown(self):
        """An error of a daemon that is newer than this client."""
        wire = {"code": 9001, "message": "m", "data": {"name": "NEW", "retryable": True}}
        error = RpcError.from_wire(wire)
        self.assertEqual((type(error), error.code, error.name, error.retryable, error.hint),
                         (RpcError, 9001, "NEW", True, None))

    def test_hint_in_traceback(self):
        error = RpcError.from_wire({"code": 2003, "message": "No 'x'", "data": {"hint": "ask for y"}})
        self.assertIn("Hint: ask for y", "".join(traceback.format_exception(error)))

    def test_pickle(self):
        """Errors pass between processes."""
        data = {"hint": "h", "field": "f", "result": {"stdout": "x"}}
        error = pickle.loads(pickle.dumps(RpcError.from_wire({"code": 2006, "message": "m", "data": data})))
        self.assertEqual((type(error), str(error), error.data, error.__notes__),
                         (errors.LimitInvalidError, "m", data, ["Hint: h"]))
        self.assertEqual(error.result.stdout, "x")


class Results(unittest.TestCase):
    def test_text_and_bytes(self):
        data = b"ab\xff\xfec"
        result = RunResult.from_wire({"status": "ok", "stdout": base64.b64encode(data).decode(),
                                      "stdout_encoding": "base64", "stderr": "ü"})
        self.assertEqual((result.stdout, result.stdout_raw), ("ab\ufffd\ufffdc", data))
        self.assertEqual((result.stderr, result.stderr_raw), ("ü", "ü".encode()))

    def test_unknown_and_missing(self):
        """Fields that are new are in raw; those that are missing have defaults."""
        wire = {"status": "error", "exit_code": 3, "new": 1, "timing": {"total_ms": 1.5, "new_ms": 2},
                "usage": None, "error": {"name": "E", "value": "v", "traceback": None, "new": 1}}
        result = RunResult.from_wire(wire)
        self.assertEqual((result.exit_code, result.ok, result.timing.total_ms, result.usage.oom_kills),
                         (3, False, 1.5, 0))
        self.assertEqual((result.error.name, result.error.traceback), ("E", None))
        self.assertEqual(result.raw["new"], 1)
        self.assertEqual(SessionInfo.from_wire({"session": "ses_1", "new": 1}).raw["new"], 1)
        with self.assertRaises(AttributeError):
            result.status = "ok"


class Requests(unittest.TestCase):
    def test_only_what_is_given(self):
        self.assertEqual(_requests.run("x", "shell", {"env": None, "limits": None}).params,
                         {"language": "shell", "code": "x"})
        self.assertEqual(_requests.session_update("s", {"name": ""}).params, {"session": "s", "name": ""})
        self.assertEqual(_requests.session_list(None, "idle", None, None).params, {"state": "idle"})

    def test_all(self):
        request = _requests.run("x", "python", {
            "args": ("a", "b"), "stdin": b"\xff", "env": {"A": "1"}, "limits": {"pids": 5},
            "timeout_seconds": 2, "on_stderr": print})
        self.assertEqual(request.params, {
            "language": "python", "code": "x", "args": ["a", "b"], "stdin": "/w==",
            "stdin_encoding": "base64", "env": {"A": "1"}, "limits": {"pids": 5},
            "timeout_seconds": 2, "stream": True})

    def test_refused(self):
        for make in (lambda: _requests.run("x", "python", {"colour": 1}),
                     lambda: _requests.run("x", "python", {"args": "abc"}),
                     lambda: _requests.session_create({"argv": []}),
                     lambda: _requests.session_update("s", {"env": {}}),
                     lambda: _requests.session_exec("s", "x", None, None, {"limits": {}}),
                     lambda: _requests.session_exec("s", "x", None, None, {"args": "abc"}),
                     lambda: _requests.session_exec("s", None, None, None, {}),
                     lambda: _requests.session_exec("s", "x", ["x"], None, {})):
            with self.assertRaises(TypeError):
                make()


class Streams(unittest.TestCase):
    """What callbacks hear, from whatever part of it was streamed."""

    def heard(self, chunks, reply):
        heard = []
        call = Call(Request("run", {}, RunResult.from_wire, on_stdout=heard.append))
        for event in [*(Output("stdout", chunk) for chunk in chunks), Output("stderr", b"no"), reply]:
            for callback, text in call.take(event):
                callback(text)
        return heard

    def test_nothing_twice_nothing_lost(self):
        text = "grüße 日本 🎉\n"
        data = text.encode()
        for at in range(len(data) + 1):
            heard = self.heard([data[:at]], Reply({"stdout": text}))
            self.assertEqual("".join(heard), text)
            heard = self.heard([data[:at], data[at:]], Reply({"stdout": text}))
            self.assertEqual("".join(heard), text)

    def test_bytes(self):
        data = b"a\xffb\xe6\x97"
        wire = {"stdout": base64.b64encode(data).decode(), "stdout_encoding": "base64"}
        self.assertEqual("".join(self.heard([data[:2]], Reply(wire))), data.decode(errors="replace"))

    def test_result_is_shorter(self):
        """A result that was cut at a character has less than what was streamed."""
        self.assertEqual("".join(self.heard(["ab".encode(), "日".encode()], Reply({"stdout": "ab"}))), "ab日")

    def test_error_with_output(self):
        error = RpcError.from_wire({"code": 4002, "message": "m", "data": {"result": {"stdout": "abc"}}})
        self.assertEqual(self.heard([b"a"], Reply(error=error)), ["a", "bc"])
        self.assertEqual(self.heard([b"a"], Reply(error=RpcError("m"))), ["a"])
