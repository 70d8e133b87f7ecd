"""A limit of time that starts no clock for what does not wait."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from zoo.runtime.serve.waiting import within


def run(test: Callable[[], Awaitable[Any]]) -> Any:
    return asyncio.run(test())  # type: ignore[arg-type]


def test_what_does_not_wait_is_over_without_a_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    async def at_once() -> int:
        return 7

    async def test() -> int:
        monkeypatch.setattr(asyncio, "timeout", None)
        return await within(0.0, at_once())

    assert run(test) == 7


def test_what_waits_several_times_gives_what_it_gives() -> None:
    async def slowly() -> list[int]:
        return [await asyncio.sleep(0.001, place) for place in range(3)] + [await asyncio.sleep(0, 3)]

    async def test() -> list[int]:
        return await within(5.0, slowly())

    assert run(test) == [0, 1, 2, 3]


@pytest.mark.parametrize("waits", [False, True])
def test_its_errors_come_through(waits: bool) -> None:
    async def fails() -> None:
        if waits:
            await asyncio.sleep(0)
        raise KeyError("here")

    async def test() -> None:
        await within(5.0, fails())

    with pytest.raises(KeyError, match="here"):
        run(test)


def test_time_that_is_up_ends_it_where_it_waits() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("ended")

    async def test() -> None:
        await within(0.01, forever())

    with pytest.raises(TimeoutError):
        run(test)
    assert ended == ["ended"]


def test_a_cancelled_caller_cancels_it() -> None:
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    async def wait() -> None:
        await within(60.0, forever())

    async def test() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(test)
    assert ended == ["cancelled"]
