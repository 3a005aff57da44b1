# SPDX-License-Identifier: Apache-2.0
"""One side of a JSON-RPC 2.0 connection, without the connection.

Theory of operation: begin() numbers a request and gives its line to send; receive() takes the bytes
that came, in whatever pieces, and hands what they say of a request to the sink of that request:
Output any number of times, then one Reply. A request is pending until its reply, also when its
caller has cancelled it and left: until then the daemon counts it. end() replies to all that are
pending; behind it there is no request. Nothing here blocks or locks: that is the transport's.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from .errors import ConnectionLostError, ExecSandboxError, MessageTooLargeError, RpcError
from .results import wire_bytes

# Limits of the daemon (docs/PROTOCOL.md).
REQUEST_MAX_BYTES = 16 << 20
IN_FLIGHT_MAX = 64
# Two streams of 16 MiB, each byte a NUL, six characters in JSON, and some more.
REPLY_MAX_BYTES = 256 << 20


@dataclass(frozen=True)
class Output:
    """A piece of what a program wrote; of a background process with its place."""

    stream: str
    data: bytes
    offset: int | None = None


@dataclass(frozen=True)
class Reply:
    """The end of a call: its result, or why there is none."""

    result: Any = None
    error: ExecSandboxError | None = None


Sink = Callable[[Output | Reply], None]


class Rpc:
    """Requests, replies and notifications of one connection.

    on_replied is called once for every request that begin() has returned, when it is over.
    """

    def __init__(self, on_replied: Callable[[], None]) -> None:
        self._on_replied = on_replied
        self._pending: dict[int, Sink] = {}
        self._following: dict[int, str] = {}  # the process whose output a request gets
        self._last_id = 0
        self._unfinished: list[bytes] = []  # pieces of the line whose end has not come
        self._unfinished_bytes = 0
        self._ended: ExecSandboxError | None = None

    def begin(self, method: str, params: Mapping[str, Any], sink: Sink,
              process: str | None = None) -> tuple[int, bytes]:
        """(id, line to send) of a new request; until its reply it gets the output of `process`.

        Raises the error that ended the connection, MessageTooLargeError, and ValueError or TypeError
        for what JSON or UTF-8 cannot carry.
        """
        if self._ended:
            raise _same(self._ended)
        request_id = self._last_id + 1
        line = _encode({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        if len(line) > REQUEST_MAX_BYTES:
            # The daemon would close the connection, and end all other calls with it.
            raise MessageTooLargeError(f"The request has {len(line)} bytes, over the limit of 16 MiB")
        self._last_id = request_id
        self._pending[request_id] = sink
        if process:
            self._following[request_id] = process
        return request_id, line

    def cancel(self, request_id: int) -> bytes:
        """The line that cancels a request; nothing when it is over."""
        if request_id not in self._pending:
            return b""
        return _encode({"jsonrpc": "2.0", "method": "$/cancelRequest", "params": {"id": request_id}})

    def receive(self, data: bytes) -> bool:
        """Takes bytes that came, none at the stream's end. False when the connection is over."""
        try:
            if data:
                self._split(data)
            else:
                self.end(ConnectionLostError("The daemon has closed the connection"))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
            error = ConnectionLostError("The daemon sent what is not JSON-RPC 2.0")
            error.__cause__ = problem
            self.end(error)
        return self._ended is None

    def end(self, error: ExecSandboxError) -> None:
        """The connection is over: replies `error` to all that are pending. The first reason stays."""
        self._ended = self._ended or error
        for request_id in list(self._pending):
            self._reply(request_id, Reply(error=_same(self._ended)))

    def _split(self, data: bytes) -> None:
        *lines, rest = data.split(b"\n")
        for line in lines:
            whole = b"".join([*self._unfinished, line])
            self._unfinished, self._unfinished_bytes = [], 0
            if whole.strip():
                self._take(json.loads(whole))
        self._unfinished.append(rest)
        self._unfinished_bytes += len(rest)
        if self._unfinished_bytes > REPLY_MAX_BYTES:
            raise ValueError("a line has no end")

    def _take(self, message: Mapping[str, Any]) -> None:
        if "method" in message:
            self._notification(message["method"], message.get("params") or {})
        elif (error := message.get("error")) is None:
            self._reply(message["id"], Reply(result=message["result"]))
        elif message.get("id") is None:
            # Our lines are well-formed, so this is about the connection: it was refused.
            self.end(RpcError.from_wire(error))
        else:
            self._reply(message["id"], Reply(error=RpcError.from_wire(error)))

    def _notification(self, method: str, params: Mapping[str, Any]) -> None:
        """Other notifications, and those of requests that are over, are nobody's."""
        if method == "run.output":
            ids = [params["id"]]
        elif method == "process.output":
            ids = [one for one, process in self._following.items() if process == params["process"]]
        else:
            return
        data = wire_bytes(params["data"], params.get("encoding"))
        for request_id in ids:
            if sink := self._pending.get(request_id):
                sink(Output(params["stream"], data, params.get("offset")))

    def _reply(self, request_id: int, reply: Reply) -> None:
        self._following.pop(request_id, None)
        if sink := self._pending.pop(request_id, None):
            self._on_replied()
            sink(reply)


def _encode(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode() + b"\n"


def _same(error: ExecSandboxError) -> ExecSandboxError:
    """A copy for each who raises it: a traceback belongs to one exception."""
    copy = type(error)(str(error), error.data)
    copy.code, copy.__cause__ = error.code, error.__cause__
    return copy
