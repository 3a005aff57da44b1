# SPDX-License-Identifier: Apache-2.0
"""Files in pieces: which calls are made one after the other, without making them.

Theory of operation: a script is a generator that yields requests and is sent what each of them has
brought; it yields Progress, too, for the caller's callback. What it returns is the outcome. Files
(_files.py) makes the calls and waits, AsyncFiles (_aio_files.py) awaits them and has the script do its
own work, which reads and writes files here, in a thread. Whoever gives a script up closes it: what
is not complete is gone then. One piece is in memory at a time.
"""

import contextlib
import io
import os
import secrets
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

from . import _requests
from ._requests import Request

T = TypeVar("T")

# One message holds 16 MiB, of base64 12; reads bring 8 at the most.
PIECE_BYTES = 4 << 20


@dataclass(frozen=True)
class Progress:
    """Bytes that are done, of `total`, when that is known."""

    done: int
    total: int | None


Step = Request[Any] | Progress
Script = Generator[Step, Any, T]


def write(session: str, path: str, data: str | bytes, mode: int | None, append: bool,
          offset: int | None) -> Script[int]:
    """Replaces at once, or writes in place with `append` or `offset`."""
    data = data.encode() if isinstance(data, str) else bytes(data)
    if append or offset is not None:
        return _write_in_place(session, path, data, mode, append, offset)
    return _send(session, path, io.BytesIO(data), mode, len(data))


def read(session: str, path: str, offset: int, length: int | None) -> Script[bytes]:
    pieces: list[bytes] = []
    done, eof = 0, False
    while not eof and (length is None or done < length):
        wanted = PIECE_BYTES if length is None else min(PIECE_BYTES, length - done)
        piece = yield _requests.file_read(session, path, offset + done, wanted)
        pieces.append(piece.data)
        done += len(piece.data)
        eof = piece.eof or not piece.data
    return b"".join(pieces)


def upload(session: str, local: str | os.PathLike[str] | BinaryIO, path: str, mode: int | None) -> Script[int]:
    if not isinstance(local, str | os.PathLike):
        return (yield from _send(session, path, local, mode, None))
    with open(local, "rb") as source:
        status = os.fstat(source.fileno())
        return (yield from _send(session, path, source, status.st_mode & 0o777 if mode is None else mode,
                                 status.st_size))


def download(session: str, path: str, local: str | os.PathLike[str] | BinaryIO) -> Script[int]:
    if not isinstance(local, str | os.PathLike):
        return (yield from _receive(session, path, local))
    info = yield _requests.file_stat(session, path)
    # No more than permissions, as the umask leaves them: the file's bits are the guest's to choose.
    mode = info.mode & 0o777 if info.type == "file" else 0o666
    with _replacing(os.fspath(local), mode) as target:
        return (yield from _receive(session, path, target))


def _send(session: str, path: str, source: BinaryIO, mode: int | None, total: int | None) -> Script[int]:
    """A file of one piece is one call; a larger one gets its name when all pieces are there."""
    data, following = _take(source), b""
    if len(data) == PIECE_BYTES:
        following = _take(source)
    if not following:
        yield _requests.file_write(session, path, data, mode=mode)
        yield Progress(len(data), total)
        return len(data)
    upload_id = yield _requests.file_upload(session, path, data, mode)
    done = len(data)
    while following:
        yield Progress(done, total)
        yield _requests.file_piece(session, path, upload_id, done, following)
        done += len(following)
        following = _take(source)
    yield _requests.file_commit(session, path, upload_id)
    yield Progress(done, total)
    return done


def _take(source: BinaryIO) -> bytes:
    """A whole piece, also of a pipe; less only at the end."""
    pieces, missing = [], PIECE_BYTES
    while missing:
        data = source.read(missing)
        if data is None:  # of a source that does not block this is no end
            raise BlockingIOError("The source has no bytes now: give one that waits for them")
        if not data:
            break
        pieces.append(data)
        missing -= len(data)
    return b"".join(pieces)


def _write_in_place(session: str, path: str, data: bytes, mode: int | None, append: bool,
                    offset: int | None) -> Script[int]:
    for at in range(0, max(len(data), 1), PIECE_BYTES):
        where = {"append": True} if append else {"offset": (offset or 0) + at}
        yield _requests.file_write(session, path, data[at:at + PIECE_BYTES], mode=mode, **where)
    return len(data)


def _receive(session: str, path: str, target: BinaryIO) -> Script[int]:
    done, eof = 0, False
    while not eof:
        piece = yield _requests.file_read(session, path, done, PIECE_BYTES)
        target.write(piece.data)
        done += len(piece.data)
        eof = piece.eof or not piece.data
        yield Progress(done, piece.size)
    return done


@contextlib.contextmanager
def _replacing(path: str, mode: int) -> Iterator[BinaryIO]:
    """A file that gets its name when it is complete; a link of that name is replaced, not followed."""
    directory = os.path.dirname(path)
    temporary = os.path.join(directory, f".execsandbox-{secrets.token_hex(8)}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with os.fdopen(os.open(temporary, flags, mode | 0o200), "wb") as target:
            yield target
            target.flush()
            os.fchmod(target.fileno(), os.fstat(target.fileno()).st_mode & mode)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
