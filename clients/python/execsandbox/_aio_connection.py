# SPDX-License-Identifier: Apache-2.0
"""A connection for asyncio: one task reads for all, as the thread of _connection.py does."""

import asyncio
import contextlib
import inspect
import os
from typing import TypeVar

from ._address import connect_error, socket_path
from ._call import Call
from ._requests import Request
from ._rpc import IN_FLIGHT_MAX, Output, Reply, Rpc
from .errors import ConnectionLostError

T = TypeVar("T")
READ_BYTES = 256 << 10


class AioConnection:
    """Belongs to the event loop in which it was made."""

    @classmethod
    async def connect(cls, path: str | os.PathLike[str] | None) -> "AioConnection":
        """Raises ConnectError."""
        address = socket_path(path)
        try:
            reader, writer = await asyncio.open_unix_connection(address)
        except OSError as problem:
            raise connect_error(address, problem) from problem
        return cls(reader, writer)

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._slots = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._rpc = Rpc(self._slots.release)
        self._writer = writer
        self._reading = asyncio.create_task(self._read(reader), name="execsandbox")

    async def perform(self, request: Request[T]) -> T:
        """Makes a call and waits. Whatever ends the waiting before the reply cancels the call."""
        events: asyncio.Queue[Output | Reply] = asyncio.Queue()
        call = Call(request)
        request_id, line = await self._begin(request, events)
        try:
            self._writer.write(line)
            if request.beside:
                self._writer.write((await self._begin(request.beside, asyncio.Queue()))[1])
            with contextlib.suppress(OSError):  # the reader knows what the daemon said last
                await self._writer.drain()
            while not call.is_done:
                for callback, text in call.take(await events.get()):
                    if inspect.isawaitable(done := callback(text)):
                        await done
        except BaseException:
            self._writer.write(self._rpc.cancel(request_id))
            raise
        return call.result()

    async def close(self) -> None:
        """Calls that other tasks wait for end with ConnectionLostError."""
        self._rpc.end(ConnectionLostError("The connection is closed"))
        self._writer.transport.abort()  # what was not sent yet belongs to calls that are over
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()
        await self._reading

    async def _begin(self, request: Request[T], events: asyncio.Queue[Output | Reply]) -> tuple[int, bytes]:
        await self._slots.acquire()
        try:
            return self._rpc.begin(request.method, request.params, events.put_nowait, request.process)
        except BaseException:
            self._slots.release()
            raise

    async def _read(self, reader: asyncio.StreamReader) -> None:
        goes_on = True
        while goes_on:
            try:
                data = await reader.read(READ_BYTES)
            except OSError:
                data = b""
            goes_on = self._rpc.receive(data)
        self._writer.close()
