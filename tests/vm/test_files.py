# SPDX-License-Identifier: Apache-2.0
"""File operations over a guest that is well, that lies, and that does not end (fake QEMU): of an operation
the path is the fake's program, and what that prints as errors are the results."""

import base64
import json
import socket
import threading

from client import RpcError
from support import SessionTest, VmTest, until


def answer(*results, data=""):
    lines = [f"out {data}"] if data else []
    return "\n".join([*lines, "err " + json.dumps(results)])


class FileTest(SessionTest):
    def setUp(self):
        super().setUp()
        self.session = self.create()

    def call(self, method, path=None, **params):
        if path is not None:
            params["path"] = path
        return self.client.call(f"file.{method}", session=self.session, **params)

    def start(self, method, path, **params):
        return self.client.request(f"file.{method}", session=self.session, path=path, **params)

    def assert_closed(self, reason):
        error = self.assert_error(4002, self.client.call, "session.info", session=self.session)
        self.assertEqual(error.data["reason"], reason)


class Files(FileTest):
    def test_results(self):
        """What the guest says becomes what the API promises."""
        entry = {"type": "file", "size": 3, "mode": 0o644, "mtime_ns": 1_500_000_000_000_000_000}
        shown = {"type": "file", "size": 3, "mode": "0644", "mtime": "2017-07-14T02:40:00.000Z"}
        self.assertEqual(self.call("write", answer({"bytes": 3}), data="abc"), {"bytes": 3})
        self.assertEqual(self.call("write", answer({"bytes": 1, "size": 9}), data="YQ==", encoding="base64",
                                   append=True), {"bytes": 1, "size": 9})
        self.assertEqual(self.call("list", answer({"entries": [entry | {"name": "a"}, entry | {"name_hex": "ff"},
                                                               entry | {"name": "l", "target": "a"}]})),
                         {"entries": [shown | {"name": "a"}, shown | {"name": "/w==", "encoding": "base64"},
                                      shown | {"name": "l", "target": "a"}], "truncated": False})
        for method, params in (("mkdir", {}), ("remove", {}), ("rename", {"new_path": "n"})):
            self.assertEqual(self.call(method, answer({}), **params), {})
        stat = self.call("stat", answer({"entry": entry}))
        stat.pop("name")
        self.assertEqual(stat, shown)

    def test_read(self):
        """Pieces of texts end with whole characters; what is no text is base64."""
        read = {"size": 4, "length": 4}
        self.assertEqual(self.call("read", answer(read, data="\u00e4b")),
                         {"data": "\u00e4b\n", "encoding": "utf-8", "bytes": 4, "size": 4, "eof": True})
        piece = self.call("read", answer({"size": 9, "length": 4}, data="\u00e4b"), encoding="base64", length=4)
        self.assertEqual((base64.b64decode(piece["data"]), piece["eof"]), ("\u00e4b\n".encode(), False))
        self.assertEqual(self.call("read", answer({"size": 0, "length": 0}))["data"], "")

    def test_errors(self):
        """Each errno of the guest has its code, with the path and the session."""
        for number, code in ((2, 5001), (116, 5001), (17, 5002), (39, 5002), (21, 5003), (20, 5004), (27, 5005),
                             (28, 5006), (12, 5006), (13, 5007), (1, 5007), (18, 2005), (40, 2005), (22, 2005),
                             (36, 2005), (95, 2005), (24, 1003), (5, 3003), (99999, 3003)):
            error = self.assert_error(code, self.call, "stat", answer({"error": number}))
            self.assertEqual(error.data["session"], self.session)

    def test_bad_parameters(self):
        """What cannot be asked for is refused before the guest hears of it."""
        for code, method, params in (
                (2005, "read", {"path": "/etc/passwd"}), (2005, "read", {"path": "/home/user"}),
                (2005, "read", {"path": "/home/username"}), (2005, "read", {"path": "a\0b"}), (2005, "read", {"path": ""}),
                (2005, "read", {"path": "x" * 4097}), (-32602, "read", {}), (-32602, "read", {"path": "a", "length": 0}),
                (-32602, "read", {"path": "a", "length": (8 << 20) + 1}), (2005, "write", {"data": "x"}),
                (-32602, "read", {"path": "a", "offset": -1}),
                (-32602, "write", {"path": "a", "data": "!", "encoding": "base64"}),
                (-32602, "write", {"path": "a", "mode": "rwx"}), (-32602, "write", {"path": "a", "mode": "9"}),
                (-32602, "write", {"path": "a", "append": True, "offset": 1}),
                (-32602, "write", {"path": "a", "commit": True}),
                (-32602, "write", {"upload": "upl_1", "append": True}),
                (-32602, "write", {"upload": "upl_1", "mode": "0644"}),
                (5005, "write", {"path": "a", "offset": 500 << 20, "data": "x"}),
                (2005, "rename", {"path": "a", "new_path": "/b"}), (-32602, "rename", {"path": "a"}),
                (-32602, "stat", {"path": "a", "follow": True})):
            self.assert_error(code, self.call, method, **params)
        self.assert_error(4001, self.client.call, "file.stat", session="ses_none", path="a")

    def test_lies(self):
        """Answers that make no sense cost the call that asked; the session goes on."""
        for text in ("no json", "{}", "[]", "[7]", "[{}, {}]", ""):
            self.assert_error(3003, self.call, "stat", f"err {text}")
        self.assert_error(3006, self.call, "read", answer({"size": 9, "length": 9}, data="a"))
        self.assert_error(3003, self.call, "stat", "signal 9")
        self.assert_error(3003, self.call, "stat", "failed no server")
        for results in ([{"entries": "x"}], [{"entries": [7, {}]}], [{}]):
            self.call("list", answer(*results))
            self.call("stat", answer(*results))
            self.call("read", answer(*results))
        self.assertEqual(self.call("write", answer({"bytes": 1}), data="x"), {"bytes": 1})

    def test_more_than_asked_for(self):
        """A guest that sends what nobody asked for has broken the protocol."""
        self.assert_error(3003, self.call, "stat", answer({}, data="more"))
        self.assert_closed("guest_protocol")

    def test_order_and_cancel(self):
        """One at a time, in the order they came; a cancelled one is answered when it has ended."""
        first = self.start("stat", "hang")
        rest = [self.start("write", answer({"bytes": i}), data="x" * i) for i in range(1, 6)]
        cancelled = rest.pop(2)
        self.client.cancel(cancelled)
        self.assert_error(-32800, self.client.wait, cancelled)
        info = self.client.call("session.info", session=self.session)
        self.assertEqual((info["state"], info["idle_since"], info["execs"]), ("idle", None, 0))
        self.client.cancel(first)
        self.assert_error(-32800, self.client.wait, first)
        self.assertEqual([self.client.wait(request)["bytes"] for request in rest], [1, 2, 4, 5])
        until(lambda: self.client.call("session.info", session=self.session)["idle_since"], "it is idle")

    def test_too_many(self):
        hanging = [self.start("stat", "hang") for _ in range(62)]
        with self.sandbox.client() as other:
            waiting = [other.request("file.stat", session=self.session, path=answer({"entry": {}})) for _ in range(2)]
            until(lambda: other.call("rpc.ping") == "pong", "they wait")
            self.assert_error(4003, other.call, "file.stat", session=self.session, path="a")
        self.client.call("session.close", session=self.session)
        for request in hanging:
            error = self.assert_error(4002, self.client.wait, request)
            self.assertEqual(error.data["dispatched"], request == hanging[0])
        self.assertEqual(len(waiting), 2)

    def test_caller_gone(self):
        """An operation that has begun is done; those that wait are not."""
        with self.sandbox.client() as other:
            other.request("file.stat", session=self.session, path="hang")
            other.request("file.stat", session=self.session, path="die 1")
            until(lambda: other.call("session.info", session=self.session)["idle_since"] is None, "it runs")
        request = self.start("stat", answer({"entry": {}}))
        self.client.call("session.close", session=self.session)
        self.assert_error(4002, self.client.wait, request)

    def test_unresponsive(self):
        """A guest that does not report the end closes the session."""
        request = self.start("stat", "ignore")
        self.client.cancel(request)
        error = self.assert_error(4002, self.client.wait, request)
        self.assertEqual((error.data["reason"], error.data["dispatched"]), ("unresponsive", True))

    def test_vm_lost(self):
        error = self.assert_error(4002, self.call, "stat", "die 1")
        self.assertEqual((error.data["reason"], error.data["dispatched"]), ("vm_lost", True))

    def test_before_and_beside(self):
        """Operations of a session that has no VM yet wait for it; others' sessions are not there."""
        create = self.client.request("session.create", language="shell", name="late")
        with self.sandbox.client() as other:
            until(lambda: any(s["name"] == "late" for s in other.call("session.list")["sessions"]), "it is there")
            self.assertEqual(other.call("file.write", session="late", path=answer({"bytes": 0})), {"bytes": 0})
        self.client.wait(create)

    def retry_until(self, code, client, **params):
        """Reads until that is refused so; what others have in flight comes when it comes."""
        def refused():
            try:
                client.call("file.read", **params)
            except RpcError as error:
                return error if error.code == code else None
            return None
        return until(refused, f"{code}")

    def test_quota(self):
        """What is read and written counts against the user's buffers."""
        sandbox = self.daemon("normal", buffered_bytes_per_uid=16 << 20)
        with sandbox.client() as client:
            sessions = [client.call("session.create", language="shell")["session"] for _ in range(2)]
            self.assert_error(1003, client.call, "file.write", session=sessions[0], path="x", data="x" * (9 << 20))
            hanging = client.request("file.read", session=sessions[0], path="fill 7000000\nhang")
            until(lambda: client.call("session.info", session=sessions[0])["idle_since"] is None, "it reads")
            error = self.retry_until(1003, client, session=sessions[1], path="fill 3000000\n" + answer({"size": 1, "length": 1}))
            self.assertIn("smaller", error.data["hint"])
            self.assertEqual(client.call("file.read", session=sessions[1], length=100_000,
                                         path=answer({"size": 2, "length": 2}, data="a"))["data"], "a\n")
            client.cancel(hanging)
            self.assert_error(-32800, client.wait, hanging)
            for session in sessions:
                client.call("session.close", session=session)


class Sockets(FileTest):
    """Bytes that go over a socket of the caller's."""

    def send(self, method, path, descriptor, **params):
        with self.client.lend_descriptor(descriptor):
            return self.client.request(f"file.{method}", **({"session": self.session, "path": path, "descriptor": True} | params))

    def test_read(self):
        """More than any message holds goes to the reader as it reads; the daemon does not grow."""
        size = 20 << 20
        ours, theirs = socket.socketpair()
        request = self.send("read", f"fill {size}\n" + answer({"size": size, "length": size}), theirs.fileno())
        theirs.close()
        got, before = 0, self.sandbox.rss()
        while chunk := ours.recv(1 << 20):
            got += len(chunk)
            if got < size // 2:
                self.assertLess(self.sandbox.rss() - before, 8 << 20)
        ours.close()
        self.assertEqual(self.client.wait(request), {"bytes": size, "size": size, "eof": True})
        self.assertEqual(got, size)

    def test_read_lies(self):
        """A guest that sends more than was asked for, or other than it says, is told of."""
        ours, theirs = socket.socketpair()
        request = self.send("read", "fill 100\n" + answer({"size": 100, "length": 50}), theirs.fileno(), length=200)
        self.assert_error(3006, self.client.wait, request)
        request = self.send("read", "fill 100\n" + answer({"size": 100, "length": 100}), theirs.fileno(), length=10)
        self.assert_error(3003, self.client.wait, request)
        self.assert_closed("guest_protocol")
        ours.close(), theirs.close()

    def test_reader_that_does_not_read(self):
        """It holds up its own operation, until it is cancelled or closes the socket."""
        for how in ("cancel", "close"):
            ours, theirs = socket.socketpair()
            with ours:
                request = self.send("read", "fill 9000000\n" + answer({"size": 9, "length": 9}), theirs.fileno())
                theirs.close()
                other = self.start("stat", answer({"entry": {}}))
                self.client.call("rpc.ping")
                if how == "cancel":
                    self.client.cancel(request)
                else:
                    ours.close()
                self.assert_error(-32800 if how == "cancel" else 3003, self.client.wait, request)
                self.client.wait(other)

    def test_write(self):
        """As many bytes as were said; the socket is closed behind them. Fewer are an error."""
        size = 5_000_000
        for missing in (0, 1):
            ours, theirs = socket.socketpair()
            request = self.send("write", answer({"bytes": size}), theirs.fileno(), size=size)
            theirs.close()
            sender = threading.Thread(target=lambda: (ours.sendall(bytes(size - missing)), ours.shutdown(socket.SHUT_WR)))
            sender.start()
            if missing:
                self.assert_error(3003, self.client.wait, request)
            else:
                self.assertEqual(self.client.wait(request), {"bytes": size})
                self.assertEqual(ours.recv(1), b"")
            sender.join()
            ours.close()

    def test_blocking_descriptor(self):
        """O_NONBLOCK is the caller's, too: the daemon does not wait, whatever that says."""
        ours, theirs = socket.socketpair()
        request = self.send("write", answer({"bytes": 1}), theirs.fileno(), size=1)
        deadline = threading.Event()
        setter = threading.Thread(target=lambda: [theirs.setblocking(True) for _ in iter(deadline.is_set, True)])
        setter.start()
        for _ in range(50):
            self.client.call("rpc.ping")
        ours.send(b"x")
        self.assertEqual(self.client.wait(request), {"bytes": 1})
        deadline.set()
        setter.join()

    def test_unfit(self):
        """What is no socket, not there, or too much is refused, and nothing of it stays open."""
        before = self.sandbox.descriptors()
        with open("/dev/zero", "rb") as file, socket.socket(socket.AF_UNIX) as lonely, \
                socket.socketpair(type=socket.SOCK_DGRAM)[0] as datagrams:
            for descriptor in (file.fileno(), lonely.fileno(), datagrams.fileno()):
                error = self.assert_error(-32602, self.client.wait, self.send("write", "x", descriptor, size=1))
                self.assertEqual(error.data["field"], "descriptor")
            ours, theirs = socket.socketpair()
            for params in ({}, {"size": 1, "data": "x"}, {"size": 501 << 20}, {"size": 1, "session": "ses_none"},
                           {"size": -1}, {"nonsense": 1}):
                self.assert_error((-32602, 5005, 4001), self.client.wait, self.send("write", "x", theirs.fileno(), **params))
            self.assert_error(-32602, self.call, "write", "x", descriptor=True, size=1)
            self.assert_error(-32602, self.call, "write", "x", size=1, data="x")
            ours.close(), theirs.close()
        until(lambda: self.sandbox.descriptors() == before, "all are closed")
        with self.sandbox.client() as other:
            line = b'{"jsonrpc": "2.0", "id": 1, "method": "rpc.ping"'
            for _ in range(9):
                socket.send_fds(other.socket, [line[:1]], [other.socket.fileno()])
                line = line[1:]
            until(lambda: self.sandbox.descriptors() <= before + 1, "the flood is closed")
        until(lambda: self.sandbox.descriptors() == before, "the connection is closed")

    def test_vm_lost(self):
        ours, theirs = socket.socketpair()
        with ours:
            request = self.send("write", "die 1", theirs.fileno(), size=1)
            theirs.close()
            ours.send(b"x")
            self.assert_error(4002, self.client.wait, request)


class RunFiles(VmTest):
    def setUp(self):
        super().setUp()
        self.sandbox = self.daemon("normal")
        self.client = self.sandbox.client()

    def put(self, *programs, **params):
        files = [{"path": program, "data": "x"} for program in programs]
        return self.play(self.client, "out ran", files=files, **params)

    def test_placed(self):
        """Files are there before the program; one that cannot be is why it never runs."""
        self.assertEqual(self.put(answer({"bytes": 1}, {"bytes": 1}), "second")["stdout"], "ran\n")
        error = self.assert_error(5006, self.put, answer({"bytes": 1}, {"error": 28}), "second")
        self.assertEqual((error.data["field"], error.data["path"]), ("files[1]", "second"))
        self.assert_error(3003, self.put, "err nonsense")
        self.assert_error(3003, self.put, "die 1")
        request = self.play_request(self.client, "out ran", files=[{"path": "hang"}], timeout_seconds=0.2)
        until(lambda: self.client.call("vm.list")["vms"], "it has its VM")
        self.client.cancel(request)
        error = self.assert_error(-32800, self.client.wait, request)
        self.assertEqual(error.data["result"]["timing"]["execute_ms"], 0)

    def test_collected(self):
        """They come with the result, also of a program that failed; what went wrong is theirs alone."""
        read = {"size": 2, "length": 2, "mode": 0o600}
        result = self.play(self.client, "out ran", "exit 3", collect=[answer(read, {"error": 2}, data="a"), "none"])
        (first, second) = result["files"]
        self.assertEqual((result["status"], result["exit_code"], first["data"], first["mode"], first["encoding"]),
                         ("error", 3, "a\n", "0600", "utf-8"))
        self.assertEqual((second["path"], second["error"]["code"]), ("none", 5001))
        for program, code in (("err nonsense", 3003), ("signal 9", 3003),
                              (answer({"size": 2, "length": 9}, data="a"), 5005),
                              (answer({"size": 20 << 20, "length": 2}, data="a"), 5005)):
            result = self.play(self.client, "out ran", collect=[program])
            self.assertEqual((result["stdout"], result["files"][0]["error"]["code"]), ("ran\n", code))
        result = self.play(self.client, "out ran", collect=["die 1"])
        self.assertEqual((result["status"], result["stdout"], result["files"][0]["error"]["code"]), ("ok", "ran\n", 3004))
        result = self.play(self.client, "hang", collect=[answer(read, data="a")], timeout_seconds=0.2)
        self.assertEqual((result["status"], result["files"][0]["data"]), ("timeout", "a\n"))
        request = self.play_request(self.client, "out ran", collect=["hang"], stream=True)
        self.client.wait_output(request, "ran")
        self.client.cancel(request)
        error = self.assert_error(-32800, self.client.wait, request)
        self.assertEqual(error.data["result"]["stdout"], "ran\n")

    def test_stored(self):
        """With an exec_id files are part of the request, and of the stored result."""
        read = {"size": 2, "length": 2}
        params = {"exec_id": "one", "collect": [answer(read, data="a")], "files": [{"path": answer({"bytes": 0})}]}
        result = self.play(self.client, "out ran", **params)
        self.assertEqual(result["files"][0]["data"], "a\n")
        self.assertEqual(self.client.call("session.result", exec_id="one")["files"], result["files"])
        self.assert_error(4020, self.play, self.client, "out ran", **(params | {"collect": ["b"]}))

    def test_bad_parameters(self):
        for code, field, params in (
                (2005, "files[1].path", {"files": [{"path": "a"}, {"path": "/etc/passwd"}]}),
                (2005, "files[0]", {"files": [{"path": "/home/user"}]}), (2005, "files[0]", {"files": [{"path": "main.py"}]}),
                (-32602, "files[0].path", {"files": [{"data": "a"}]}), (-32602, "files[0]", {"files": ["a"]}),
                (-32602, "files[0].name", {"files": [{"path": "a", "name": "b"}]}),
                (-32602, "files[0]", {"files": [{"path": "a", "mode": "8"}]}),
                (-32602, "files[0].data", {"files": [{"path": "a", "data": "!", "encoding": "base64"}]}),
                (2005, "collect[0]", {"collect": ["../a\0"]}), (2005, "collect[1]", {"collect": ["a", ""]}),
                (-32602, "collect", {"collect": "a"}), (-32602, "files", {"files": [{"path": "a"}] * 257})):
            error = self.assert_error(code, self.play, self.client, "out ran", **params)
            self.assertEqual(error.data["field"], field)
