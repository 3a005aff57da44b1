# SPDX-License-Identifier: Apache-2.0
"""What is sent for each call and how its answer is read: values in, values out."""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .options import (ExecOptions, OutputCallback, ProcessOptions, ProgramOptions, RunOptions, SessionOptions,
                      SessionSettings)
from .results import (FileInfo, FileList, FilePiece, ProcessInfo, ProcessOutput, RunResult,
                      SessionInfo, SessionPage)

T = TypeVar("T")


@dataclass(frozen=True)
class Request(Generic[T]):
    """One call: its method, its parameters, and what makes of the result what the caller gets."""

    method: str
    params: Mapping[str, Any]
    parse: Callable[[Any], T]
    on_stdout: OutputCallback | None = None
    on_stderr: OutputCallback | None = None
    process: str | None = None  # whose output belongs to this call
    beside: "Request[Any] | None" = None  # sent right behind it; its answer does not matter


def call(method: str, params: Mapping[str, Any]) -> Request[Any]:
    return Request(method, params, lambda result: result)


def ping() -> Request[None]:
    return Request("rpc.ping", {}, lambda result: None)


def run(code: str, language: str, options: RunOptions) -> Request[RunResult]:
    _refuse_unknown(options, RunOptions)
    params = {"language": language, "code": code, "limits": _mapping(options.get("limits"))}
    return _program("run", params, options)


def session_create(options: SessionOptions) -> Request[SessionInfo]:
    _refuse_unknown(options, SessionOptions)
    params: dict[str, Any] = {**options}
    for name in ("env", "limits", "metadata"):
        params[name] = _mapping(params.get(name))
    return Request("session.create", _given(params), SessionInfo.from_wire)


def session_exec(session: str, command: str | None, argv: Sequence[str] | None, code: str | None,
                 options: ExecOptions) -> Request[RunResult]:
    _refuse_unknown(options, ExecOptions)
    if [command, argv, code].count(None) != 2:
        raise TypeError("exec() takes one of command, argv and code")
    params = {"session": session, "command": command, "argv": _strings("argv", argv), "code": code,
              "cwd": options.get("cwd")}
    return _program("session.exec", params, options)


def process_start(session: str, command: str | None, argv: Sequence[str] | None,
                  options: ProcessOptions) -> Request[str]:
    _refuse_unknown(options, ProcessOptions)
    if [command, argv].count(None) != 1:
        raise TypeError("start() takes one of command and argv")
    terminal = options.get("terminal")
    params = {"session": session, "background": True, "command": command,
              "argv": _strings("argv", argv), "env": _mapping(options.get("env")),
              "cwd": options.get("cwd"), **_stdin(options.get("stdin")),
              "terminal": dict(zip(("rows", "columns"), terminal)) if terminal else None}
    return Request("session.exec", _given(params), lambda started: str(started["process"]))


def process_list(session: str) -> Request[tuple[ProcessInfo, ...]]:
    return Request("process.list", {"session": session},
                   lambda listed: tuple(ProcessInfo.from_wire(one) for one in listed["processes"]))


def process_wait(session: str, process: str, timeout_seconds: float | None,
                 on_stdout: OutputCallback | None,
                 on_stderr: OutputCallback | None) -> Request[RunResult | None]:
    names = {"session": session, "process": process}
    attach = Request("session.attach", names, lambda attached: None)
    follows = on_stdout is not None or on_stderr is not None
    return Request("process.wait", _given({**names, "timeout_seconds": timeout_seconds}),
                   lambda ended: RunResult.from_wire(ended) if "status" in ended else None,
                   on_stdout, on_stderr, process if follows else None, attach if follows else None)


def process_output(session: str, process: str, stdout_offset: int,
                   stderr_offset: int) -> Request[ProcessOutput]:
    params = {"session": session, "process": process, "timeout_seconds": 0,
              "stdout_offset": stdout_offset, "stderr_offset": stderr_offset}
    return Request("process.wait", params, ProcessOutput.from_wire)


def process_write(session: str, process: str, data: str | bytes) -> Request[int]:
    text = {"data": data} if isinstance(data, str) else {
        "data": base64.b64encode(data).decode(), "encoding": "base64"}
    return Request("process.write", {"session": session, "process": process, **text},
                   lambda written: int(written["bytes"]))


def process_do(action: str, session: str, process: str, **params: Any) -> Request[None]:
    """signal, close_stdin and resize, which answer nothing."""
    return Request(f"process.{action}", {"session": session, "process": process, **params},
                   lambda done: None)


def result(exec_id: str) -> Request[RunResult | None]:
    return Request("session.result", {"exec_id": exec_id},
                   lambda found: RunResult.from_wire(found) if "status" in found else None)


def session_info(session: str) -> Request[SessionInfo]:
    return Request("session.info", {"session": session}, SessionInfo.from_wire)


def session_update(session: str, settings: SessionSettings) -> Request[SessionInfo]:
    _refuse_unknown(settings, SessionSettings)
    params: dict[str, Any] = {**settings, "session": session}
    params["metadata"] = _mapping(settings.get("metadata"))
    return Request("session.update", _given(params), SessionInfo.from_wire)


def session_close(session: str) -> Request[SessionInfo]:
    return Request("session.close", {"session": session}, SessionInfo.from_wire)


def session_list(name: str | None, state: str | None, page_size: int | None,
                 cursor: str | None) -> Request[SessionPage]:
    params = {"name": name, "state": state, "limit": page_size, "cursor": cursor}
    return Request("session.list", _given(params), SessionPage.from_wire)


def file_write(session: str, path: str, data: bytes, **params: Any) -> Request[int]:
    """append, offset, mode and commit as of the API, but a mode is a number."""
    return Request("file.write", _written(session, data, path=path, **params), lambda result: int(result["bytes"]))


def file_upload(session: str, path: str, data: bytes, mode: int | None) -> Request[str]:
    """Opens an upload with its first piece; its id comes back."""
    return Request("file.write", _written(session, data, path=path, mode=mode, upload="open"),
                   lambda result: str(result["upload"]))


def file_piece(session: str, path: str, upload: str, offset: int, data: bytes) -> Request[None]:
    """The path is for the daemon's messages."""
    return Request("file.write", _written(session, data, path=path, upload=upload, offset=offset), lambda result: None)


def file_commit(session: str, path: str, upload: str) -> Request[None]:
    params = {"session": session, "path": path, "upload": upload, "commit": True}
    return Request("file.write", params, lambda result: None)


def file_read(session: str, path: str, offset: int, length: int) -> Request[FilePiece]:
    params = {"session": session, "path": path, "offset": offset, "length": length, "encoding": "base64"}
    return Request("file.read", params, FilePiece.from_wire)


def file_list(session: str, path: str, recursive: bool) -> Request[FileList]:
    params = {"session": session, "path": path, "recursive": recursive}
    return Request("file.list", params, FileList.from_wire)


def file_stat(session: str, path: str) -> Request[FileInfo]:
    return Request("file.stat", {"session": session, "path": path}, FileInfo.from_wire)


def file_mkdir(session: str, path: str, mode: int | None, recursive: bool) -> Request[None]:
    params = {"session": session, "path": path, "mode": _mode(mode), "recursive": recursive}
    return Request("file.mkdir", _given(params), lambda result: None)


def file_remove(session: str, path: str, recursive: bool) -> Request[None]:
    params = {"session": session, "path": path, "recursive": recursive}
    return Request("file.remove", params, lambda result: None)


def file_rename(session: str, path: str, new_path: str, replace: bool) -> Request[None]:
    params = {"session": session, "path": path, "new_path": new_path, "replace": replace}
    return Request("file.rename", params, lambda result: None)


def _written(session: str, data: bytes, **params: Any) -> dict[str, Any]:
    encoded = {"data": base64.b64encode(data).decode(), "encoding": "base64"}
    return _given({"session": session, **params, "mode": _mode(params.get("mode")), **encoded})


def _mode(mode: int | None) -> str | None:
    return None if mode is None else f"{mode:04o}"


def _program(method: str, params: Mapping[str, Any], options: ProgramOptions) -> Request[RunResult]:
    """What `run` and `session.exec` share; streaming is asked for when somebody listens."""
    on_stdout, on_stderr = options.get("on_stdout"), options.get("on_stderr")
    shared = {"args": _strings("args", options.get("args")),
              "env": _mapping(options.get("env")),
              "timeout_seconds": options.get("timeout_seconds"),
              "exec_id": options.get("exec_id"),
              "stream": True if on_stdout or on_stderr else None}
    given = _given({**params, **_stdin(options.get("stdin")), **shared})
    return Request(method, given, RunResult.from_wire, on_stdout, on_stderr)


def _stdin(stdin: str | bytes | None) -> dict[str, str | None]:
    if stdin is None or isinstance(stdin, str):
        return {"stdin": stdin}
    return {"stdin": base64.b64encode(stdin).decode(), "stdin_encoding": "base64"}


def _given(params: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in params.items() if value is not None}


def _mapping(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if values is None else dict(values)


def _strings(name: str, values: Sequence[str] | None) -> list[str] | None:
    if isinstance(values, str):  # is a sequence of strings, but nobody means its letters
        raise TypeError(f"{name} is a list of strings, not one string")
    return None if values is None else list(values)


def _refuse_unknown(options: Mapping[str, Any], declared: type) -> None:
    """Python checks keywords of a signature; of a TypedDict only type checkers do."""
    for name in options:
        if name not in declared.__optional_keys__:  # type: ignore[attr-defined]
            raise TypeError(f"unexpected keyword argument '{name}'")
