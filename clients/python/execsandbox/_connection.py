# SPDX-License-Identifier: Apache-2.0
"""A connection for threads.

Theory of operation: one thread reads for all and puts what belongs to a call into the queue of that
call; its caller waits there and runs the callbacks, so that their exceptions are the caller's. The
queue is bounded by the output limits of the program. `_lock` guards the protocol's state and is
never held over input or output; `_send_lock` keeps lines whole.
"""

import os
import queue
import socket
import threading
from typing import TypeVar

from ._address import connect_error, socket_path
from ._call import Call
from ._requests import Request
from ._rpc import IN_FLIGHT_MAX, Output, Reply, Rpc
from .errors import ConnectionLostError

T = TypeVar("T")
READ_BYTES = 256 << 10


class Connection:
    """Connects at once; raises ConnectError."""

    def __init__(self, path: str | os.PathLike[str] | None) -> None:
        address = socket_path(path)
        self._slots = threading.Semaphore(IN_FLIGHT_MAX)
        self._rpc = Rpc(self._slots.release)
        self._lock = threading.Lock()
        self._send_lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(address)
        except OSError as problem:
            self._socket.close()
            raise connect_error(address, problem) from problem
        self._reader = threading.Thread(target=self._read, name="execsandbox", daemon=True)
        self._reader.start()

    def perform(self, request: Request[T]) -> T:
        """Makes a call and waits. Whatever ends the waiting before the reply cancels the call."""
        events: queue.SimpleQueue[Output | Reply] = queue.SimpleQueue()
        call = Call(request)
        request_id, line = self._begin(request, events)
        try:
            self._send(line)
            if request.beside:
                self.send(request.beside)
            while not call.is_done:
                for callback, text in call.take(events.get()):
                    callback(text)
        except BaseException:
            with self._lock:
                cancel = self._rpc.cancel(request_id)
            self._send(cancel)
            raise
        return call.result()

    def send(self, request: Request[T]) -> None:
        """Makes a call whose answer nobody waits for."""
        self._send(self._begin(request, queue.SimpleQueue())[1])

    def close(self) -> None:
        """Calls that other threads wait for end with ConnectionLostError."""
        with self._lock:
            self._rpc.end(ConnectionLostError("The connection is closed"))
        self._shut()
        self._reader.join()
        with self._send_lock:
            self._socket.close()

    def _begin(self, request: Request[T], events: queue.SimpleQueue[Output | Reply]) -> tuple[int, bytes]:
        self._slots.acquire()
        try:
            with self._lock:
                return self._rpc.begin(request.method, request.params, events.put, request.process)
        except BaseException:
            self._slots.release()
            raise

    def _send(self, line: bytes) -> None:
        with self._send_lock:
            try:
                self._socket.sendall(line)
            except BaseException as problem:
                # Half a line may be on its way, nothing can follow it. When the daemon has left, the
                # reader knows what it said last.
                self._shut()
                if not isinstance(problem, OSError):
                    raise

    def _shut(self) -> None:
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster

    def _read(self) -> None:
        goes_on = True
        while goes_on:
            try:
                data = self._socket.recv(READ_BYTES)
            except OSError:
                data = b""
            with self._lock:
                goes_on = self._rpc.receive(data)
        self._shut()
