# SPDX-License-Identifier: Apache-2.0
"""One call on its way: its output goes to the callbacks, its reply becomes a value or an error."""

import codecs
from typing import Generic, TypeVar

from ._requests import Request
from ._rpc import Output, Reply
from .options import OutputCallback
from .results import RunResult

T = TypeVar("T")


class _Stream:
    """Text for one callback. The result repeats what was streamed: it is counted, and left out there."""

    def __init__(self, callback: OutputCallback) -> None:
        self.callback = callback
        self._next = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def text(self, data: bytes, offset: int | None, is_last: bool = False) -> str:
        """`data` begins at `offset`, where the last ended unless that says otherwise."""
        begin = self._next if offset is None else offset
        new = data[max(0, self._next - begin):]
        self._next = max(self._next, begin + len(data))
        return self._decoder.decode(new, is_last)


class Call(Generic[T]):
    """Feed it what Rpc says of its request, until is_done; then result() has the outcome."""

    def __init__(self, request: Request[T]) -> None:
        self._parse = request.parse
        self._reply: Reply | None = None
        callbacks = {"stdout": request.on_stdout, "stderr": request.on_stderr}
        self._streams = {name: _Stream(one) for name, one in callbacks.items() if one}

    @property
    def is_done(self) -> bool:
        return self._reply is not None

    def take(self, event: Output | Reply) -> list[tuple[OutputCallback, str]]:
        """The callbacks to call now, each with its text."""
        if isinstance(event, Output):
            stream = self._streams.get(event.stream)
            texts = [(stream.callback, stream.text(event.data, event.offset))] if stream else []
        else:
            self._reply = event
            texts = self._rest(event)
        return [(callback, text) for callback, text in texts if text]

    def result(self) -> T:
        """The outcome. Raises the error of the reply."""
        assert self._reply
        if self._reply.error:
            raise self._reply.error
        return self._parse(self._reply.result)

    def _rest(self, reply: Reply) -> list[tuple[OutputCallback, str]]:
        """What was not streamed. A call that failed may still tell what its program had written."""
        if not self._streams:
            return []
        result = reply.error.result if reply.error else RunResult.from_wire(reply.result)
        whole = {"stdout": result.stdout_raw, "stderr": result.stderr_raw} if result else {}
        begins = {name: result.raw.get(f"{name}_offset", 0) if result else 0 for name in whole}
        return [(stream.callback, stream.text(whole.get(name, b""), begins.get(name), True))
                for name, stream in self._streams.items()]
