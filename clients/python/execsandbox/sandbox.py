# SPDX-License-Identifier: Apache-2.0
"""The API for programs with threads, or with none: every call waits for its answer."""

import os
from collections.abc import Iterator, Sequence
from typing import Any, Self, Unpack

from . import _requests
from ._connection import Connection
from ._session_end import ignored_when_leaving
from .options import ProgramOptions, RunOptions, SessionOptions, SessionSettings
from .results import RunResult, SessionInfo


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
    """

    def __init__(self, sandbox: Sandbox, info: SessionInfo) -> None:
        self._connection = sandbox._connection
        self.id, self.name, self.vm = info.session, info.name, info.vm

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _: object, problem: BaseException | None, __: object) -> None:
        with ignored_when_leaving(problem):
            self.close()

    def exec(self, command: str | None = None, *, argv: Sequence[str] | None = None,
             code: str | None = None, **options: Unpack[ProgramOptions]) -> RunResult:
        """Runs a program behind those that came before, and waits for its end.

        command: a program for the shell; or
        argv: a program's name or path, and its arguments; or
        code: for the session's interpreter, which keeps what it defines (python, javascript)
        stdin, env, timeout_seconds, exec_id, on_stdout, on_stderr: as for Sandbox.run()

        Raises SessionClosedError, whose data["reason"] says why and data["dispatched"] whether the
        program had begun; SessionNotFoundError; SessionBusyError when 64 wait.
        """
        return self._connection.perform(_requests.session_exec(self.id, command, argv, code, options))

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
