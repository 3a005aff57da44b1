# SPDX-License-Identifier: Apache-2.0
"""What may go wrong when a session is closed at the end of `with`."""

import contextlib

from .errors import ExecSandboxError, SessionClosedError, SessionNotFoundError


def ignored_when_leaving(problem: BaseException | None) -> contextlib.suppress:
    """A session that is closed already is fine; what the caller has run into matters more."""
    if problem:
        return contextlib.suppress(ExecSandboxError)
    return contextlib.suppress(SessionClosedError, SessionNotFoundError)
