"""The queue before a model: what is answered together, what is not, and what a fault or an end does to it."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from zoo.runtime.serve import memory, worker
from zoo.runtime.serve.batching import Batcher
from zoo.runtime.serve.metrics import Metrics
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import Settings
from zoo.runtime.serve.shelf import Shelf


class Model:
    """Doubles numbers; refuses 13; remembers its batches. `gate` holds it up."""

    def __init__(self) -> None:
        self.batches: list[tuple[Any, list[int]]] = []
        self.gate = threading.Event()
        self.gate.set()

    def work(self, key: Any, rows: list[int]) -> list[int]:
        self.gate.wait(5)
        self.batches.append((key, list(rows)))
        if 13 in rows:
            raise ValueError("13")
        return [2 * row for row in rows]


def run(
    test: Callable[[Model, Batcher], Awaitable[None]], *, size: int = 4, delay: float = 0.05, most: int = 8
) -> Model:
    model = Model()

    async def main() -> None:
        batcher = Batcher(model.work, size=size, delay=delay, most=most, observe=lambda *_: None, name="test")
        try:
            await asyncio.wait_for(test(model, batcher), 10)
        finally:
            model.gate.set()
            await batcher.close(5)

    asyncio.run(main())
    return model


def test_requests_of_one_key_are_answered_together_and_each_gets_its_own() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        asked = [batcher.submit("a", [1]), batcher.submit("b", [10]), batcher.submit("a", [2, 3])]
        assert await asyncio.gather(*asked) == [[2], [20], [4, 6]]

    assert run(test).batches == [("a", [1, 2, 3]), ("b", [10])]


def test_a_full_batch_does_not_wait_and_a_lone_request_waits_no_longer_than_the_delay() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        began = time.monotonic()
        assert await asyncio.gather(*(batcher.submit("a", [i]) for i in range(4))) == [[0], [2], [4], [6]]
        assert time.monotonic() - began < 0.4
        assert await batcher.submit("a", [5]) == [10]
        assert 0.5 <= time.monotonic() - began < 2

    assert [rows for _, rows in run(test, delay=0.5).batches] == [[0, 1, 2, 3], [5]]


def test_what_arrives_while_a_batch_runs_is_the_next_batch() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        first = batcher.submit("a", [1])
        while not batcher.running:
            await asyncio.sleep(0.001)
        rest = [batcher.submit("a", [i]) for i in (2, 3)]
        await asyncio.sleep(0.02)
        model.gate.set()
        assert await asyncio.gather(first, *rest) == [[2], [4], [6]]

    assert [rows for _, rows in run(test, delay=0).batches] == [[1], [2, 3]]


def test_one_requests_fault_is_not_anothers() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        asked = [batcher.submit("a", [1]), batcher.submit("a", [13]), batcher.submit("a", [2])]
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert (found[0], found[2]) == ([2], [4])
        assert isinstance(found[1], ValueError)
        assert await batcher.submit("a", [3]) == [6]

    run(test)


def test_too_many_waiting_rows_are_refused_and_a_client_that_left_frees_its_place() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        running = batcher.submit("a", [0])
        while not batcher.running:
            await asyncio.sleep(0.001)
        waiting = batcher.submit("a", list(range(8)))
        await asyncio.sleep(0)
        with pytest.raises(Refusal) as refused:
            await batcher.submit("a", [1])
        assert (refused.value.status, refused.value.retry_after) == (429, 1)
        waiting.cancel()
        await asyncio.sleep(0)
        assert batcher.waiting == 0
        late = batcher.submit("a", [1])
        await asyncio.sleep(0)
        model.gate.set()
        assert (await running, await late) == ([0], [2])

    assert [rows for _, rows in run(test, delay=0).batches] == [[0], [1]]


def test_closing_answers_what_waits_and_what_its_guests_ask() -> None:
    async def test(_: Model, batcher: Batcher) -> None:
        waiting = [batcher.submit(key, [1]) for key in ("a", "b")]
        await asyncio.sleep(0)
        with batcher.guest():
            closing = asyncio.create_task(batcher.close(5))
            assert await asyncio.gather(*waiting) == [[2], [2]]
            assert await batcher.submit("a", [3]) == [6]
            assert not closing.done()
        assert await closing

    run(test, delay=60)


def test_closing_gives_up_on_a_model_that_does_not_end() -> None:
    async def test(model: Model, batcher: Batcher) -> None:
        model.gate.clear()
        waiting = batcher.submit("a", [1])
        while not batcher.running:
            await asyncio.sleep(0.001)
        assert not await batcher.close(0.05)
        waiting.cancel()

    run(test, delay=0)


def test_an_old_model_leaves_memory_without_the_collector(bundles: dict[str, Path]) -> None:
    async def reload() -> weakref.ref[Any]:
        shelf = Shelf(Settings(), Metrics())
        shelf.open([bundles["tagger"]])
        await shelf.start()
        old = shelf.served("tagger").loaded
        assert old is not None
        await old.predict(["Ada"], {}, "{}")
        seen = weakref.ref(old.model)
        del old
        await shelf.reload("tagger")
        await shelf.close(10)
        return seen

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(reload())() is None
    finally:
        gc.enable()


class _Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


def test_a_server_looks_for_garbage_only_in_what_came_since_its_models(
    bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "settle", lambda: None)
    app = worker.open_app([bundles["tagger"]], Settings())
    assert gc.get_freeze_count() == 0

    async def serve() -> tuple[weakref.ref[_Ring], int, weakref.ref[_Ring]]:
        await app.shelf.start()
        kept = gc.get_freeze_count()
        before, after = _Ring(), _Ring()
        seen = weakref.ref(before), weakref.ref(after)
        memory.freeze()
        del before
        # Garbage of a model that is exchanged is found all the same.
        await app.shelf.reload("tagger")
        await app.shelf.close(10)
        del after
        gc.collect()
        return seen[0], kept, seen[1]

    try:
        before, kept, after = asyncio.run(serve())
        assert kept > 10_000
        assert (before(), gc.get_freeze_count() > 10_000) == (None, True)
        # It lived when the models were exchanged, and waits for the next time.
        assert after() is not None
        memory.freeze()
        assert after() is None
    finally:
        gc.unfreeze()
