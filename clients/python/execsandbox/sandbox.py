# SPDX-License-Identifier: Apache-2.0
"""The API for programs with threads, or with none: every call waits for its answer."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self, Unpack

from . import _requests
from ._connection import Connection
from ._files import Files
from ._session_end import ignored_when_leaving
from .options import (ExecOptions, OutputCallback, ProcessOptions, RunOptions, SessionOptions,
                      SessionSettings)
from .results import ProcessInfo, ProcessOutput, RunResult, SessionInfo


class Sandbox:
    """A connection to execsandboxd, open from here to close() or the end of `with`.

        with Sandbox() as sandbox:
            print(sandbox.run("print(6 * 7)").stdout)

    path: the daemon's socket; else EXECSANDBOX_SOCKET, else /run/execsandbox.sock.

    Threads may share one: their calls run at the same time, up to 64, and more wait for their turn.
    A connection does not come back: behind a ConnectionLostError make a new one. It is not for use
    on both sides of a fork. All methods raise ExecSandboxError; the constructor raises ConnectError.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._connection = Connection(path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection. Programs that still run on it are stopped; sessions stay."""
        self._connection.close()

    def run(self, code: str, language: str = "python", **options: Unpack[RunOptions]) -> RunResult:
        """Runs a program in a fresh VM and waits for its end.

        language: python, javascript or shell
        args: list of arguments
        stdin: str or bytes
        env: dict of variables
        limits: dict of memory_mb, cpu_seconds, pids, disk_mb, stdout_bytes, stderr_bytes, on_output
        timeout_seconds: wall clock; waiting for a VM does not count
        exec_id: your name for it: it goes on when the connection is lost, and result() has its result
        on_stdout, on_stderr: called in this thread with output as it comes, as text

        A program that fails is a result, whose `status` says why it ended. When a callback raises,
        or Ctrl-C comes, the program is stopped and the exception goes on from here.

        Raises CodeInvalidError, LanguageUnknownError, LimitInvalidError, EnvInvalidError for what was
        asked; VmBootTimeoutError, VmTransientError and CapacityError (all retryable: the code has not
        run, unless data["dispatched"] is true) and VmLostError (it may have) for what became of it.
        """
        return self._connection.perform(_requests.run(code, language, options))

    def session(self, **options: Unpack[SessionOptions]) -> "Session":
        """Makes a session, a VM to keep, and waits until it is there.

        language: whose VM it gets, python by default
        env, limits: of all its programs
        idle_timeout_seconds: it closes when nothing has run in it for so long
        timeout_seconds: it closes so long from now, whatever runs
        name: another name for its id
        metadata: dict of strings, the caller's own
        bind: "connection" closes it with this connection

        Raises the errors of run().
        """
        return Session(self, self._connection.perform(_requests.session_create(options)))

    def find_session(self, session: str) -> "Session":
        """A session that is there already, by id or name. Raises SessionNotFoundError."""
        return Session(self, self._connection.perform(_requests.session_info(session)))

    def sessions(self, *, name: str | None = None, state: str | None = None,
                 page_size: int | None = None) -> Iterator[SessionInfo]:
        """The caller's sessions, oldest first; all for an admin.

        state: starting, idle or busy
        page_size: how many are asked for at once, 1 to 1000
        """
        cursor = None
        while True:
            request = _requests.session_list(name, state, page_size, cursor)
            page = self._connection.perform(request)
            yield from page.sessions
            if not (cursor := page.next_cursor):
                return

    def result(self, exec_id: str) -> RunResult | None:
        """What came of a program that was started with this exec_id; None while it runs.

        Raises the error it ended with; ExecNotFoundError when it is not known, or not any more.
        """
        return self._connection.perform(_requests.result(exec_id))

    def info(self) -> dict[str, Any]:
        """Versions, accelerator, languages, templates and limits of the daemon."""
        info: dict[str, Any] = self.call("info")
        return info

    def health(self) -> dict[str, Any]:
        """Whether the daemon can run code: {ready, checks: [{name, ok, detail}]}."""
        health: dict[str, Any] = self.call("health")
        return health

    def ping(self) -> None:
        """Returns when the daemon has answered."""
        self._connection.perform(_requests.ping())

    def call(self, method: str, /, **params: Any) -> Any:
        """Calls any method of the API; returns its result as it came.

        `call("rpc.discover")` describes them all. Raises MethodNotFoundError, InvalidParamsError,
        UnauthorizedError, and what the method's own errors are.
        """
        return self._connection.perform(_requests.call(method, params))


class Session:
    """A VM that is kept: files and what was set up stay from one program to the next.

    id, name, vm: as they were when it was made or found. The end of `with` closes it.
    files: its files, see Files
    """

    def __init__(self, sandbox: Sandbox, info: SessionInfo) -> None:
        self._connection = sandbox._connection
        self.id, self.name, self.vm = info.session, info.name, info.vm
        self.files = Files(self._connection, self.id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        with ignored_when_leaving(problem):
            self.close()

    def exec(self, command: str | None = None, *, argv: Sequence[str] | None = None,
             code: str | None = None, **options: Unpack[ExecOptions]) -> RunResult:
        """Runs a program behind those that came before, and waits for its end.

        command: a program for the shell; or
        argv: a program's name or path, and its arguments; or
        code: for the session's interpreter, which keeps what it defines
        cwd: the directory a command or argv starts in, relative to /home/user; not for code
        args, stdin, env, timeout_seconds, exec_id, on_stdout, on_stderr: as for Sandbox.run(); argv
        has its arguments itself

        Raises SessionClosedError, whose data["reason"] says why and data["dispatched"] whether the
        program had begun; SessionNotFoundError; SessionBusyError when 64 wait.
        """
        return self._connection.perform(_requests.session_exec(self.id, command, argv, code, options))

    def start(self, command: str | None = None, *, argv: Sequence[str] | None = None,
              **options: Unpack[ProcessOptions]) -> "Process":
        """Starts a program that runs beside the others until it ends or the session closes.

        command: a program for the shell; or
        argv: a program's name or path, and its arguments
        stdin: str or bytes, the beginning of its standard input, which stays open
        env: dict of variables
        cwd: directory to start in
        terminal: (rows, columns) of a terminal for it; all its output is stdout then

        Raises QuotaExceededError when 16 run in the session, and what exec() does.
        """
        request = _requests.process_start(self.id, command, argv, options)
        return Process(self, self._connection.perform(request))

    def process(self, process: str) -> "Process":
        """A background process of this session by its id; whether there is one shows when it is used."""
        return Process(self, process)

    def processes(self) -> tuple[ProcessInfo, ...]:
        """The background processes that run, and the last that have ended."""
        return self._connection.perform(_requests.process_list(self.id))

    def info(self) -> SessionInfo:
        """How it is now."""
        return self._connection.perform(_requests.session_info(self.id))

    def update(self, **settings: Unpack[SessionSettings]) -> SessionInfo:
        """Changes idle_timeout_seconds, timeout_seconds, name or metadata."""
        info = self._connection.perform(_requests.session_update(self.id, settings))
        self.name = info.name
        return info

    def close(self) -> SessionInfo:
        """Ends its programs and its VM. Raises SessionClosedError when it is closed already."""
        return self._connection.perform(_requests.session_close(self.id))


class Process:
    """A background process of a session.

    Its methods raise ProcessNotFoundError when it is not known, or not any more; all but wait() and
    output() do so when it has ended, too (data["reason"] is "ended"). SessionClosedError when the
    session has closed, and it with that.
    """

    def __init__(self, session: Session, process: str) -> None:
        self._connection = session._connection
        self._session = session.id
        self.id = process

    def wait(self, timeout_seconds: float | None = None, *, on_stdout: OutputCallback | None = None,
             on_stderr: OutputCallback | None = None) -> RunResult | None:
        """Waits for its end; None when it still runs after `timeout_seconds`.

        on_stdout, on_stderr: called in this thread with all its output that is kept, and with more
            as it comes

        When a callback raises, or Ctrl-C comes, the waiting ends and the process goes on. With a
        callback this connection follows the process from then on: until it is closed the session
        does not end by its idle time.
        """
        return self._connection.perform(_requests.process_wait(
            self._session, self.id, timeout_seconds, on_stdout, on_stderr))

    def output(self, stdout_offset: int = 0, stderr_offset: int = 0) -> ProcessOutput:
        """What it has written so far, from these bytes on, as far as it is kept."""
        return self._connection.perform(_requests.process_output(
            self._session, self.id, stdout_offset, stderr_offset))

    def write(self, data: str | bytes) -> int:
        """Writes to its standard input and waits until its VM has taken it; returns the bytes.

        Raises TooManyRequestsError when too much waits for it already.
        """
        return self._connection.perform(_requests.process_write(self._session, self.id, data))

    def close_stdin(self) -> None:
        """Ends its standard input; on a terminal as Ctrl-D does."""
        self._connection.perform(_requests.process_do("close_stdin", self._session, self.id))

    def signal(self, name: str = "TERM") -> None:
        """Sends a signal to its process group: TERM, INT, USR1 …"""
        self._connection.perform(_requests.process_do("signal", self._session, self.id, signal=name))

    def kill(self) -> None:
        """Ends it and all that it has started."""
        self.signal("KILL")

    def resize(self, rows: int, columns: int) -> None:
        """Its terminal has another size now."""
        self._connection.perform(_requests.process_do("resize", self._session, self.id, rows=rows,
                                                      columns=columns))
