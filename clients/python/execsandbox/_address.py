# SPDX-License-Identifier: Apache-2.0
"""Where the daemon listens, and what to say when it does not."""

import errno
import os

from .errors import ConnectError

DEFAULT_PATH = "/run/execsandbox.sock"


def socket_path(path: str | os.PathLike[str] | None) -> str:
    """The argument, else EXECSANDBOX_SOCKET, else the daemon's default."""
    return os.fspath(path) if path else os.environ.get("EXECSANDBOX_SOCKET") or DEFAULT_PATH


def connect_error(path: str, problem: OSError) -> ConnectError:
    if problem.errno in (errno.EACCES, errno.EPERM):
        hint = "members of group execsandbox may use the socket"
    else:
        hint = "start the daemon, or name its socket with EXECSANDBOX_SOCKET"
    return ConnectError(f"Cannot connect to '{path}': {problem.strerror or problem}", {"hint": hint})
