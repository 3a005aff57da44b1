# SPDX-License-Identifier: Apache-2.0
"""The files of a session, for programs with threads, or with none."""

import os
from typing import BinaryIO

from . import _requests, _transfer
from ._connection import Connection
from ._transfer import Progress, Script, T
from .options import ProgressCallback
from .results import FileInfo, FileList


class Files:
    """The files of a session: session.files.

        session.files.write("data/numbers.csv", "1,2\\n")
        session.exec("sort data/numbers.csv >sorted")
        print(session.files.read("sorted").decode())

    Paths are below /home/user: relative to it, or absolute. Calls run beside the session's programs,
    not behind them, one after the other. They raise FileNotFoundError, FileExistsError,
    IsDirectoryError, NotDirectoryError, PathInvalidError, PermissionDeniedError, FileTooLargeError
    and NoSpaceError of execsandbox.errors, and what Session.exec() raises for its session.
    """

    def __init__(self, connection: Connection, session: str) -> None:
        self._connection, self._session = connection, session

    def write(self, path: str, data: str | bytes, *, mode: int | None = None, append: bool = False,
              offset: int | None = None) -> int:
        """Writes a file; returns how many bytes. Directories are made as needed.

        mode: permissions, such as 0o755; else those of the file that is replaced, or 0o644
        append, offset: write in place, at the end or there; otherwise the file is replaced at once
        """
        return self._play(_transfer.write(self._session, path, data, mode, append, offset))

    def read(self, path: str, *, offset: int = 0, length: int | None = None) -> bytes:
        """The content of a file, or `length` bytes of it from `offset` on; less at its end."""
        return self._play(_transfer.read(self._session, path, offset, length))

    def list(self, path: str = "", *, recursive: bool = False) -> FileList:
        """What is in a directory, sorted by name; with `recursive` also in those below."""
        return self._connection.perform(_requests.file_list(self._session, path, recursive))

    def stat(self, path: str) -> FileInfo:
        """One file or directory; a link itself."""
        return self._connection.perform(_requests.file_stat(self._session, path))

    def mkdir(self, path: str, *, mode: int | None = None, recursive: bool = False) -> None:
        """Makes a directory; with `recursive` those above it, too, and one that is there is fine."""
        self._connection.perform(_requests.file_mkdir(self._session, path, mode, recursive))

    def remove(self, path: str, *, recursive: bool = False) -> None:
        """Removes a file, a link itself, or a directory that is empty unless `recursive`."""
        self._connection.perform(_requests.file_remove(self._session, path, recursive))

    def rename(self, path: str, new_path: str, *, replace: bool = False) -> None:
        """Gives it another name, which nothing may have unless `replace`."""
        self._connection.perform(_requests.file_rename(self._session, path, new_path, replace))

    def upload(self, local: str | os.PathLike[str] | BinaryIO, path: str, *, mode: int | None = None,
               progress: ProgressCallback | None = None) -> int:
        """Copies a file of this machine into the session, in pieces; returns how many bytes.

        local: its path, or a binary file that is read to its end
        mode: as of write(); by default that of a `local` given by its path
        progress: called with (bytes done, all bytes or None); what it raises ends the copy

        The file in the session is replaced when all of it is there, and not at all otherwise.
        """
        return self._play(_transfer.upload(self._session, local, path, mode), progress)

    def download(self, path: str, local: str | os.PathLike[str] | BinaryIO, *,
                 progress: ProgressCallback | None = None) -> int:
        """Copies a file of the session to this machine, in pieces; returns how many bytes.

        local: its path, which is replaced when all is there, and gets the mode in the session as far
            as the umask allows; or a binary file to write to
        progress: as of upload()
        """
        return self._play(_transfer.download(self._session, path, local), progress)

    def _play(self, script: Script[T], progress: ProgressCallback | None = None) -> T:
        try:
            step = next(script)
            while True:
                if not isinstance(step, Progress):
                    step = script.send(self._connection.perform(step))
                    continue
                if progress:
                    progress(step.done, step.total)
                step = next(script)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            script.close()
