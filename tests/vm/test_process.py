# SPDX-License-Identifier: Apache-2.0
"""Background processes of sessions (fake QEMU): tests/fake/qemu/background.h has what they do."""

import base64
import contextlib
import signal
import time

from client import RpcError
from support import SessionTest, until
from test_pool_users import FIRST, User

RING = 1 << 20


class Processes(SessionTest):
    settings = {"drain_timeout_seconds": 1}

    def setUp(self):
        super().setUp()
        self.session = self.create()

    def start_request(self, *lines, **params):
        return self.client.request("session.exec", session=self.session, command="\n".join(lines), background=True,
                                   **params)

    def start(self, *lines, **params):
        return self.client.wait(self.start_request(*lines, **params))["process"]

    def call(self, method, process, client=None, **params):
        return (client or self.client).call(f"process.{method}", session=self.session, process=process, **params)

    def request(self, method, process, client=None, **params):
        return (client or self.client).request(f"process.{method}", session=self.session, process=process, **params)

    def list(self):
        return self.client.call("process.list", session=self.session)["processes"]

    def info(self):
        return self.client.call("session.info", session=self.session)

    def has_written(self, process, text):
        until(lambda: text in self.call("wait", process, timeout_seconds=0)["stdout"], f"it has written {text!r}")

    def output(self, client, process, stream="stdout"):
        """What process.output has brought, and that its offsets follow each other."""
        data, offset = b"", None
        for method, params in client.notifications:
            if method != "process.output" or (params["process"], params["stream"]) != (process, stream):
                continue
            self.assertIn(offset, (None, params["offset"]))
            piece = params["data"].encode()
            piece = base64.b64decode(piece) if params.get("encoding") == "base64" else piece
            data += piece
            offset = params["offset"] + len(piece)
        return data

    def test_life(self):
        """It runs beside the session's programs, which are none the wiser, up to its end and its receipt."""
        before = self.info()
        process = self.start("out on", "err bad", "", env={"A": "b"})
        self.assertRegex(process, "^proc_[0-9a-f]{16}$")
        self.assertEqual((self.info()["state"], self.info()["processes"]), ("idle", 1))
        self.assertEqual(self.client.call("info")["vms"]["running"], 1)
        for text in "ab":
            result = self.client.call("session.exec", session=self.session, command=f"out {text}")
            self.assertEqual((result["status"], result["stdout"]), ("ok", f"{text}\n"))
        shown = self.list()[0]
        self.assertEqual((shown["process"], shown["state"], shown["command"], shown["terminal"], shown["status"]),
                         (process, "running", "out on", None, None))
        running = self.call("wait", process, timeout_seconds=0.01)
        self.assertEqual((running["state"], running["stdout"], running["stderr"]), ("running", "on\n", "bad\n"))
        waiting = [self.request("wait", process, stdout_offset=offset) for offset in (0, 3, 1000)]
        self.call("signal", process)
        results = [self.client.wait(request) for request in waiting]
        self.assertEqual([(result["status"], result["exit_code"], result["signal"]) for result in results],
                         [("signal", 143, "SIGTERM")] * 3)
        self.assertEqual([(result["stdout"], result["stdout_offset"], result["stdout_bytes"]) for result in results],
                         [("on\n", 0, 3), ("", 3, 3), ("", 3, 3)])
        self.assertEqual((results[0]["process"], results[0]["session"], results[0]["stderr"]),
                         (process, self.session, "bad\n"))
        self.assertEqual(self.client.call("info")["vms"]["running"], 0)
        self.assertEqual(self.call("wait", process), results[0])
        self.assertEqual((self.list()[0]["state"], self.list()[0]["signal"]), ("ended", "SIGTERM"))
        after = self.info()
        self.assertEqual((after["processes"], after["execs"] - before["execs"]), (0, 2))

    def test_input(self):
        """It gets what is written, in order; a write is answered when it has it; the end is its own to see."""
        process = self.start("out >", stdin="first ")
        self.assertEqual(self.call("write", process, data="grüße "), {"bytes": 8})
        self.assertEqual(self.call("write", process, data=""), {"bytes": 0})
        large = bytes(range(256)) * 2000
        self.assertEqual(self.call("write", process, data=base64.b64encode(large).decode(), encoding="base64"),
                         {"bytes": len(large)})
        self.assertTrue(self.list()[0]["stdin_open"])
        self.assertEqual(self.call("close_stdin", process), {})
        result = self.call("wait", process)
        self.assertEqual((result["status"], base64.b64decode(result["stdout"])),
                         ("ok", ">\nfirst grüße ".encode() + large))
        for method, params in (("write", {"data": "x"}), ("close_stdin", {}), ("signal", {}),
                               ("resize", {"rows": 1, "columns": 1})):
            error = self.assert_error(4010, self.call, method, process, **params)
            self.assertEqual(error.data["reason"], "ended")

    def test_input_waits(self):
        """One that does not read holds its writers back, within bounds, and lets them go when it ends."""
        process = self.start("deaf")
        piece = "x" * (1 << 20)
        others = [self.sandbox.client() for _ in range(2)]
        waiting = [(client, self.request("write", process, client, data=piece)) for client in others for _ in range(2)]
        cancelled = self.request("write", process, data="tail")
        self.client.cancel(cancelled)
        self.assertEqual(self.assert_error(-32800, self.client.wait, cancelled).data["bytes"], 0)
        error = self.assert_error(1011, self.call, "write", process, data=piece)
        self.assertTrue(error.data["retryable"])
        others[1].close()
        self.call("close_stdin", process)
        self.assert_error(-32602, self.call, "write", process, data="x")
        self.call("signal", process, signal="KILL")
        first, second = (self.assert_error(4010, client.wait, request) for client, request in waiting[:2])
        self.assertEqual((first.data["bytes"], second.data["bytes"]), (256 << 10, 0))
        self.assertEqual(self.call("wait", process)["signal"], "SIGKILL")

    def test_output_is_kept_by_offset(self):
        """The last bytes of each stream stay; who asks for others is told what is missing."""
        process = self.start(f"fill {RING}", "out tail")
        self.has_written(process, "tail")
        result = self.call("wait", process, timeout_seconds=0)
        self.assertEqual((result["stdout_bytes"], result["stdout_offset"], result["stdout_truncated"]),
                         (RING + 5, 5, True))
        self.assertEqual(len(result["stdout"]), RING)
        result = self.call("wait", process, timeout_seconds=0, stdout_offset=RING)
        self.assertEqual((result["stdout"], result["stdout_offset"], result["stdout_truncated"]),
                         ("tail\n", RING, False))
        # Sequences are not cut; what is no text at the end is told all the same.
        self.call("write", process, data=base64.b64encode("ü".encode()[:1]).decode(), encoding="base64")
        self.assertEqual(self.call("wait", process, timeout_seconds=0, stdout_offset=RING + 5)["stdout"], "")
        self.call("close_stdin", process)
        result = self.call("wait", process, stdout_offset=RING + 5)
        self.assertEqual((result["stdout"], result["stdout_encoding"]), ("ww==", "base64"))

    def test_signals(self):
        process = self.start("trap")
        for name, number in (("SIGUSR1", signal.SIGUSR1), ("HUP", signal.SIGHUP), ("TERM", signal.SIGTERM)):
            self.call("signal", process, signal=name)
            self.has_written(process, f"signal {int(number)}\n")
        for name in ("SIGNOPE", "usr1", "9", "SIG"):
            error = self.assert_error(-32602, self.call, "signal", process, signal=name)
            self.assertEqual(error.data["field"], "signal")
        self.call("signal", process, signal="SIGKILL")
        self.assertEqual(self.call("wait", process)["exit_code"], 137)

    def test_terminal(self):
        process = self.start("size", terminal={"rows": 24, "columns": 80})
        self.has_written(process, "24 80\n")
        self.call("resize", process, rows=50, columns=132)
        self.has_written(process, "50 132\n")
        self.assertEqual(self.list()[0]["terminal"], {"rows": 50, "columns": 132})
        # The end of input is a character there, and more may follow it.
        self.call("close_stdin", process)
        self.has_written(process, "\x04")
        self.call("write", process, data="more")
        self.has_written(process, "more")
        self.assert_error(-32602, self.call, "resize", self.start("out x"), rows=1, columns=1)

    def test_starts_that_fail(self):
        """A program that the guest refuses never was there; a guest that says nothing is given up by its owner."""
        error = self.assert_error(3003, self.start, "failed no fork today")
        self.assertIn("no fork today", error.message)
        self.assertEqual(self.list(), [])
        request = self.start_request("mute")
        self.assertEqual(self.list(), [])
        self.client.cancel(request)
        self.assert_error(-32800, self.client.wait, request)
        until(lambda: self.info()["processes"] == 0, "it is gone")
        # One whose caller leaves goes on.
        other = self.sandbox.client()
        other.request("session.exec", session=self.session, command="out lone", background=True)
        other.close()
        until(lambda: [process["command"] for process in self.list()] == ["out lone"], "it is there")

    def test_refused(self):
        for params in ({"code": "1"}, {"command": "out x", "timeout_seconds": 1}, {"command": "out x", "exec_id": "a"},
                       {"command": "out x", "stream": True}, {}, {"command": "out x", "cwd": "a\0b"},
                       {"command": "out x", "terminal": {"rows": 1}}):
            with self.assertRaises(RpcError, msg=params) as caught:
                self.client.call("session.exec", session=self.session, background=True, **params)
            self.assertEqual(caught.exception.code, -32602)
        self.assert_error(-32602, self.client.call, "session.exec", session=self.session, command="out x",
                          terminal={"rows": 1, "columns": 1})
        self.assert_error(-32602, self.client.call, "session.attach", session=self.session, stdout_offset=1)
        for method, params in (("wait", {}), ("signal", {}), ("close_stdin", {}), ("write", {"data": ""}),
                               ("resize", {"rows": 1, "columns": 1})):
            self.assert_error(4010, self.call, method, "proc_0000000000000000", **params)

    def test_bounds(self):
        """So many at a time, and so many that have ended are known."""
        living = [self.start("trap") for _ in range(16)]
        error = self.assert_error(1003, self.start, "out x")
        self.assertEqual(error.data["max"], 16)
        self.call("signal", living[0], signal="KILL")
        self.call("wait", living[0])
        for i in range(16):
            self.call("wait", self.start(f"exit {i}"))
        self.assert_error(4010, self.call, "wait", living[0])
        shown = self.list()
        self.assertEqual([process["process"] for process in shown[:15]], living[1:])
        self.assertEqual([process["exit_code"] for process in shown[15:]], list(range(16)))

    def test_attached(self):
        """All output comes, in order, of one process from an offset and of all from now on."""
        old = self.start("out old", "err bad")
        other, all_of_it = self.sandbox.client(), self.sandbox.client()
        self.has_written(old, "old")
        attached = other.call("session.attach", session=self.session, process=old, stdout_offset=1)
        self.assertEqual((attached["session"], attached["processes"]),
                         (self.session, [{"process": old, "stdout_offset": 1, "stderr_offset": 0}]))
        all_of_it.call("session.attach", session=self.session)
        new = self.start("out new")
        self.call("write", old, data="more\n")
        other.wait_notification(lambda *_: self.output(other, old) == b"ld\nmore\n")
        other.wait_notification(lambda *_: self.output(other, old, "stderr") == b"bad\n")
        all_of_it.wait_notification(lambda *_: self.output(all_of_it, old) == b"more\n")
        all_of_it.wait_notification(lambda *_: self.output(all_of_it, new) == b"new\n")
        self.assertEqual(self.output(other, new), b"")
        # Again, from the beginning; and an end inside a sequence.
        other.notifications.clear()
        other.call("session.attach", session=self.session, process=old)
        self.call("write", old, data=base64.b64encode(b"\xc3").decode(), encoding="base64")
        self.call("close_stdin", old)
        other.wait_notification(lambda *_: self.output(other, old) == b"old\nmore\n\xc3")
        # Who has shut its sending side down still hears.
        other.half_close()
        self.call("write", new, data="on")
        self.assertEqual(self.call("wait", new, timeout_seconds=0)["stdout"], "new\non")

    def test_attached_to_programs(self):
        """Who is attached to all hears the session's programs, whoever has called them."""
        other = self.sandbox.client()
        other.call("session.attach", session=self.session)
        for text, exec_id in (("one", None), ("two", "mine")):
            self.client.call("session.exec", session=self.session, command=f"out {text}\nerr bad\nfill 200000",
                             **({"exec_id": exec_id} if exec_id else {}))
        other.call("rpc.ping")
        heard = {}
        for method, params in other.notifications:
            self.assertEqual((method, params["id"], params["session"]), ("run.output", None, self.session))
            key = params["exec"], params["stream"]
            self.assertEqual(params["offset"], len(heard.get(key, "")))
            heard[key] = heard.get(key, "") + params["data"]
        self.assertEqual(heard, {(1, "stdout"): "one\n" + "x" * 200000, (1, "stderr"): "bad\n",
                                 (2, "stdout"): "two\n" + "x" * 200000, (2, "stderr"): "bad\n"})

    def test_pace(self):
        """What is written without end is read at a pace, and the others of the daemon do not notice."""
        begun = time.monotonic()
        process = self.start(f"fill {12 << 20}", "exit 0")
        self.assertEqual(self.client.call("session.exec", session=self.session, command="out x")["stdout"], "x\n")
        self.assertEqual(self.call("wait", process)["stdout_bytes"], 12 << 20)
        self.assertGreater(time.monotonic() - begun, 0.4)

    def test_attached_reader_is_waited_for(self):
        """A process is held up by a connection that follows it and does not read, and loses nothing by it."""
        size = 4 << 20
        other = self.sandbox.client()
        process = self.start("out on")
        other.call("session.attach", session=self.session, process=process)
        flood = self.start(f"fill {size}")
        other.call("session.attach", session=self.session, process=flood)
        seen = 0
        while True:
            time.sleep(0.3)
            now = self.call("wait", flood, timeout_seconds=0, stdout_offset=1 << 40)["stdout_bytes"]
            if now == seen:
                break
            seen = now
        self.assertLess(seen, size)
        # The daemon and the session are anybody's, meanwhile.
        self.assertEqual(self.client.call("session.exec", session=self.session, command="out x")["stdout"], "x\n")
        other.wait_notification(lambda *_: len(self.output(other, flood)) == size)
        # Who leaves holds nobody up.
        again = self.start(f"fill {size}")
        other.call("session.attach", session=self.session, process=again)
        other.close()
        until(lambda: self.call("wait", again, timeout_seconds=0, stdout_offset=1 << 40)["stdout_bytes"] == size,
              "all is written")

    def test_rest(self):
        """A VM rests when neither a program nor a process runs in it; the idle time is that between calls."""
        session = self.session = self.create(idle_timeout_seconds=1)
        process = self.start("trap")
        waiting = self.request("wait", process)
        time.sleep(1.5)
        self.assertEqual(self.info()["state"], "idle")
        self.client.cancel(waiting)
        self.assert_error(-32800, self.client.wait, waiting)
        other = self.sandbox.client()
        other.call("session.attach", session=session)
        time.sleep(1.5)
        self.assertEqual(self.info()["state"], "idle")
        closed = self.request("wait", process, other)
        time.sleep(0.1)
        other.close()
        with self.sandbox.client() as third:
            until(lambda: session not in str(third.call("session.list")), "it closes, whatever runs")
        error = self.assert_error(4002, self.call, "wait", process)
        self.assertEqual(error.data["reason"], "idle_timeout")
        del closed

    def test_session_ends(self):
        """With the session all of them end, and all who wait hear why."""
        process = self.start("deaf")
        other = self.sandbox.client()
        other.call("session.attach", session=self.session)
        requests = [self.request("wait", process), self.request("write", process, data="x"),
                    self.start_request("mute")]
        self.call("wait", process, timeout_seconds=0)
        self.client.call("session.close", session=self.session)
        for request in requests:
            error = self.assert_error(4002, self.client.wait, request)
            self.assertEqual(error.data["reason"], "closed")
        self.assert_error(4002, self.call, "wait", process)
        other.call("rpc.ping")

    def test_vm_is_lost(self):
        process = self.start("trap")
        waiting = self.request("wait", process)
        self.call("wait", process, timeout_seconds=0)
        self.client.request("session.exec", session=self.session, command="die 1")
        self.assertEqual(self.assert_error(4002, self.client.wait, waiting).data["reason"], "vm_lost")

    def test_others_do_not_see_them(self):
        process = self.start("trap")
        with contextlib.closing(User(self.sandbox.socket, FIRST)) as user:
            for method, params in (("process.list", {}), ("process.wait", {"process": process}), ("session.attach", {})):
                self.assertEqual(user.call(method, session=self.session, **params)["error"], 4001)

    def test_daemon_ends(self):
        self.start("trap")
        self.start_request("mute")
        waiting = self.request("wait", self.start("trap"))
        self.sandbox.signal(signal.SIGTERM)
        self.assert_error((1001, 3004, 4002), self.client.wait, waiting)
        self.assertEqual(self.sandbox.wait(), 0)
