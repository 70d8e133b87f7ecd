"""The way of every question to a model: within its time, and only while somebody waits for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from zoo.runtime.serve.refusals import BUSY, Refusal

T = TypeVar("T")
_SOON = 0.05  # seconds
_SMALL = 32_768  # bytes that are parsed at once; more would hold up the event loop


async def parsed(size: int, parse: Callable[[], T], *, heavy: bool = False) -> T:
    """What `parse` gives: on a thread where a body is large, or its files' headers are to be read."""
    return await asyncio.to_thread(parse) if heavy or size > _SMALL else parse()


async def awaited(request: Request, answer: asyncio.Future[T], *, seconds: float) -> T:
    """What `answer` gives. It is given up when the client goes (ClientDisconnect) or the time is up (Refusal, 503)."""
    watching: list[asyncio.Task[None]] = []

    def watch() -> None:
        watching.append(asyncio.ensure_future(_watched(request, answer, seconds)))

    # Most are answered before it is worth a task to look after their client.
    clock = asyncio.get_running_loop().call_later(min(_SOON, seconds), watch)
    try:
        return await answer
    finally:
        clock.cancel()
        answer.cancel()
        for task in watching:
            task.cancel()


async def _watched(request: Request, answer: asyncio.Future[Any], seconds: float) -> None:
    reason: Exception = ClientDisconnect()
    try:
        async with asyncio.timeout(max(seconds - _SOON, 0)):
            while (await request.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        reason = Refusal(503, f"There was no answer within {seconds:g} s. Try again.", retry_after=BUSY)
    if not answer.done():
        answer.set_exception(reason)
