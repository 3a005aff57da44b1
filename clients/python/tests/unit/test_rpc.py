# SPDX-License-Identifier: Apache-2.0
"""The protocol without a connection: lines, ids, replies, the end."""

import base64
import json
import unittest

from execsandbox import ConnectionLostError, errors
from execsandbox._rpc import REPLY_MAX_BYTES, Output, Rpc


def line(**message):
    return json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=False).encode() + b"\n"


def output(request_id, data, stream="stdout", **more):
    return line(method="run.output",
                params={"id": request_id, "seq": 0, "stream": stream, "data": data, **more})


class RpcTest(unittest.TestCase):
    def setUp(self):
        self.replied = 0
        self.rpc = Rpc(self.count)

    def count(self):
        self.replied += 1

    def begin(self, method="m", **params):
        """(id, events) of a new request."""
        events = []
        request_id, sent = self.rpc.begin(method, params, events.append)
        self.assertEqual(json.loads(sent), {"jsonrpc": "2.0", "id": request_id, "method": method,
                                            "params": params})
        self.assertEqual((sent.count(b"\n"), sent[-1:]), (1, b"\n"))
        return request_id, events

    def test_request_is_one_line(self):
        self.begin(code="a\nb\r\0\u2028ü🎉")

    def test_any_pieces(self):
        """However the bytes are cut, in characters too, the same comes out."""
        for size in (1, 2, 3, 7, 1000):
            with self.subTest(size=size):
                request_id, events = self.begin()
                data = b"\r\n\n" + output(request_id, "grüße 日本 🎉\n") + line(id=request_id, result="ü")
                for at in range(0, len(data), size):
                    self.assertTrue(self.rpc.receive(data[at:at + size]))
                self.assertEqual(events[0], Output("stdout", "grüße 日本 🎉\n".encode()))
                self.assertEqual([event.result for event in events[1:]], ["ü"])

    def test_out_of_order(self):
        first, first_events = self.begin()
        second, second_events = self.begin()
        self.rpc.receive(line(id=second, result=2) + line(id=first, result=1))
        self.assertEqual((first_events[0].result, second_events[0].result), (1, 2))
        self.assertEqual(self.replied, 2)

    def test_base64(self):
        request_id, events = self.begin()
        data = bytes(range(256))
        self.rpc.receive(output(request_id, base64.b64encode(data).decode(), "stderr", encoding="base64"))
        self.assertEqual(events, [Output("stderr", data)])

    def test_error(self):
        request_id, events = self.begin()
        data = {"name": "CAPACITY", "retryable": True, "hint": "wait", "retry_after_ms": 5}
        self.rpc.receive(line(id=request_id, error={"code": 3002, "message": "Full", "data": data}))
        error = events[0].error
        self.assertIsInstance(error, errors.CapacityError)
        self.assertEqual((str(error), error.code, error.name, error.retryable, error.hint, error.data),
                         ("Full", 3002, "CAPACITY", True, "wait", data))

    def test_strangers(self):
        """What is nobody's is left alone: notifications, and replies to ids that are over."""
        request_id, events = self.begin()
        self.assertTrue(self.rpc.receive(
            line(method="event", params={"seq": 1}) + line(method="new", params=None) + output(99, "x")
            + line(id=99, result=1) + line(id=request_id, result=None, new_member=1)))
        self.assertEqual([event.result for event in events], [None])

    def test_cancel(self):
        """A request is pending until its reply: that of a cancelled one ends it, once."""
        request_id, events = self.begin()
        self.assertEqual(json.loads(self.rpc.cancel(request_id)),
                         {"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": request_id}})
        self.assertEqual(self.replied, 0)
        self.rpc.receive(line(id=request_id, error={"code": -32800, "message": "Cancelled"}))
        self.assertEqual((self.replied, len(events)), (1, 1))
        self.assertEqual(self.rpc.cancel(request_id), b"")

    def test_end_of_stream(self):
        """All that are pending hear of the end, each with an exception of its own; then nothing begins."""
        (_, first), (_, second) = self.begin(), self.begin()
        self.rpc.receive(b'{"jsonrpc":')
        self.assertFalse(self.rpc.receive(b""))
        self.assertIsInstance(first[0].error, ConnectionLostError)
        self.assertIsNot(first[0].error, second[0].error)
        self.assertEqual(self.replied, 2)
        with self.assertRaises(ConnectionLostError):
            self.rpc.begin("m", {}, first.append)

    def test_refused(self):
        """An error without id is about the connection, and stays the reason when that closes."""
        _, events = self.begin()
        self.assertFalse(self.rpc.receive(line(id=None, error={"code": 1011, "message": "Too many"})))
        self.rpc.receive(b"")
        self.assertIsInstance(events[0].error, errors.TooManyRequestsError)
        with self.assertRaises(errors.TooManyRequestsError):
            self.rpc.begin("m", {}, events.append)

    def test_not_json_rpc(self):
        for bad in (b"hello\n", b"[1]\n", b"5\n", b"{}\n", b"\xff\xfe\n", b'{"id":1}\n', b"[" * 99999 + b"\n",
                    b'{"method":"run.output","params":{"id":1}}\n', b'{"id":{},"result":1}\n',
                    output(1, "x", encoding="base64")):
            with self.subTest(bad=bad[:40]):
                self.setUp()
                _, events = self.begin()
                self.assertFalse(self.rpc.receive(bad))
                self.assertIsInstance(events[-1].error, ConnectionLostError)

    def test_line_without_end(self):
        _, events = self.begin()
        piece = bytes(REPLY_MAX_BYTES // 4)
        self.assertTrue(all(self.rpc.receive(piece) for _ in range(4)))
        self.assertFalse(self.rpc.receive(b"x"))
        self.assertIsInstance(events[0].error, ConnectionLostError)

    def test_cannot_be_sent(self):
        """What the daemon would close the connection for is refused here, and others go on."""
        request_id, events = self.begin()
        for params, error in (({"a": "x" * (16 << 20)}, errors.MessageTooLargeError),
                              ({"a": "\ud800"}, ValueError), ({"a": float("nan")}, ValueError),
                              ({"a": b"x"}, TypeError)):
            with self.assertRaises(error):
                self.rpc.begin("m", params, events.append)
        self.rpc.receive(line(id=request_id, result=1))
        self.assertEqual(len(events), 1)
