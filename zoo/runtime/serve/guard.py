"""Connections that send their headers too slowly, or too many of them: uvicorn itself waits for ever."""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_HEADER_BYTES = 65_536
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class Guard(asyncio.Protocol):
    """uvicorn's protocol behind a clock that runs whenever a request's headers are awaited.

    rest: bytes of a refused body that are read and thrown away, so that its client gets to read the refusal.
    """

    def __init__(self, inner: HttpToolsProtocol, *, seconds: float, rest: int) -> None:
        self._inner = inner
        self._seconds = seconds
        self._rest = rest
        self._transport: Any = None
        self._clock: asyncio.TimerHandle | None = None
        self._bytes = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(_Quiet(transport))  # type: ignore[arg-type]
        self._start()

    def data_received(self, data: bytes) -> None:
        if self._transport.is_closing():
            return
        self._inner.data_received(data)
        cycle = self._inner.cycle
        if cycle is not None and not cycle.response_complete:
            self._stop()
            return
        if self._clock is None:
            self._start()
        self._bytes += len(data)
        unread = cycle is not None and cycle.more_body
        if self._bytes > (self._rest if unread else _HEADER_BYTES):
            self._cut(_LARGE)

    def eof_received(self) -> bool | None:
        self._inner.eof_received()
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._inner.connection_lost(exc)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def _start(self) -> None:
        self._bytes = 0
        self._clock = asyncio.get_running_loop().call_later(self._seconds, self._cut, _SLOW)

    def _stop(self) -> None:
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None

    def _cut(self, answer: bytes) -> None:
        self._stop()
        if not self._transport.is_closing():
            self._transport.write(answer)
            self._transport.close()


class _Quiet:
    """A transport that drops what is written after its end, as asyncio's does: uvloop's raises, and uvicorn writes the
    answers of requests that were sent one behind the other before it learns that their client has left."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def guarded(seconds: float, rest: int) -> type[asyncio.Protocol]:
    """What uvicorn is given as its protocol."""

    class Guarded(Guard):
        def __init__(self, **given: Any) -> None:
            super().__init__(HttpToolsProtocol(**given), seconds=seconds, rest=rest)

    return Guarded
