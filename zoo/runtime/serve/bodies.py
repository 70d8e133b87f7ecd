"""A request's body, whole: within its size, its time, and what the server holds at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from zoo.runtime.serve.refusals import BUSY, Refusal
from zoo.runtime.serve.settings import Limits
from zoo.runtime.serve.waiting import within


class Budget:
    """Bytes of all the bodies that are in memory."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.held = 0

    def take(self, count: int) -> None:
        if self.held + count > self._most:
            raise Refusal(503, "The server holds as many requests as it can. Try again.", retry_after=BUSY)
        self.held += count

    def give(self, count: int) -> None:
        self.held -= count


@asynccontextmanager
async def body_of(request: Request, limits: Limits, budget: Budget) -> AsyncIterator[bytes]:
    """The body, counted in the budget while the block runs. Raises Refusal: 408, 413, 415 or 503."""
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise Refusal(415, "Compressed bodies are not taken: send it without Content-Encoding.")
    _check_declared(request, limits)
    chunks: list[bytes] = []
    try:
        await _read(request, limits, budget, chunks)
        yield b"".join(chunks)
    finally:
        budget.give(sum(map(len, chunks)))


async def _read(request: Request, limits: Limits, budget: Budget, chunks: list[bytes]) -> None:
    try:
        await within(limits.body_timeout, _take(request, limits, budget, chunks))
    except TimeoutError:
        raise Refusal(408, f"The body did not arrive within {limits.body_timeout:g} s.") from None


async def _take(request: Request, limits: Limits, budget: Budget, chunks: list[bytes]) -> None:
    taken = 0
    async for chunk in request.stream():
        taken += len(chunk)
        if taken > limits.body_bytes:
            raise _too_large(limits)
        budget.take(len(chunk))
        chunks.append(chunk)


def _check_declared(request: Request, limits: Limits) -> None:
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise Refusal(400, "Content-Length is not a number.")
    # Any number of digits may come, and Python refuses to read some thousands of them.
    if len(declared) > 18 or int(declared) > limits.body_bytes:
        raise _too_large(limits)


def _too_large(limits: Limits) -> Refusal:
    return Refusal(413, f"The body is larger than {limits.max_body_mb:g} MB.")
