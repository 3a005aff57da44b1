# SPDX-License-Identifier: Apache-2.0
"""Run untrusted code in microVMs: a client of execsandboxd.

    from execsandbox import Sandbox

    with Sandbox() as sandbox:
        print(sandbox.run("print(6 * 7)").stdout)

Sandbox, Session and Process wait, AsyncSandbox, AsyncSession and AsyncProcess are awaited. execsandbox.errors has a class
for each error, all below ExecSandboxError; execsandbox.options the keyword arguments.
"""

from . import errors, options
from ._aio_files import AsyncFiles
from ._files import Files
from .aio import AsyncProcess, AsyncSandbox, AsyncSession
from .errors import ConnectError, ConnectionLostError, ExecSandboxError, RpcError
from .options import Limits
from .results import (FileInfo, FileList, ProcessInfo, ProcessOutput, ProgramError, RunResult,
                      SessionInfo, Timing, Usage)
from .sandbox import Process, Sandbox, Session

__all__ = [
    "AsyncFiles", "AsyncProcess", "AsyncSandbox", "AsyncSession", "ConnectError",
    "ConnectionLostError", "ExecSandboxError", "FileInfo", "FileList", "Files", "Limits", "Process",
    "ProcessInfo", "ProcessOutput", "ProgramError", "RpcError",
    "RunResult", "Sandbox", "Session", "SessionInfo", "Timing", "Usage", "errors", "options",
]
__version__ = "0.1.0"
