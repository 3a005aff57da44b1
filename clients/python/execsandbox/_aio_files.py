# SPDX-License-Identifier: Apache-2.0
"""The files of a session, for asyncio."""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from typing import Any, BinaryIO

from . import _requests, _transfer
from ._requests import Request
from ._transfer import Progress, Script, Step, T
from .options import ProgressCallback
from .results import FileInfo, FileList


class AsyncFiles:
    """As Files. Files of this machine are read and written in a thread; `progress` may be a coroutine
    function."""

    def __init__(self, perform: Callable[[Request[Any]], Awaitable[Any]], session: str) -> None:
        self._perform, self._session = perform, session

    async def write(self, path: str, data: str | bytes, *, mode: int | None = None, append: bool = False,
                    offset: int | None = None) -> int:
        """As Files.write()."""
        return await self._play(_transfer.write(self._session, path, data, mode, append, offset))

    async def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """As Files.read()."""
        return await self._play(_transfer.read(self._session, path, offset, length))

    async def list(self, path: str = "", *, recursive: bool = False) -> FileList:
        """As Files.list()."""
        found: FileList = await self._perform(_requests.file_list(self._session, path, recursive))
        return found

    async def stat(self, path: str) -> FileInfo:
        """As Files.stat()."""
        info: FileInfo = await self._perform(_requests.file_stat(self._session, path))
        return info

    async def mkdir(self, path: str, *, mode: int | None = None, recursive: bool = False) -> None:
        """As Files.mkdir()."""
        await self._perform(_requests.file_mkdir(self._session, path, mode, recursive))

    async def remove(self, path: str, *, recursive: bool = False) -> None:
        """As Files.remove()."""
        await self._perform(_requests.file_remove(self._session, path, recursive))

    async def rename(self, path: str, new_path: str, *, replace: bool = False) -> None:
        """As Files.rename()."""
        await self._perform(_requests.file_rename(self._session, path, new_path, replace))

    async def upload(self, local: str | os.PathLike[str] | BinaryIO, path: str, *, mode: int | None = None,
                     progress: ProgressCallback | None = None) -> int:
        """As Files.upload()."""
        return await self._play(_transfer.upload(self._session, local, path, mode), progress)

    async def download(self, path: str, local: str | os.PathLike[str] | BinaryIO, *,
                       progress: ProgressCallback | None = None) -> int:
        """As Files.download()."""
        return await self._play(_transfer.download(self._session, path, local), progress)

    async def _play(self, script: Script[T], progress: ProgressCallback | None = None) -> T:
        reply: Any = None
        try:
            while True:
                step, outcome = await _advance(script, reply)
                reply = None
                if step is None:
                    return outcome[0]
                if not isinstance(step, Progress):
                    reply = await self._perform(step)
                elif progress and inspect.isawaitable(told := progress(step.done, step.total)):
                    await told
        finally:
            script.close()


async def _advance(script: Script[T], reply: Any) -> tuple[Step | None, list[T]]:
    """The next step, or none and the outcome. A cancelled task waits for the thread: it has the script."""

    def work() -> tuple[Step | None, list[T]]:
        try:
            return script.send(reply), []
        except StopIteration as end:  # which no future can carry
            return None, [end.value]

    thread = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(thread)
    except asyncio.CancelledError:
        await asyncio.wait([thread])
        raise
