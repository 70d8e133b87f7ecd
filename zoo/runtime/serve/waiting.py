"""A limit of time around what mostly does not wait: no clock is started until it does."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class within(Generic[T]):
    """`await within(seconds, work)`: what `work` gives. Raises TimeoutError, as `asyncio.timeout` does.

    A body that came with its headers and an answer that fits into the socket are over at once, and a clock for each
    of them is a tenth of what a small request costs.
    """

    def __init__(self, seconds: float, work: Coroutine[Any, Any, T]) -> None:
        self._seconds = seconds
        self._work = work

    def __await__(self) -> Generator[Any, Any, T]:
        try:
            first = self._work.send(None)
        except StopIteration as end:
            found: T = end.value
        else:
            found = yield from self._timed(first).__await__()
        return found

    async def _timed(self, first: Any) -> T:
        async with asyncio.timeout(self._seconds):
            found: T = await _Begun(first, self._work)
        return found


class _Begun:
    """A coroutine that waits for `first` already."""

    def __init__(self, first: Any, work: Coroutine[Any, Any, Any]) -> None:
        self._first = first
        self._work = work

    def __await__(self) -> Generator[Any, Any, Any]:
        waited = self._first
        while True:
            try:
                try:
                    sent = yield waited
                except BaseException as error:
                    waited = self._work.throw(error)
                else:
                    waited = self._work.send(sent)
            except StopIteration as end:
                return end.value
