# SPDX-License-Identifier: Apache-2.0
"""What the tests with a scripted daemon share: what it answers."""

import unittest

from fake_daemon import FakeDaemon

SESSION = {"session": "ses_1", "name": None, "state": "idle", "language": "shell", "vm": "vm_1"}


def result(**changes):
    return {"status": "ok", "exit_code": 0, "stdout": "", "stderr": "", "vm": "vm_1", **changes}


def answer(value):
    return lambda connection, request: connection.result(request, value)


def fail(code, message, **data):
    return lambda connection, request: connection.error(request, code, message, **data)


def stream(connection, request, *chunks):
    for seq, (name, data) in enumerate(chunks):
        connection.notify("run.output", id=request["id"], seq=seq, stream=name, data=data)


def until_cancelled(connection, request):
    """Writes "on", and goes on until the request is cancelled."""
    stream(connection, request, ("stdout", "on"))
    cancel = connection.receive()
    assert (cancel["method"], cancel["params"]) == ("$/cancelRequest", {"id": request["id"]}), cancel
    connection.error(request, -32800, "Cancelled", result=result(stdout="on"))


def pages(connection, request):
    """Three sessions, two in a page."""
    sessions = [{**SESSION, "session": f"ses_{number}"} for number in range(3)]
    if request["params"].get("cursor") == "2":
        connection.result(request, {"sessions": sessions[2:]})
    else:
        connection.result(request, {"sessions": sessions[:2], "next_cursor": "2"})


def hold(count):
    """A handler that answers `count` requests when all are there, the last first, with their code."""
    held = []

    def handler(connection, request):
        held.append(request)
        if len(held) == count:
            for one in reversed(held):
                connection.result(one, result(stdout=one["params"]["code"]))
            held.clear()

    return handler


class ScriptedTest(unittest.TestCase):
    """A test with a daemon of its own."""

    def serve(self, **handlers):
        """A daemon; the first underscore of a name is the method's dot."""
        daemon = FakeDaemon({name.replace("_", ".", 1): one for name, one in handlers.items()})
        self.addCleanup(daemon.close)
        return daemon
