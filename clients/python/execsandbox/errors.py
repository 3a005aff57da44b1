# SPDX-License-Identifier: Apache-2.0
"""What can go wrong: one class per error of the daemon, and two for the connection.

A program that fails, runs out of time or of memory is not an error: its RunResult says so.
"""

from collections.abc import Mapping
from typing import Any

from .results import RunResult


class ExecSandboxError(Exception):
    """Any error of this package.

    code: number of the error in the API, 0 when the daemon did not send it
    name: its name in the API, such as "CAPACITY"
    retryable: the same call may be made again with hope
    hint: what to do about it, or None; shown below a traceback
    data: all details that the daemon sent, such as `field`, `min`, `max`, `reason`
    """

    code: int = 0
    name: str = ""
    retryable: bool = False
    hint: str | None = None

    def __init__(self, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data: dict[str, Any] = dict(data or {})
        self.name = self.data.get("name", self.name)
        self.retryable = self.data.get("retryable", self.retryable)
        self.hint = self.data.get("hint")
        if self.hint:
            self.add_note(f"Hint: {self.hint}")

    @property
    def result(self) -> RunResult | None:
        """What there was of a program's output and receipt when its call failed."""
        partial = self.data.get("result")
        return RunResult.from_wire(partial) if isinstance(partial, dict) else None


class ConnectError(ExecSandboxError):
    """The daemon's socket could not be reached. Nothing was sent."""

    name = "CONNECT"
    retryable = True


class ConnectionLostError(ExecSandboxError):
    """The connection has ended, or was closed, before the reply: a program may have run."""

    name = "CONNECTION_LOST"


class RpcError(ExecSandboxError):
    """The daemon answered with an error; of this very class when its code is unknown here."""

    @staticmethod
    def from_wire(error: Mapping[str, Any]) -> "RpcError":
        """The exception for JSON-RPC's error object."""
        code = error.get("code", 0)
        made = _by_code.get(code, RpcError)(str(error.get("message", "")), error.get("data"))
        made.code = code
        return made


class ParseError(RpcError):
    """The line is not one JSON value."""

    code, name = -32700, "PARSE_ERROR"


class InvalidRequestError(RpcError):
    """The JSON is not a JSON-RPC 2.0 request."""

    code, name = -32600, "INVALID_REQUEST"


class MethodNotFoundError(RpcError):
    """There is no method of that name."""

    code, name = -32601, "METHOD_NOT_FOUND"


class InvalidParamsError(RpcError):
    """A parameter is unknown, missing or wrong; data["field"] names it."""

    code, name = -32602, "INVALID_PARAMS"


class InternalError(RpcError):
    """The daemon failed; its log says why."""

    code, name, retryable = -32603, "INTERNAL_ERROR", True


class CancelledError(RpcError):
    """The caller cancelled the request. (No relative of asyncio.CancelledError.)"""

    code, name = -32800, "CANCELLED"


class DrainingError(RpcError):
    """The daemon is stopping and takes no new work."""

    code, name, retryable = 1001, "DRAINING", True


class UnauthorizedError(RpcError):
    """This user may not call the method."""

    code, name = 1002, "UNAUTHORIZED"


class QuotaExceededError(RpcError):
    """This user's quota is used up."""

    code, name, retryable = 1003, "QUOTA_EXCEEDED", True


class ConfigRefusedError(RpcError):
    """The configuration is wrong, or a reload cannot take it over; nothing was changed."""

    code, name = 1004, "CONFIG_REFUSED"


class MessageTooLargeError(RpcError):
    """The message is over the limit of 16 MiB; nothing was sent."""

    code, name = 1010, "MESSAGE_TOO_LARGE"


class TooManyRequestsError(RpcError):
    """Too many requests or connections."""

    code, name, retryable = 1011, "TOO_MANY_REQUESTS", True


class CodeInvalidError(RpcError):
    """The code is empty, too long or holds a NUL."""

    code, name = 2001, "CODE_INVALID"


class EnvInvalidError(RpcError):
    """An environment variable is not allowed."""

    code, name = 2002, "ENV_INVALID"


class LanguageUnknownError(RpcError):
    """There is no such language; data["known"] lists those there are."""

    code, name = 2003, "LANGUAGE_UNKNOWN"


class PackageNotAllowedError(RpcError):
    """The package is not allowed."""

    code, name = 2004, "PACKAGE_NOT_ALLOWED"


class PathInvalidError(RpcError):
    """The path is not allowed."""

    code, name = 2005, "PATH_INVALID"


class LimitInvalidError(RpcError):
    """A limit is outside its bounds, data["min"] and data["max"]."""

    code, name = 2006, "LIMIT_INVALID"


class VmBootTimeoutError(RpcError):
    """The VM did not start; the code never ran."""

    code, name, retryable = 3001, "VM_BOOT_TIMEOUT", True


class CapacityError(RpcError):
    """All VMs are in use; come back later."""

    code, name, retryable = 3002, "CAPACITY", True


class VmTransientError(RpcError):
    """The VM failed before the code was sent."""

    code, name, retryable = 3003, "VM_TRANSIENT", True


class VmLostError(RpcError):
    """The VM died while the code ran; its outcome is unknown."""

    code, name = 3004, "VM_LOST"


class VmConfigError(RpcError):
    """VMs cannot be started on this host as it is."""

    code, name = 3005, "VM_CONFIG"


class GuestProtocolError(RpcError):
    """The guest broke the protocol; its VM is gone."""

    code, name = 3006, "GUEST_PROTOCOL"


class SessionNotFoundError(RpcError):
    """There is no such session."""

    code, name = 4001, "SESSION_NOT_FOUND"


class SessionClosedError(RpcError):
    """The session is closed; data["reason"] says why."""

    code, name = 4002, "SESSION_CLOSED"


class SessionBusyError(RpcError):
    """Too many programs wait in the session."""

    code, name, retryable = 4003, "SESSION_BUSY", True


class ProcessNotFoundError(RpcError):
    """There is no such process."""

    code, name = 4010, "PROCESS_NOT_FOUND"


class ExecIdConflictError(RpcError):
    """The exec_id belongs to another request."""

    code, name = 4020, "EXEC_ID_CONFLICT"


class ExecNotFoundError(RpcError):
    """There is no program with that exec_id."""

    code, name = 4021, "EXEC_NOT_FOUND"


class VmNotFoundError(RpcError):
    """There is no such VM."""

    code, name = 4030, "VM_NOT_FOUND"


class FileNotFoundError(RpcError):
    """There is no such file. (No relative of the built-in FileNotFoundError.)"""

    code, name = 5001, "FILE_NOT_FOUND"


class FileExistsError(RpcError):
    """There is something of that name already. (No relative of the built-in FileExistsError.)"""

    code, name = 5002, "FILE_EXISTS"


class IsDirectoryError(RpcError):
    """It is a directory."""

    code, name = 5003, "IS_DIRECTORY"


class NotDirectoryError(RpcError):
    """It is no directory."""

    code, name = 5004, "NOT_DIRECTORY"


class FileTooLargeError(RpcError):
    """The file is over the limit, data["max"]."""

    code, name = 5005, "FILE_TOO_LARGE"


class NoSpaceError(RpcError):
    """The session has no space left for files."""

    code, name = 5006, "NO_SPACE"


class PermissionDeniedError(RpcError):
    """The session's user may not do that."""

    code, name = 5007, "PERMISSION_DENIED"


class TemplateNotFoundError(RpcError):
    """There is no such template."""

    code, name = 8001, "TEMPLATE_NOT_FOUND"


class BuildFailedError(RpcError):
    """The template could not be made."""

    code, name = 8002, "BUILD_FAILED"


class TemplateBusyError(RpcError):
    """The template is being made or stored."""

    code, name, retryable = 8004, "TEMPLATE_BUSY", True


_by_code: dict[int, type[RpcError]] = {error.code: error for error in RpcError.__subclasses__()}
