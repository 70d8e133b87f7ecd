"""The way of every question to a model: within its time, and only while somebody waits for the answer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from zoo.runtime.serve.refusals import BUSY, Refusal

T = TypeVar("T")
_SMALL = 32_768  # bytes that are parsed at once; more would hold up the event loop


async def parsed(size: int, parse: Callable[[], T], *, heavy: bool = False) -> T:
    """What `parse` gives: on a thread where a body is large, or its files' headers are to be read."""
    return await asyncio.to_thread(parse) if heavy or size > _SMALL else parse()


async def awaited(request: Request, work: Coroutine[Any, Any, T], *, seconds: float) -> T:
    """What `work` gives. It is cancelled when the client goes (ClientDisconnect) or the time is up (Refusal, 503)."""
    task = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if task in done:
            return task.result()
        if gone in done:
            raise ClientDisconnect
        raise Refusal(503, f"There was no answer within {seconds:g} s. Try again.", retry_after=BUSY)
    finally:
        task.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
