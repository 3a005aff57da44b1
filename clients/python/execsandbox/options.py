# SPDX-License-Identifier: Apache-2.0
"""The keyword arguments of run(), session() and their like. All are optional; None is "not given"."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypedDict

# Gets a piece of output as text, in order. An asyncio program's may be a coroutine function.
OutputCallback = Callable[[str], object]


# Hears how far a copy is: bytes that are done, and all of them, or None when that is not known.
ProgressCallback = Callable[[int, int | None], object]


class Limits(TypedDict, total=False):
    """What a program may use."""

    memory_mb: int  # MiB; the VM is rounded up to a size class
    cpu_seconds: int  # of one process
    pids: int  # processes and threads
    disk_mb: int  # MiB of /home/user, which lives in the VM's memory
    stdout_bytes: int  # kept; what goes beyond is counted and dropped
    stderr_bytes: int
    on_output: Literal["truncate", "stop"]  # at a full output limit: go on (default), or end


class ProgramOptions(TypedDict, total=False):
    """What run() and Session.exec() have in common."""

    args: Sequence[str] | None  # arguments behind the program's name
    stdin: str | bytes | None  # standard input; empty by default
    env: Mapping[str, str] | None  # variables to add
    timeout_seconds: float | None  # wall clock; waiting for a VM or one's turn does not count
    exec_id: str | None  # it goes on without this connection, is never run twice: result() has it
    on_stdout: OutputCallback | None  # called with output as it comes
    on_stderr: OutputCallback | None


class ExecOptions(ProgramOptions, total=False):
    """Keyword arguments of Session.exec()."""

    cwd: str | None  # where a command or argv starts, from /home/user if it is relative; not for code


class ProcessOptions(TypedDict, total=False):
    """Keyword arguments of Session.start()."""

    stdin: str | bytes | None  # the beginning of its standard input, which stays open
    env: Mapping[str, str] | None  # variables to add
    cwd: str | None  # directory to start in, from /home/user if it is relative
    terminal: tuple[int, int] | None  # rows and columns of a terminal; stdout has all output then


class RunOptions(ProgramOptions, total=False):
    """Keyword arguments of run()."""

    limits: Limits | None


class SessionSettings(TypedDict, total=False):
    """What can be set when a session is made, and changed by update()."""

    idle_timeout_seconds: float | None  # it closes when nothing has run in it for so long (300)
    timeout_seconds: float | None  # it closes so long from now, whatever runs; never by default
    name: str | None  # another name for its id; "" for none
    metadata: Mapping[str, str] | None  # the caller's own; replaces all


class SessionOptions(SessionSettings, total=False):
    """Keyword arguments of session()."""

    language: str | None  # whose VM it gets; python by default
    env: Mapping[str, str] | None  # variables of all its programs
    limits: Limits | None  # of each of its programs
    on_timeout: Literal["close"] | None  # what happens at timeout_seconds
    bind: Literal["none", "connection"] | None  # connection: it closes with this connection
