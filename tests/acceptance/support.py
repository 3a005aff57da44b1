# SPDX-License-Identifier: Apache-2.0
"""What the acceptance tests share: connections, runs, and the VMs that were seen."""

import os
import shutil
import subprocess
import sys
import threading
import time
import unittest

from client import Client, RpcError

SOCKET = os.environ.get("EXECSANDBOX_SOCKET", "")
HERE = os.path.dirname(os.path.abspath(__file__))

# A cold boot under TCG takes 3 to 5 s; a machine that is shared gets much more.
DEADLINE = 120

# Every VM that a test has run in: nothing of them may be left at the end.
vms_seen = set()


def connect(timeout=DEADLINE):
    return Client(SOCKET, timeout)


def exclusive(item):
    """Marks a test (or a class) that must not share the machine or its limits with others."""
    item.is_exclusive = True
    return item


class DaemonTest(unittest.TestCase):
    """A test with one connection of its own, `self.client`."""

    def setUp(self):
        self.client = connect()
        self.addCleanup(self.client.close)

    def finish(self, request_id, client=None):
        result = (client or self.client).wait(request_id)
        vms_seen.add(result["vm"])
        return result

    def run_code(self, code, language="python", /, **params):
        """Runs code to its end; returns the RunResult, whatever its status."""
        return self.finish(self.client.request("run", language=language, code=code, **params))

    def run_ok(self, code, language="python", /, **params):
        """Runs code that must succeed; returns its stdout."""
        result = self.run_code(code, language, **params)
        self.assertEqual(
            (result["status"], result["exit_code"], result["stderr"]), ("ok", 0, ""), result
        )
        return result["stdout"]

    def start(self, code, language="python", /, client=None, **params):
        """Starts a run that streams; returns its id."""
        return (client or self.client).request(
            "run", language=language, code=code, stream=True, **params
        )

    def vm_of(self, request_id, client=None):
        """The VM of a streaming run, once it has started."""
        started = (client or self.client).wait_notification(
            lambda method, params: method == "run.started" and params["id"] == request_id
        )
        vms_seen.add(started["vm"])
        return started["vm"]

    def stop(self, request_id, client=None):
        """Cancels a run; returns its partial result."""
        client = client or self.client
        client.cancel(request_id)
        with self.assertRaises(RpcError) as caught:
            client.wait(request_id)
        self.assertEqual(caught.exception.code, -32800)
        return caught.exception.data["result"]

    def assert_error(self, code, name, method, /, **params):
        """Calls a method that must fail; returns the error."""
        with self.assertRaises(RpcError) as caught:
            self.client.call(method, **params)
        error = caught.exception
        self.assertEqual((error.code, error.data.get("name")), (code, name), error.message)
        self.assertIn("retryable", error.data)
        self.assertNotIn("\n", error.message)
        return error

    def assert_run_error(self, code, name, /, **params):
        params = dict({"language": "python", "code": "print(1)"}, **params)
        return self.assert_error(code, name, "run", **params)

    def until(self, condition, what, deadline=30):
        """Polls until condition() is true; returns its value."""
        stop = time.monotonic() + deadline
        while True:
            value = condition()
            if value:
                return value
            self.assertLess(time.monotonic(), stop, f"{what} within {deadline} s")
            threading.Event().wait(0.1)  # the daemon has no notification for every condition


def as_other_user(program, uid=65534):
    """Runs Python code as another uid that may use the socket; `client` is connected there.

    The program is given as text because that user may not reach this tree. Returns its stdout.
    """
    with open(os.path.join(HERE, "client.py"), encoding="utf-8") as source:
        client = source.read()
    directory = os.open(os.path.dirname(SOCKET) or ".", os.O_PATH | os.O_DIRECTORY)
    try:
        # The system's Python goes first: one of root's own may be out of that user's reach.
        python = shutil.which("python3", path="/usr/bin:/bin") or sys.executable
        done = subprocess.run(
            [python, "-c",
             f"{client}\nclient = Client('/proc/self/fd/{directory}/{os.path.basename(SOCKET)}')\n"
             f"{program}"],
            user=uid, group=uid, extra_groups=[os.stat(SOCKET).st_gid], pass_fds=[directory],
            cwd="/", capture_output=True, text=True, timeout=DEADLINE,
        )
    finally:
        os.close(directory)
    if done.returncode != 0:
        raise AssertionError(f"program of uid {uid} failed: {done.stderr}")
    return done.stdout


needs_root = unittest.skipUnless(os.geteuid() == 0, "needs root: an admin and another uid")
