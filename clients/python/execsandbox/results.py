# SPDX-License-Identifier: Apache-2.0
"""What the daemon answers, as frozen dataclasses with the names of the API.

Fields that this version does not know are left alone and stay in `raw`; fields that a daemon does
not send have their defaults.
"""

import base64
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True)
class _WireObject:
    """A dataclass that is read from a JSON object."""

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        known = {one.name for one in dataclasses.fields(cls)}
        return cls(**{name: value for name, value in wire.items() if name in known})


@dataclass(frozen=True)
class ProgramError(_WireObject):
    """The uncaught exception that ended a program: what its interpreter says of itself."""

    name: str | None = None
    value: str | None = None
    traceback: str | None = None


@dataclass(frozen=True)
class Timing(_WireObject):
    """Where the time of a call went, in milliseconds."""

    queue_ms: float = 0.0
    start_ms: float = 0.0
    execute_ms: float = 0.0
    total_ms: float = 0.0


@dataclass(frozen=True)
class Usage(_WireObject):
    """What a program has used of its VM."""

    cpu_user_ms: float = 0.0
    cpu_system_ms: float = 0.0
    memory_peak_bytes: int = 0
    page_faults_major: int = 0
    oom_kills: int = 0
    swap_peak_bytes: int = 0


def wire_bytes(data: str, encoding: str | None) -> bytes:
    """The bytes of a text that came as UTF-8 or as base64."""
    return base64.b64decode(data) if encoding == "base64" else data.encode()


@dataclass(frozen=True)
class RunResult(_WireObject):
    """How a program ended, what it wrote, and its receipt.

    status: ok, error (any other exit code), signal, timeout, oom or output_limit;
        cancelled in the `result` of a CancelledError
    exit_code: the program's own; 128 + N for a signal, 124 for a timeout, 137 for oom
    signal: such as "SIGSEGV", or None
    stdout, stderr: text; bytes that are not UTF-8 are shown as U+FFFD
    stdout_raw, stderr_raw: the bytes themselves
    stdout_bytes, stderr_bytes: how many the program wrote, also beyond the limit
    stdout_truncated, stderr_truncated: it wrote more than is here
    start: what the VM came from: warm, clone or boot
    session: of a session's program its id, else None
    raw: the whole object as it came
    """

    status: str = ""
    exit_code: int = 0
    signal: str | None = None
    stdout: str = ""
    stderr: str = ""
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    stdout_truncated: bool = False
    stderr_truncated: bool = False
    error: ProgramError | None = None
    timing: Timing = Timing()
    usage: Usage = Usage()
    vm: str | None = None
    session: str | None = None
    language: str = ""
    start: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        nested: dict[str, Any] = {
            "stdout": _raw(wire, "stdout").decode(errors="replace"),
            "stderr": _raw(wire, "stderr").decode(errors="replace"),
            "error": ProgramError.from_wire(wire["error"]) if wire.get("error") else None,
            "timing": Timing.from_wire(wire.get("timing") or {}),
            "usage": Usage.from_wire(wire.get("usage") or {}),
            "raw": wire,
        }
        return super().from_wire({**wire, **nested})

    @property
    def ok(self) -> bool:
        """The program ended by itself with exit code 0."""
        return self.status == "ok"

    @property
    def stdout_raw(self) -> bytes:
        return _raw(self.raw, "stdout")

    @property
    def stderr_raw(self) -> bytes:
        return _raw(self.raw, "stderr")


def _raw(wire: Mapping[str, Any], stream: str) -> bytes:
    return wire_bytes(wire.get(stream) or "", wire.get(f"{stream}_encoding"))


@dataclass(frozen=True)
class ProcessInfo(_WireObject):
    """A background process of a session as it was when the daemon answered.

    state: running or ended
    status, exit_code, signal: as of a RunResult when it has ended, else None
    command: its first line, or its words
    terminal: {rows, columns}, or None
    stdin_open: more can be written
    stdout_bytes, stderr_bytes: how many it has written
    raw: the whole object as it came
    """

    process: str = ""
    state: str = ""
    command: str = ""
    status: str | None = None
    exit_code: int | None = None
    signal: str | None = None
    terminal: Mapping[str, int] | None = None
    stdin_open: bool = False
    started_at: str | None = None
    ended_at: str | None = None
    stdout_bytes: int = 0
    stderr_bytes: int = 0
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        return super().from_wire({**wire, "raw": wire})


@dataclass(frozen=True)
class ProcessOutput:
    """What is kept of the output of a background process, from given offsets on.

    stdout_offset, stderr_offset: where it begins: further on than asked for when bytes before that
        are not kept any more
    is_running: more may come
    """

    stdout_raw: bytes
    stderr_raw: bytes
    stdout_offset: int
    stderr_offset: int
    is_running: bool

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        return cls(_raw(wire, "stdout"), _raw(wire, "stderr"), wire["stdout_offset"],
                   wire["stderr_offset"], "status" not in wire)

    @property
    def stdout(self) -> str:
        return self.stdout_raw.decode(errors="replace")

    @property
    def stderr(self) -> str:
        return self.stderr_raw.decode(errors="replace")


@dataclass(frozen=True)
class SessionInfo(_WireObject):
    """A session as it was when the daemon answered.

    state: starting, idle or busy; closed in the answer to close()
    execs, queued: programs it has been given, and of these those that wait for their turn
    processes: background processes that live
    created_at, idle_since, expires_at: RFC 3339 in UTC, or None
    raw: the whole object as it came
    """

    session: str = ""
    name: str | None = None
    state: str = ""
    language: str = ""
    vm: str | None = None
    memory_mb: int = 0
    start: str | None = None
    execs: int = 0
    queued: int = 0
    processes: int = 0
    created_at: str | None = None
    idle_since: str | None = None
    expires_at: str | None = None
    idle_timeout_seconds: float = 0.0
    on_timeout: str = "close"
    bind: str = "none"
    metadata: Mapping[str, str] = field(default_factory=dict)
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        return super().from_wire({**wire, "raw": wire})


@dataclass(frozen=True)
class FileInfo(_WireObject):
    """A file or directory of a session, as its guest tells of it.

    name: its name; in a recursive list its path below the directory that was listed
    type: file, directory, symlink, fifo, socket or device
    size: in bytes
    mode: permissions, such as 0o644
    mtime: RFC 3339 in UTC
    target: where a symbolic link leads, else None

    Names that are not UTF-8 have surrogates, as os.fsdecode() makes them; no call can name them.
    """

    name: str = ""
    type: str = ""
    size: int = 0
    mode: int = 0
    mtime: str = ""
    target: str | None = None
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        read: dict[str, Any] = {"name": _name(wire.get("name") or "", wire.get("encoding")),
                                "mode": int(wire.get("mode") or "0", 8), "raw": wire}
        if (target := wire.get("target")) is not None:
            read["target"] = _name(target, wire.get("target_encoding"))
        return super().from_wire({**wire, **read})

    @property
    def is_directory(self) -> bool:
        return self.type == "directory"


def _name(data: str, encoding: str | None) -> str:
    return wire_bytes(data, encoding).decode(errors="surrogateescape")


@dataclass(frozen=True)
class FileList:
    """What is in a directory, sorted by name; to be iterated over.

    truncated: there is more than one answer may hold
    """

    entries: tuple[FileInfo, ...] = ()
    truncated: bool = False

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        return cls(tuple(FileInfo.from_wire(one) for one in wire["entries"]), bool(wire.get("truncated")))

    def __iter__(self) -> Iterator[FileInfo]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)


@dataclass(frozen=True)
class FilePiece:
    """One answer of file.read."""

    data: bytes
    size: int
    eof: bool

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        return cls(wire_bytes(wire["data"], wire.get("encoding")), wire["size"], wire["eof"])


@dataclass(frozen=True)
class SessionPage:
    """One answer of session.list; a cursor when there are more."""

    sessions: tuple[SessionInfo, ...]
    next_cursor: str | None

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        sessions = tuple(SessionInfo.from_wire(one) for one in wire["sessions"])
        return cls(sessions, wire.get("next_cursor"))
