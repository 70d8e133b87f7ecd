from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tasks.test_generation import EOS, PAD, model, random_model, text_of
from zoo.errors import ConfigError, ZooError
from zoo.modalities.base import Array
from zoo.tasks.generation import Generated, GenerateOptions, Row, generate, stream
from zoo.tasks.guessing import Drafts, Lookup
from zoo.tasks.rerunning import RerunStepper


def guessed(text: list[int], most: int = 4, room: int = 9) -> list[int]:
    found: list[int] = Lookup(most).guess(np.array(text, dtype=np.int64), room).tolist()
    return found


def test_what_came_after_the_same_tokens_is_guessed() -> None:
    assert guessed([1, 2, 3, 4, 5, 6, 1, 2]) == [3, 4, 5, 6]
    assert guessed([1, 2, 3, 4, 5, 6, 1, 2], most=2) == [3, 4]
    assert guessed([1, 2, 3, 4, 5, 6, 1, 2], room=1) == [3]
    # The last time counts, but a longer run that is the same counts more.
    assert guessed([1, 2, 3, 1, 2, 4, 1, 2], most=1) == [4]
    assert guessed([7, 1, 2, 3, 8, 1, 2, 4, 7, 1, 2], most=1) == [3]
    # What goes round goes on round.
    assert guessed([5, 1, 2, 1, 2], most=5) == [1, 2, 1, 2, 1]


@pytest.mark.parametrize("text", [[], [1], [1, 2], [1, 2, 3], [1, 2, 3, 2, 1]])
def test_a_text_that_repeats_nothing_is_not_guessed_at(text: list[int]) -> None:
    assert guessed(text) == []


def test_no_guesses_where_none_are_asked_for_or_fit() -> None:
    assert guessed([1, 2, 3, 1, 2], most=0) == guessed([1, 2, 3, 1, 2], room=0) == guessed([1, 1, 1], room=-1) == []


def test_wrong_guesses_make_it_pause_longer_and_longer() -> None:
    lookup, text = Lookup(4), np.array([1, 2, 3, 1, 2])

    def steps_until_a_guess() -> int:
        return next(steps for steps in range(99) if len(lookup.guess(text, 9)))

    pauses = []
    for _ in range(7):
        pauses.append(steps_until_a_guess())
        lookup.learn(0, 4)
    assert pauses == [0, 1, 2, 4, 8, 16, 16]
    steps_until_a_guess()
    lookup.learn(1, 4)
    assert steps_until_a_guess() == 0
    lookup.learn(0, 4)
    assert steps_until_a_guess() == 1


class Counting:
    """How often a forward pass was asked for, and with how many tokens more than the time before."""

    def __init__(self, forward: Any) -> None:
        self.forward, self.lengths = forward, [0]

    def __call__(self, inputs: dict[str, Array]) -> dict[str, Array]:
        self.lengths.append(inputs["input_ids"].shape[1])
        return dict(self.forward(inputs))


def written(forward: Any, prompt: list[int], *, checks: bool = True, **options: Any) -> tuple[Generated, list[int]]:
    """The text, and what each step read: its tokens with all before."""
    counting = Counting(forward)
    (made,) = generate(
        [np.array(prompt, dtype=np.int64)], RerunStepper(counting, PAD, checks=checks), GenerateOptions(**options),
        eos_id=EOS, pad_id=PAD, decode=text_of,
    )  # fmt: skip
    return made, counting.lengths[1:]


def round_and_round(inputs: dict[str, Array]) -> dict[str, Array]:
    """1 2 3 1 2 3, and after the fifth token, once, an 8."""
    ids = inputs["input_ids"]
    logits = np.zeros((*ids.shape, 10), dtype=np.float32)
    following = np.where(np.arange(ids.shape[1]) == 9, 8, np.where(ids % 3 == 0, 1, ids % 3 + 1))
    np.put_along_axis(logits, following[..., None], 5.0, axis=2)
    return {"logits": logits}


def test_right_guesses_save_steps_and_a_wrong_one_is_not_written() -> None:
    plain, each = written(round_and_round, [1], max_new_tokens=15, prompt_lookup_num_tokens=0)
    assert plain.tokens == (2, 3, 1, 2, 3, 1, 2, 3, 1, 8, 3, 1, 2, 3, 1)
    assert each == list(range(1, 16))
    quick, fewer = written(round_and_round, [1], max_new_tokens=15)
    assert quick == plain
    # Behind 1 2 all of 3 1 2 3 1 are right. Behind 8 3 1 another 8 is not, which is forgotten, and then it pauses.
    assert fewer == [1, 2, 3, 4, 10, 11, 12, 15, 14, 15]


PROMPTS = [[1], [1, 2, 1, 2], [2, 3, 4, 2, 3, 4, 2, 3], [5, 6, 5, 6, 7, 5, 6]]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"repetition_penalty": 1.7},
        {"do_sample": True, "temperature": 0.2},
        {"do_sample": True, "temperature": 2.0, "top_k": 3, "seed": 4},
        {"do_sample": True, "temperature": 0.3, "top_p": 0.9, "repetition_penalty": 1.1, "seed": 9},
        {"stop": ("ab", "ca")},
        {"max_new_tokens": 1},
        {"max_new_tokens": 2},
    ],
)
@pytest.mark.parametrize("forward", [model, random_model, round_and_round])
def test_a_text_is_the_same_whatever_is_guessed(forward: Any, options: dict[str, Any]) -> None:
    for prompt in PROMPTS:
        given = {"max_new_tokens": 24, **options}
        plain, steps = written(forward, prompt, **given, prompt_lookup_num_tokens=0)
        for most in (1, 3, 8):
            found, fewer = written(forward, prompt, **given, prompt_lookup_num_tokens=most)
            assert found == plain
            assert len(fewer) <= len(steps)
            assert max(fewer) <= len(prompt) + given["max_new_tokens"] - 1, "beyond what a model may be asked for"


@pytest.mark.parametrize(
    ("options", "reason"), [({}, "eos"), ({"stop": "g"}, "stop"), ({"max_new_tokens": 6}, "length")]
)
def test_a_text_may_end_within_what_was_guessed(options: dict[str, Any], reason: str) -> None:
    prompt = [1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2]
    found, steps = written(model, prompt, **options, prompt_lookup_num_tokens=9)
    assert found.finish_reason == reason
    assert found == written(model, prompt, **options, prompt_lookup_num_tokens=0)[0]
    assert len(steps) == 2


def test_a_stream_gives_all_that_a_step_found() -> None:
    def pieces(most: int) -> list[str]:
        options = GenerateOptions(max_new_tokens=15, prompt_lookup_num_tokens=most)
        stepper = RerunStepper(round_and_round, PAD)
        return list(stream(np.array([1]), stepper, options, eos_id=EOS, decode=text_of))

    assert "".join(pieces(5)) == "".join(pieces(0)) == "bcabcabcahcabca"
    assert max(map(len, pieces(5))) > 4


def test_a_stepper_that_can_t_check_is_not_asked_to() -> None:
    found, steps = written(round_and_round, [1], checks=False, max_new_tokens=15)
    assert steps == list(range(1, 16))
    assert found == written(round_and_round, [1], max_new_tokens=15)[0]


def test_rows_of_a_batch_are_guessed_at_when_one_is_left() -> None:
    counting = Counting(round_and_round)
    rows = generate(
        [np.array([1]), np.array([9, 0])], RerunStepper(counting, PAD), GenerateOptions(max_new_tokens=20),
        eos_id=8, pad_id=PAD, decode=text_of,
    )  # fmt: skip
    assert [row.finish_reason for row in rows] == ["eos", "eos"]
    assert [row.tokens[:9] for row in rows] == [(2, 3, 1, 2, 3, 1, 2, 3, 1), (1, 2, 3, 1, 2, 3, 1, 2)]


@pytest.mark.parametrize("options", [{}, {"do_sample": True}])
def test_logits_that_are_no_numbers_within_a_guess_end_the_generation(options: dict[str, Any]) -> None:
    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        logits = round_and_round(inputs)["logits"]
        logits[:, 6:] = np.nan
        return {"logits": logits}

    with pytest.raises(ZooError, match="NaN"):
        written(broken, [1], max_new_tokens=9, **options)


@pytest.mark.parametrize("value", [-1, 65, 2.5, True, None, "5"])
def test_its_option_is_checked(value: Any) -> None:
    with pytest.raises(ConfigError, match="prompt_lookup_num_tokens"):
        GenerateOptions(prompt_lookup_num_tokens=value)


def test_a_rehearsal_leaves_the_row_as_it_is() -> None:
    row = Row(np.array([1, 2]), GenerateOptions(max_new_tokens=5, repetition_penalty=2.0), 9, lambda ids: "")
    row.take(3)
    choose = row.rehearsal()
    logits = np.array([0.0, 1.0, 1.1, 1.2, 0.9, 0.8, 0, 0, 0, -1], dtype=np.float32)
    # What it took itself counts as said.
    assert [choose(logits) for _ in range(2)] == [4, 5]
    assert choose(np.full(10, np.nan, dtype=np.float32)) == -1
    assert not choose.ended
    logits[9] = 8
    assert choose(logits) == 9
    assert choose.ended
    assert (row.tokens, row.finished) == ([3], None)
    assert row.choose(logits) == 9


def test_a_rehearsal_draws_by_the_same_numbers() -> None:
    row = Row(np.array([1, 2]), GenerateOptions(max_new_tokens=50, do_sample=True, top_k=0), 900, lambda ids: "")
    logits = np.zeros(800, dtype=np.float32)
    choose = row.rehearsal()
    drafted = [choose(logits) for _ in range(20)]
    assert len(set(drafted)) > 10
    assert [row.take(row.choose(logits)) for _ in range(20)] == drafted
    assert row.rehearsal()(logits) == row.choose(logits)


def test_drafts_are_as_long_as_they_are_right() -> None:
    drafts_of = Drafts(7, first=7)
    assert drafts_of.size(30) == 7
    assert (drafts_of.size(2), drafts_of.size(0), drafts_of.size(-1)) == (2, 0, 0)
    drafts_of.learn(2, 7)
    assert drafts_of.size(30) == 3
    drafts_of.learn(3, 3)
    assert drafts_of.size(30) == 4
    drafts_of.learn(3, 4)
    assert drafts_of.size(30) == 3
    # All wrong: half as long, and later.
    drafts_of.learn(0, 3)
    assert [drafts_of.size(30) for _ in range(2)] == [0, 1]
    for right in range(1, 9):
        drafts_of.learn(right, right)
    assert drafts_of.size(30) == 7
    assert Drafts(0, first=1).size(30) == 0
    assert Drafts(3, first=7).size(30) == 3


def test_a_single_right_draft_does_not_end_a_long_pause() -> None:
    drafts_of = Drafts(7, first=1)

    def steps_until_a_draft() -> int:
        return next(steps for steps in range(99) if drafts_of.size(30))

    pauses = []
    for right in [0] * 6 + [1] * 6:
        pauses.append(steps_until_a_draft())
        drafts_of.learn(right, 1)
    assert pauses == [0, 1, 2, 4, 8, 16, 16, 8, 4, 2, 1, 0]
