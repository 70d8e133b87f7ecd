"""Texts of several requests, written together: what each gets, who waits for whom, and what a fault or an end does."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import zoo
from tests.serving.test_streaming import events
from zoo.results import RowError
from zoo.runtime import BundleModel
from zoo.runtime.caching import CachedGraph
from zoo.runtime.serve.batching import Batcher
from zoo.runtime.serve.flying import Flying, Written
from zoo.runtime.serve.refusals import Refusal
from zoo.tasks.generation import GenerateOptions

Serve = Callable[..., TestClient]
Test = Callable[[Flying, "Steps"], Awaitable[None]]


class Steps:
    """The texts of each step of a flight."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def observe(self, rows: int, seconds: float) -> None:
        self.rows.append(rows)


@pytest.fixture(scope="module")
def writer(bundles: dict[str, Path]) -> BundleModel:
    return zoo.runtime.load(bundles["writer"])


def run(model: BundleModel, test: Test, *, seats: int = 4, most: int = 8) -> Steps:
    steps = Steps()

    async def main() -> None:
        batcher = Batcher(lambda *_: [], size=1, delay=0, most=1, observe=lambda *_: None, name="test")
        flight = model.flight()
        assert flight is not None
        flying = Flying(flight, batcher, seats=seats, most=most, observe=steps.observe)
        try:
            await asyncio.wait_for(test(flying, steps), 20)
            while flying._task is not None:
                await asyncio.sleep(0.001)
            assert not flight.busy
        finally:
            await batcher.close(5)

    asyncio.run(main())
    return steps


def tokens(count: int, **more: Any) -> GenerateOptions:
    return GenerateOptions(max_new_tokens=count, do_sample=True, temperature=5.0, seed=3, **more)


def broken(self: CachedGraph, ids: Any) -> Any:
    raise RuntimeError("/secret")


async def end_of(stream: Written) -> Any:
    while isinstance(found := await stream.next(), str):
        pass
    return found


def alone(model: BundleModel, prompt: str, count: int) -> dict[str, Any]:
    found = model.predict(prompt, max_new_tokens=count, do_sample=True, temperature=5.0, seed=3)
    return dict(found.to_dict())


def test_requests_of_any_options_share_a_step_and_each_gets_its_own(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        first = flying.predict(["Once upon", "a"], tokens(9))
        second = flying.predict(["The end"], GenerateOptions(max_new_tokens=4))
        assert await first == [alone(writer, "Once upon", 9), alone(writer, "a", 9)]
        assert await second == [writer.predict("The end", max_new_tokens=4).to_dict()]

    assert run(writer, test).rows == [3] * 4 + [2] * 5


def test_a_short_text_does_not_wait_for_the_end_of_a_long_one(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        long = flying.predict(["Once upon"], tokens(40))
        while len(steps.rows) < 3:
            await asyncio.sleep(0)
        assert await flying.predict(["a"], tokens(2)) == [alone(writer, "a", 2)]
        assert not long.done()
        assert await long == [alone(writer, "Once upon", 40)]

    assert len(run(writer, test).rows) == 40


def test_those_without_a_seat_wait_their_turn_and_too_many_are_refused(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        asked = flying.predict(["a", "b", "c", "d", "e"], tokens(3))
        assert flying.waiting == 5
        with pytest.raises(Refusal) as refused:
            flying.predict(["f"] * 4, tokens(3))
        assert refused.value.status == 429
        assert refused.value.retry_after == 1
        assert await asked == [alone(writer, prompt, 3) for prompt in "abcde"]

    assert run(writer, test, seats=2).rows == [2] * 6 + [1] * 3


def test_a_long_list_keeps_no_other_request_from_a_seat(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        several = flying.predict(["a", "b", "c", "d", "e", "f"], tokens(3))
        assert await flying.predict(["g"], tokens(3)) == [alone(writer, "g", 3)]
        assert len(steps.rows) == 6
        assert not several.done()
        assert await several == [alone(writer, prompt, 3) for prompt in "abcdef"]

    run(writer, test, seats=1)


def test_a_client_that_leaves_gives_up_its_seat_and_its_place_in_the_queue(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        long = flying.predict(["Once upon"], tokens(90))
        waiting = flying.predict(["a"], tokens(90))
        while not steps.rows:
            await asyncio.sleep(0)
        assert flying.waiting == 1
        waiting.cancel()
        long.cancel()
        await asyncio.sleep(0)
        assert flying.waiting == 0
        assert await flying.predict(["b"], tokens(2)) == [alone(writer, "b", 2)]

    assert len(run(writer, test, seats=1).rows) < 10


def test_one_that_leaves_while_it_gets_its_seat_gives_it_up(
    writer: BundleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        inside, go = threading.Event(), threading.Event()
        ticket = flying._flight.ticket

        def held(*given: Any) -> Any:
            inside.set()
            go.wait(10)
            return ticket(*given)

        monkeypatch.setattr(flying._flight, "ticket", held)
        asked = flying.predict(["a"], tokens(90))
        assert await asyncio.to_thread(inside.wait, 10)
        asked.cancel()
        await asyncio.sleep(0)
        go.set()
        assert await flying.predict([], tokens(2)) == []

    assert len(run(writer, test).rows) < 5


def test_a_bad_prompt_is_told_in_its_place(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        good, long, empty = await flying.predict(["a", "b" * 5000, ""], tokens(2))
        assert good == alone(writer, "a", 2)
        assert isinstance(long, RowError)
        assert "longer than the model can see" in long.message
        assert isinstance(empty, RowError)
        stream = flying.stream("b" * 5000, tokens(2))
        with pytest.raises(zoo.InputError):
            await stream

    run(writer, test)


def test_a_fault_of_a_step_is_told_to_all_in_it_and_the_next_goes_on(
    writer: BundleModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(CachedGraph, "advance", broken)
            asked = [flying.predict([prompt], tokens(3)) for prompt in "ab"]
            stream = await flying.stream("c", tokens(3))
            for one in asked:
                with pytest.raises(RuntimeError, match="secret"):
                    await one
            with pytest.raises(RuntimeError, match="secret"):
                await end_of(stream)
        assert await flying.predict(["a"], tokens(3)) == [alone(writer, "a", 3)]

    run(writer, test)


def test_over_http_a_fault_is_an_internal_error_without_its_reason(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve("writer")
    monkeypatch.setattr(CachedGraph, "advance", broken)
    asked = {"inputs": "a", "options": {"max_new_tokens": 3}}
    answer = client.post("/predict/writer", json=asked)
    name, last = events(client.post("/predict/writer/stream", json=asked).text)[-1]
    assert (answer.status_code, name) == (500, "error")
    for said in (answer.json()["error"], last["error"]):
        assert "An internal error" in said
        assert "secret" not in said


def test_a_defect_of_ours_keeps_nobody_waiting(writer: BundleModel, monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(flying._flight, "turn", lambda joining: 1 / 0)
            with pytest.raises(RuntimeError, match="ZeroDivisionError"):
                await flying.predict(["a"], tokens(3))
        assert await flying.predict(["a"], tokens(3)) == [alone(writer, "a", 3)]

    run(writer, test)


def test_the_end_waits_for_what_is_written_and_not_for_ever(writer: BundleModel) -> None:
    async def test(flying: Flying, steps: Steps) -> None:
        batcher = flying._batcher
        with batcher.guest():
            asked = flying.predict(["a"], tokens(5))
            closing = asyncio.create_task(batcher.close(10))
            assert await asked == [alone(writer, "a", 5)]
        assert await closing

    run(writer, test)

    async def late(flying: Flying, steps: Steps) -> None:
        batcher = flying._batcher
        with batcher.guest():
            asked = flying.predict(["Once upon", "a"], tokens(90))
            while not steps.rows:
                await asyncio.sleep(0)
            assert not await batcher.close(0)
            with pytest.raises(RuntimeError, match="the flight ended"):
                await asked

    assert len(run(writer, late).rows) < 90


def test_streams_and_answers_over_http_are_those_of_each_alone(serve: Serve, writer: BundleModel) -> None:
    client = serve("writer", batch_rows=3)
    prompts = ["Once upon", "a", "The end", "x y z", "b c", "d"]
    options = {"do_sample": True, "temperature": 5.0, "seed": 3}

    def ask(place: int) -> Any:
        time.sleep(0.01 * place)
        body = {"inputs": prompts[place], "options": {"max_new_tokens": 12 - place, **options}}
        if place % 2:
            return client.post("/predict/writer", json=body).json()["result"]
        *pieces, (name, last) = events(client.post("/predict/writer/stream", json=body).text)
        assert name == "end"
        assert "".join(piece["text"] for _, piece in pieces) == last["result"]["text"]
        return last["result"]

    with ThreadPoolExecutor(len(prompts)) as threads:
        found = list(threads.map(ask, range(len(prompts))))
    assert found == [alone(writer, prompt, 12 - place) for place, prompt in enumerate(prompts)]
