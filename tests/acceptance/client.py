# SPDX-License-Identifier: Apache-2.0
"""A client of execsandboxd, written from the public API alone. Standard library only.

    with Client("/run/execsandbox.sock") as client:
        print(client.call("run", language="python", code="print(1)")["stdout"])
"""

import contextlib
import json
import socket
import struct
import time


class RpcError(Exception):
    """The daemon answered a call with an error."""

    def __init__(self, error):
        super().__init__(f"{error['code']} {error['message']}")
        self.code = error["code"]
        self.message = error["message"]
        self.data = error.get("data") or {}


class Closed(Exception):
    """The daemon closed the connection."""


class Client:
    """One connection. Not for use by several threads at once."""

    def __init__(self, path, timeout=120):
        self.timeout = timeout
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.connect(path)
        self.buffer = b""
        self.descriptors = []  # go with the next bytes that are sent
        self.last_id = 0
        self.replies = {}  # by id, of requests that nobody has waited for yet
        self.notifications = []  # (method, params), in order

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def half_close(self):
        """No more requests come; replies are still read."""
        self.socket.shutdown(socket.SHUT_WR)

    def daemon_pid(self):
        """Process id of whoever listens on the socket."""
        size = struct.calcsize("3i")
        credentials = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        return struct.unpack("3i", credentials)[0]

    # Bytes and lines.

    @contextlib.contextmanager
    def lend_descriptor(self, descriptor):
        """The message that is sent meanwhile carries it."""
        self.descriptors = [descriptor]
        try:
            yield
        finally:
            self.descriptors = []

    def send_raw(self, data):
        self.socket.settimeout(self.timeout)
        if self.descriptors:
            data = data[socket.send_fds(self.socket, [data], self.descriptors):]
        self.socket.sendall(data)

    def read_line(self, timeout=None):
        """The next line as bytes, without its end. Raises Closed, or TimeoutError."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        pieces = []
        while b"\n" not in self.buffer:
            pieces.append(self.buffer)
            self.socket.settimeout(max(0.001, deadline - time.monotonic()))
            self.buffer = self.socket.recv(1 << 20)
            if not self.buffer:
                raise Closed(b"".join(pieces))
        line, self.buffer = self.buffer.split(b"\n", 1)
        return b"".join(pieces) + line

    def read_message(self, timeout=None):
        return json.loads(self.read_line(timeout))

    # Messages.

    def send(self, message):
        self.send_raw(json.dumps(message).encode() + b"\n")

    def notify(self, method, /, **params):
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def request(self, method, /, **params):
        """Sends a request and returns its id; wait() gets the reply."""
        self.last_id += 1
        self.send({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params})
        return self.last_id

    def receive(self, timeout=None):
        """Takes in one message: a reply, or a notification."""
        message = self.read_message(timeout)
        if "method" in message:
            self.notifications.append((message["method"], message["params"]))
        else:
            self.replies[message["id"]] = message

    def wait(self, request_id, timeout=None):
        """The result of a request. Raises RpcError when it failed."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while request_id not in self.replies:
            self.receive(max(0.001, deadline - time.monotonic()))
        reply = self.replies.pop(request_id)
        if "error" in reply:
            raise RpcError(reply["error"])
        return reply["result"]

    def wait_notification(self, condition, timeout=None):
        """Reads until a notification fulfils condition(method, params); returns its params."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        seen = 0
        while True:
            for method, params in self.notifications[seen:]:
                if condition(method, params):
                    return params
            seen = len(self.notifications)
            self.receive(max(0.001, deadline - time.monotonic()))

    def call(self, method, /, **params):
        return self.wait(self.request(method, **params))

    def cancel(self, request_id):
        self.notify("$/cancelRequest", id=request_id)

    def streamed(self, request_id, stream="stdout"):
        """What run.output has brought of a request so far, as text."""
        return "".join(
            params["data"]
            for method, params in self.notifications
            if method == "run.output"
            and params["id"] == request_id
            and params["stream"] == stream
        )

    def wait_output(self, request_id, text, timeout=None):
        """Reads until `text` has been streamed by a request."""
        self.wait_notification(lambda *_: text in self.streamed(request_id), timeout)
