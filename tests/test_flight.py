"""Texts that are written together: each as if it were alone, whenever it joins and leaves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.tasks.test_generation import EOS, PAD, random_model, run, text_of
from tests.tasks.test_guessing import round_and_round
from zoo.modalities.base import Array, Example
from zoo.results import Generation
from zoo.runtime.flight import Flight, Passenger
from zoo.tasks.generation import Generated, GenerateOptions, cut_at_stop
from zoo.tasks.rerunning import RerunStepper

Forward = Callable[[dict[str, Array]], dict[str, Array]]


def flight(forward: Forward = random_model) -> Flight:
    def prompt(row: int, raw: list[int], options: GenerateOptions, on_error: Any) -> list[Example]:
        return [Example({"input_ids": np.array(raw, dtype=np.int64)}, length=len(raw), row=row)]

    def result(window: Example, made: Generated, options: GenerateOptions) -> Generation:
        return Generation(text_of(made.tokens), "", made.tokens, made.finish_reason)  # type: ignore[arg-type]

    return Flight(
        lambda: RerunStepper(forward, PAD), prompt, result, eos_id=EOS, pad_id=PAD, decode=text_of
    )  # fmt: skip


def asked(of: Flight, prompt: list[int], **options: Any) -> Passenger:
    found = of.ticket(0, prompt, GenerateOptions(**options))
    assert isinstance(found, Passenger)
    return found


ASKED: list[tuple[list[int], dict[str, Any]]] = [
    ([1], {"max_new_tokens": 9}),
    ([3, 4, 5, 6], {"max_new_tokens": 3}),
    ([2, 2], {"max_new_tokens": 1}),
    ([7, 1], {"max_new_tokens": 6, "do_sample": True, "seed": 4, "temperature": 2.0}),
    ([5], {"max_new_tokens": 8, "repetition_penalty": 1.7}),
    ([6, 2, 1], {"max_new_tokens": 8, "stop": ("a", "b")}),
]


@pytest.mark.parametrize("turns", [(0, 0, 0, 0, 0, 0), (0, 1, 1, 2, 4, 5), (5, 4, 3, 2, 1, 0), (0, 20, 20, 40, 40, 41)])
def test_each_text_is_the_one_it_would_be_alone(turns: tuple[int, ...]) -> None:
    """turns: when each joins."""
    of = flight()
    passengers = [asked(of, prompt, **options) for prompt, options in ASKED]
    pieces = [""] * len(passengers)
    for turn in range(max(turns) + 12):
        of.turn([one for one, when in zip(passengers, turns, strict=True) if when == turn])
        for place, one in enumerate(passengers):
            pieces[place] += one.row.piece() if turns[place] <= turn else ""
    for (prompt, options), one, text in zip(ASKED, passengers, pieces, strict=True):
        expected = run([prompt], random_model, **options)[0]
        assert one.row.result() == expected
        assert of.result(one).tokens == expected.tokens
        assert text == cut_at_stop(text_of(expected.tokens), options.get("stop", ()))  # type: ignore[arg-type]
    assert not of.busy


def test_a_text_that_is_alone_goes_on_by_what_it_guessed_right_and_others_join_it() -> None:
    prompt, options = [1, 2, 3, 1, 2], {"max_new_tokens": 20, "stop": ("hca",)}
    (expected,) = run([prompt], round_and_round, **options, prompt_lookup_num_tokens=0)
    of = flight(round_and_round)
    first, second = asked(of, prompt, **options), asked(of, prompt, **options)
    of.turn([first])
    of.turn()
    assert len(first.row.tokens) == 6, "one after its prompt, four that were guessed of five, and one after them"
    of.turn([second])
    while of.busy:
        of.turn()
    assert first.row.result() == second.row.result() == expected
    assert expected.finish_reason == "stop"
    # A guess may be a text's end.
    last = asked(of, prompt, stop="ca")
    of.turn([last])
    of.turn()
    assert last.row.result() == Generated((3, 1), "stop")
    of.turn()
    assert not of.busy


def test_one_that_leaves_is_written_no_further_and_the_others_are() -> None:
    of = flight()
    first, second = asked(of, [1], max_new_tokens=6), asked(of, [2], max_new_tokens=6)
    of.turn([first, second])
    of.turn()
    first.left = True
    for _ in range(6):
        of.turn()
    assert len(first.row.tokens) == 2
    assert second.row.result() == run([[2]], random_model, max_new_tokens=6)[0]
    assert not of.busy
    third = asked(of, [3], max_new_tokens=2)
    of.turn([third])
    assert of.busy
    third.left = True
    of.turn()
    assert not of.busy


def test_numbers_that_are_none_end_their_own_text_alone() -> None:
    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        logits = random_model(inputs)["logits"]
        logits[(inputs["input_ids"] == 8).any(axis=1)] = np.nan
        return {"logits": logits}

    of = flight(broken)
    bad, good = asked(of, [8], max_new_tokens=3, stop="x"), asked(of, [1], max_new_tokens=1)
    of.turn([bad, good])
    assert "NaN" in str(bad.failed)
    assert good.row.result() == run([[1]], random_model, max_new_tokens=1)[0]


def test_a_prompt_that_can_not_be_read_does_not_keep_others_from_boarding() -> None:
    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        if (inputs["input_ids"] == 8).any():
            raise MemoryError("too long")
        return random_model(inputs)

    of = flight(broken)
    here = asked(of, [1], max_new_tokens=4, stop="x")
    of.turn([here])
    bad, good = asked(of, [8], max_new_tokens=3), asked(of, [2, 3], max_new_tokens=1)
    of.turn([bad, good])
    assert isinstance(bad.failed, MemoryError)
    assert good.row.result() == run([[2, 3]], random_model, max_new_tokens=1)[0]
    assert here.failed is None


def test_a_step_that_fails_ends_what_is_in_it_and_not_what_joins_then() -> None:
    failing = [False]

    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        if failing[0]:
            raise MemoryError("none left")
        return random_model(inputs)

    of = flight(broken)
    first, second = asked(of, [1], max_new_tokens=4), asked(of, [2], max_new_tokens=4)
    of.turn([first, second])
    failing[0] = True
    of.turn()
    assert [type(one.failed) for one in (first, second)] == [MemoryError, MemoryError]
    assert not of.busy
    failing[0] = False
    third = asked(of, [3], max_new_tokens=2)
    of.turn([third])
    of.turn()
    assert third.row.result() == run([[3]], random_model, max_new_tokens=2)[0]
