"""The one prediction loop: order, bounded memory, batches under a budget, errors in their place."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.errors import ConfigError, InputError
from zoo.inference import Batch, Limits, batches, limits_of, run_rows
from zoo.modalities.base import Array, Encoder, Example, pad
from zoo.spec import ModelSpec
from zoo.tasks import make

TEXT = ModelSpec.parse(
    "{name: t, modality: text, tasks: [text-classification], backend: transformers, architecture: bert, "
    "input: {kind: text, max_length: 512}}"
)


class Numbers(Encoder):
    """A raw input is n: one window of n tokens, or n // 10 windows when n is a multiple of 10. 13 is unlucky."""

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        if raw == 13:
            raise InputError("13 can't be read")
        count = raw // 10 if raw % 10 == 0 else 1
        rows = [np.full(raw, window + 1, dtype=np.int64) for window in range(count)]
        return [Example({"input_ids": row}, raw, window=i, windows=count) for i, row in enumerate(rows)]

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        return {"input_ids": pad([example.inputs["input_ids"] for example in examples], 0)}

    def describe(self, raw: Any) -> str:
        return f"the number {raw}"

    def save(self, folder: Path) -> None: ...


def run(rows: Any, *, seen: list[Batch] | None = None, **options: Any) -> Iterator[Any]:
    encoder = Numbers()

    def forward(batch: Batch) -> dict[str, Array]:
        if seen is not None:
            seen.append(batch)
        return {"logits": batch.inputs["input_ids"].sum(axis=1, keepdims=True).astype(np.float32)}

    task = make("text-classification", TEXT, ("a",))
    return run_rows(rows, prepare=encoder.encode, encoder=encoder, task=task, forward=forward, **options)


def values(outcomes: Any) -> list[list[float]]:
    return [[float(output["logits"][0]) for output in outcome.outputs] for outcome in outcomes]


def expected(n: int) -> list[float]:
    return [float(n * (window + 1)) for window in range(n // 10 if n % 10 == 0 else 1)]


@given(st.lists(st.integers(1, 60).filter(lambda n: n != 13), max_size=80), st.sampled_from([1, 2, 7, 32, "auto"]))
def test_any_rows_come_back_in_order_with_all_their_windows(rows: list[int], batch_size: Any) -> None:
    outcomes = list(run(rows, batch_size=batch_size))
    assert [outcome.raw for outcome in outcomes] == rows
    assert [outcome.row for outcome in outcomes] == list(range(len(rows)))
    assert values(outcomes) == [expected(n) for n in rows]


def test_sorting_makes_batches_of_like_length() -> None:
    rng = random.Random(0)
    rows = [rng.randint(1, 9) for _ in range(256)]
    seen: list[Batch] = []
    list(run(rows, batch_size=16, seen=seen))
    padded = sum(batch.inputs["input_ids"].size for batch in seen)
    unsorted = sum(16 * max(rows[i : i + 16]) for i in range(0, len(rows), 16))
    assert padded < 0.8 * unsorted


def test_batches_never_break_the_limits_but_for_a_row_that_is_too_long_alone() -> None:
    windows = [Example({}, length) for length in (5, 300, 7, 90, 40, 40, 1, 1, 1)]
    for batch in batches(windows, Limits(3, 100)):
        assert len(batch) <= 3
        assert len(batch) == 1 or len(batch) * max(window.length for window in batch) <= 100
    assert sum(len(batch) for batch in batches(windows, Limits(3, 100))) == len(windows)


def test_no_window_is_padded_by_more_than_the_limit_but_where_text_is_written() -> None:
    windows = [Example({}, length) for length in (30, 9, 21, 22, 1, 29)]
    cut = [[window.length for window in batch] for batch in batches(windows, Limits(32, None, 8))]
    assert cut == [[30, 29, 22], [21], [9, 1]]
    assert limits_of("auto", "text").padding == 8
    assert limits_of("auto", "text", writing=True).padding is None
    assert limits_of(4, "text").padding is None


def test_an_endless_source_is_read_lazily() -> None:
    taken: list[int] = []

    def source() -> Iterator[int]:
        for n in itertools.cycle([3, 1, 4, 1, 5]):
            taken.append(n)
            yield n

    first = list(itertools.islice(run(source(), batch_size=2), 5))
    assert [outcome.raw for outcome in first] == [3, 1, 4, 1, 5]
    assert len(taken) <= 5 + 2 * 32


def test_a_bad_row_is_an_object_in_its_place_or_raises_with_its_number() -> None:
    outcomes = list(run([4, 13, 6], on_error="return"))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    error = outcomes[1].error
    assert (error.row, error.input, error.error, error.message) == (
        1,
        "the number 13",
        "InputError",
        "13 can't be read",
    )
    with pytest.raises(InputError, match=r"row 1: 13 can't be read") as caught:
        list(run([4, 13, 6]))
    assert caught.value.row == 1


def test_wrong_options_say_what_is_allowed() -> None:
    with pytest.raises(ConfigError, match=r'"raise" or "return"'):
        run([1], on_error="ignore")
    for wrong in (0, -1, 2.5, "big", True):
        with pytest.raises(ConfigError, match="positive whole number"):
            limits_of(wrong, "text")  # type: ignore[arg-type]


def test_no_rows_give_nothing() -> None:
    assert list(run([])) == []


def test_many_batches_are_run_by_what_is_better_at_many_and_few_are_not() -> None:
    opened: list[int] = []
    threads: set[int] = set()
    together = threading.Barrier(2, timeout=30)

    def bulk() -> tuple[Any, int]:
        opened.append(1)

        def forward(batch: Batch) -> dict[str, Array]:
            threads.add(threading.get_ident())
            # The first two meet here, or this fails: they are run at the same time.
            if len(threads) < 2 or together.n_waiting:
                together.wait()
            return {"logits": batch.inputs["input_ids"].sum(axis=1, keepdims=True).astype(np.float32)}

        return forward, 2

    few, many = list(range(1, 12)), [n for n in range(1, 61) if n != 13]
    assert values(run(few, batch_size=1, bulk=bulk)) == values(run(few, batch_size=1))
    assert not opened
    assert values(run(many, batch_size=1, bulk=bulk)) == values(run(many, batch_size=1))
    assert opened
    assert len(threads) == 2


def test_an_error_among_many_batches_comes_through() -> None:
    def bulk() -> tuple[Any, int]:
        def forward(batch: Batch) -> dict[str, Array]:
            raise MemoryError("of this batch")

        return forward, 2

    with pytest.raises(MemoryError, match="of this batch"):
        list(run([n for n in range(1, 61) if n != 13], batch_size=1, bulk=bulk))


def test_a_list_is_sorted_as_a_whole_and_a_source_is_answered_soon() -> None:
    rows = [1, 201] * 32
    seen: list[Batch] = []
    list(run(rows, batch_size=32, seen=seen))
    assert [batch.inputs["input_ids"].shape for batch in seen] == [(32, 201), (32, 1)]
    seen.clear()
    list(run(iter(rows), batch_size=32, seen=seen))
    assert {batch.inputs["input_ids"].shape[1] for batch in seen} == {201}


def test_padding_that_costs_nothing_bounds_no_batch() -> None:
    assert limits_of("auto", "text").padding == 8
    assert limits_of("auto", "text", packs=True).padding is None
