# SPDX-License-Identifier: Apache-2.0
"""The API for asyncio: the names, arguments and errors of Sandbox and Session, to be awaited.

A task that is cancelled cancels its call: the program is stopped.
"""

import os
from collections.abc import AsyncIterator, Generator, Sequence
from typing import Any, Self, Unpack

from . import _requests
from ._aio_connection import AioConnection
from ._aio_files import AsyncFiles
from ._requests import Request, T
from ._session_end import ignored_when_leaving
from .errors import ConnectionLostError
from .options import (ExecOptions, OutputCallback, ProcessOptions, RunOptions, SessionOptions,
                      SessionSettings)
from .results import ProcessInfo, ProcessOutput, RunResult, SessionInfo


class AsyncSandbox:
    """A connection to execsandboxd, open from connect() or `async with` on.

        async with AsyncSandbox() as sandbox:
            print((await sandbox.run("print(6 * 7)")).stdout)

    Tasks of one event loop may share it: their calls run at the same time, up to 64, and more wait
    for their turn.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._path = path
        self._connection: AioConnection | None = None

    async def connect(self) -> Self:
        """Raises ConnectError."""
        self._connection = self._connection or await AioConnection.connect(self._path)
        return self

    async def __aenter__(self) -> Self:
        return await self.connect()

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Ends the connection. Programs that still run on it are stopped; sessions stay."""
        if self._connection:
            await self._connection.close()

    async def run(self, code: str, language: str = "python",
                  **options: Unpack[RunOptions]) -> RunResult:
        """As Sandbox.run(). Callbacks may be coroutine functions."""
        return await self._perform(_requests.run(code, language, options))

    def session(self, **options: Unpack[SessionOptions]) -> "AsyncSessionRequest":
        """As Sandbox.session(): to be awaited, or `async with sandbox.session() as session`."""
        return AsyncSessionRequest(self, _requests.session_create(options))

    def find_session(self, session: str) -> "AsyncSessionRequest":
        """As Sandbox.find_session(): to be awaited, or for `async with`, which closes it."""
        return AsyncSessionRequest(self, _requests.session_info(session))

    async def sessions(self, *, name: str | None = None, state: str | None = None,
                       page_size: int | None = None) -> AsyncIterator[SessionInfo]:
        """As Sandbox.sessions()."""
        cursor = None
        while True:
            page = await self._perform(_requests.session_list(name, state, page_size, cursor))
            for session in page.sessions:
                yield session
            if not (cursor := page.next_cursor):
                return

    async def info(self) -> dict[str, Any]:
        """As Sandbox.info()."""
        info: dict[str, Any] = await self.call("info")
        return info

    async def health(self) -> dict[str, Any]:
        """As Sandbox.health()."""
        health: dict[str, Any] = await self.call("health")
        return health

    async def result(self, exec_id: str) -> RunResult | None:
        """As Sandbox.result()."""
        return await self._perform(_requests.result(exec_id))

    async def ping(self) -> None:
        """As Sandbox.ping()."""
        await self._perform(_requests.ping())

    async def call(self, method: str, /, **params: Any) -> Any:
        """As Sandbox.call()."""
        return await self._perform(_requests.call(method, params))

    async def _perform(self, request: Request[T]) -> T:
        if not self._connection:
            raise ConnectionLostError("Not connected yet: await connect(), or use 'async with'")
        return await self._connection.perform(request)


class AsyncSession:
    """As Session."""

    def __init__(self, sandbox: AsyncSandbox, info: SessionInfo) -> None:
        self._sandbox = sandbox
        self.id, self.name, self.vm = info.session, info.name, info.vm
        self.files = AsyncFiles(sandbox._perform, self.id)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, _: object, problem: BaseException | None, __: object) -> None:
        with ignored_when_leaving(problem):
            await self.close()

    async def exec(self, command: str | None = None, *, argv: Sequence[str] | None = None,
                   code: str | None = None,
                   **options: Unpack[ExecOptions]) -> RunResult:
        """As Session.exec()."""
        return await self._sandbox._perform(
            _requests.session_exec(self.id, command, argv, code, options))

    async def start(self, command: str | None = None, *, argv: Sequence[str] | None = None,
                    **options: Unpack[ProcessOptions]) -> "AsyncProcess":
        """As Session.start()."""
        request = _requests.process_start(self.id, command, argv, options)
        return AsyncProcess(self, await self._sandbox._perform(request))

    def process(self, process: str) -> "AsyncProcess":
        """As Session.process()."""
        return AsyncProcess(self, process)

    async def processes(self) -> tuple[ProcessInfo, ...]:
        """As Session.processes()."""
        return await self._sandbox._perform(_requests.process_list(self.id))

    async def info(self) -> SessionInfo:
        """As Session.info()."""
        return await self._sandbox._perform(_requests.session_info(self.id))

    async def update(self, **settings: Unpack[SessionSettings]) -> SessionInfo:
        """As Session.update()."""
        info = await self._sandbox._perform(_requests.session_update(self.id, settings))
        self.name = info.name
        return info

    async def close(self) -> SessionInfo:
        """As Session.close()."""
        return await self._sandbox._perform(_requests.session_close(self.id))


class AsyncProcess:
    """As Process."""

    def __init__(self, session: AsyncSession, process: str) -> None:
        self._sandbox = session._sandbox
        self._session = session.id
        self.id = process

    async def wait(self, timeout_seconds: float | None = None, *,
                   on_stdout: OutputCallback | None = None,
                   on_stderr: OutputCallback | None = None) -> RunResult | None:
        """As Process.wait(). Callbacks may be coroutine functions."""
        return await self._sandbox._perform(_requests.process_wait(
            self._session, self.id, timeout_seconds, on_stdout, on_stderr))

    async def output(self, stdout_offset: int = 0, stderr_offset: int = 0) -> ProcessOutput:
        """As Process.output()."""
        return await self._sandbox._perform(_requests.process_output(
            self._session, self.id, stdout_offset, stderr_offset))

    async def write(self, data: str | bytes) -> int:
        """As Process.write()."""
        return await self._sandbox._perform(
            _requests.process_write(self._session, self.id, data))

    async def close_stdin(self) -> None:
        """As Process.close_stdin()."""
        await self._do("close_stdin")

    async def signal(self, name: str = "TERM") -> None:
        """As Process.signal()."""
        await self._do("signal", signal=name)

    async def kill(self) -> None:
        """As Process.kill()."""
        await self.signal("KILL")

    async def resize(self, rows: int, columns: int) -> None:
        """As Process.resize()."""
        await self._do("resize", rows=rows, columns=columns)

    async def _do(self, action: str, **params: Any) -> None:
        await self._sandbox._perform(
            _requests.process_do(action, self._session, self.id, **params))


class AsyncSessionRequest:
    """A session that comes when it is awaited, or entered by `async with`."""

    def __init__(self, sandbox: AsyncSandbox, request: Request[SessionInfo]) -> None:
        self._sandbox, self._request = sandbox, request
        self._session: AsyncSession | None = None

    def __await__(self) -> Generator[Any, None, AsyncSession]:
        return self._open().__await__()

    async def __aenter__(self) -> AsyncSession:
        self._session = await self._open()
        return self._session

    async def __aexit__(self, kind: object, problem: BaseException | None, trace: object) -> None:
        if self._session:
            await self._session.__aexit__(kind, problem, trace)

    async def _open(self) -> AsyncSession:
        return AsyncSession(self._sandbox, await self._sandbox._perform(self._request))
