from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from zoo.errors import ConfigError, InputError, ZooError
from zoo.modalities.base import Array
from zoo.tasks.generation import (
    Generated,
    GenerateOptions,
    cut_at_stop,
    generate,
    most_probable,
    next_token,
    settled,
    stream,
)
from zoo.tasks.rerunning import RerunStepper

EOS, PAD = 9, 0


def text_of(ids: Array) -> str:
    return "".join("_abcdefgh."[i] for i in ids)


def model(inputs: dict[str, Array]) -> dict[str, Array]:
    """The next token is the last one plus one; padding is read as a mistake would read it."""
    ids = inputs["input_ids"]
    logits = np.zeros((*ids.shape, 10), dtype=np.float32)
    np.put_along_axis(logits, ((ids + 1) % 10)[..., None], 5.0, axis=2)
    return {"logits": logits}


def run(prompts: list[list[int]], forward: Any = model, **options: Any) -> list[Generated]:
    return generate(
        [np.array(prompt, dtype=np.int64) for prompt in prompts],
        RerunStepper(forward, PAD),
        GenerateOptions(**options),
        eos_id=EOS,
        pad_id=PAD,
        decode=text_of,
    )


def random_model(inputs: dict[str, Array]) -> dict[str, Array]:
    """Logits that depend on the whole prefix of real tokens, and on nothing else."""
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    logits = np.zeros((*ids.shape, 10), dtype=np.float32)
    for row, (tokens, real) in enumerate(zip(ids, mask, strict=True)):
        for place in range(int(real.sum())):
            seed = [int(token) for token in tokens[: place + 1]]
            logits[row, place] = np.random.default_rng(seed).normal(size=10)
            logits[row, place, EOS] = -10
    return {"logits": logits}


def test_greedy() -> None:
    assert run([[1], [3, 4]], max_new_tokens=3) == [Generated((2, 3, 4), "length"), Generated((5, 6, 7), "length")]


def test_the_end_of_text_ends_a_row_and_not_the_others() -> None:
    found = run([[7], [1], [8]], max_new_tokens=4)
    assert found == [Generated((8,), "eos"), Generated((2, 3, 4, 5), "length"), Generated((), "eos")]


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"repetition_penalty": 1.5}])
def test_logits_that_are_no_numbers_end_a_generation(options: dict[str, Any]) -> None:
    def broken(inputs: dict[str, Array]) -> dict[str, Array]:
        logits = model(inputs)["logits"]
        # From the second token of the second row on.
        logits[1, 2:, 4] = np.nan
        return {"logits": logits}

    with pytest.raises(ZooError, match="NaN"):
        run([[1, 2], [3, 4]], broken, max_new_tokens=3, **options)


def test_the_most_probable_token_of_each_row() -> None:
    logits = np.array([[0.5, 2.0, 1.0], [3.0, np.nan, 4.0], [7.0, 7.0, -np.inf]], dtype=np.float32)
    assert most_probable(logits).tolist() == [1, -1, 0]


def test_no_prompts_and_an_empty_prompt() -> None:
    assert run([]) == []
    with pytest.raises(InputError, match="no tokens"):
        run([[1], []])


def test_stop_texts() -> None:
    (found,) = run([[1]], max_new_tokens=7, stop=["de"])
    assert found == Generated((2, 3, 4, 5), "stop")
    assert cut_at_stop(text_of(np.array(found.tokens)), ("de",)) == "bc"
    assert run([[1]], max_new_tokens=2, stop="zz")[0].finish_reason == "length"


def test_cut_at_the_first_stop_of_all() -> None:
    assert cut_at_stop("one two three", ("three", "two")) == "one "
    assert cut_at_stop("one", ("x",)) == "one"
    assert cut_at_stop("one", ()) == "one"


def pieces(prompt: list[int], decode: Any = text_of, **options: Any) -> list[str]:
    made = stream(np.array(prompt), RerunStepper(model, PAD), GenerateOptions(**options), eos_id=EOS, decode=decode)
    return list(made)


def test_a_stream_gives_a_piece_a_token() -> None:
    assert pieces([1], max_new_tokens=3) == ["b", "c", "d"]
    assert pieces([7], max_new_tokens=3) == ["h"]
    assert pieces([8], max_new_tokens=3) == []


def test_a_stream_holds_back_what_may_be_a_stop_text() -> None:
    assert pieces([1], max_new_tokens=5, stop="de") == ["b", "c"]
    assert pieces([1], max_new_tokens=5, stop="dx") == ["b", "c", "de", "f"]
    assert pieces([1], max_new_tokens=3, stop="dx") == ["b", "c", "d"]
    assert settled("one tw", ("two", "wo")) == "one "
    assert settled("one", ()) == "one"


def test_a_stream_holds_back_half_a_character() -> None:
    # Three tokens a character, as bytes.
    def decode(ids: Array) -> str:
        return bytes("中文!", "utf8")[: len(ids)].decode(errors="replace")

    assert pieces([1], decode, max_new_tokens=7) == ["中", "文", "!"]
    assert pieces([1], decode, max_new_tokens=5) == ["中", "\ufffd"]


def test_finished_rows_are_dropped() -> None:
    sizes: list[int] = []

    def counting(inputs: dict[str, Array]) -> dict[str, Array]:
        sizes.append(len(inputs["input_ids"]))
        return model(inputs)

    run([[7], [1], [6]], forward=counting, max_new_tokens=4)
    assert sizes == [3, 3, 2, 1]


@pytest.mark.parametrize("options", [{}, {"do_sample": True, "seed": 3}, {"do_sample": True, "top_k": 0, "top_p": 0.8}])
def test_a_row_does_not_depend_on_its_batch(options: dict[str, Any]) -> None:
    prompts = [[1], [2, 3, 4], [5, 6]]
    together = run(prompts, forward=random_model, max_new_tokens=6, **options)
    alone = [run([prompt], forward=random_model, max_new_tokens=6, **options)[0] for prompt in prompts]
    assert together == alone


def test_seed() -> None:
    def drawn(seed: int) -> Generated:
        return run([[1, 2]], forward=random_model, max_new_tokens=8, do_sample=True, seed=seed)[0]

    assert drawn(0) == drawn(0)
    assert len({drawn(seed).tokens for seed in range(8)}) > 4


def draws(logits: Any, n: int = 4000, seen: Any = (), **options: Any) -> Array:
    rng = np.random.default_rng(0)
    chosen = GenerateOptions(do_sample=True, **options)
    scores = np.array(logits, dtype=np.float32)
    counts = np.bincount(
        [next_token(scores, np.array(seen, dtype=np.int64), chosen, rng) for _ in range(n)], minlength=len(scores)
    )
    return counts / n


def test_sampling_follows_the_probabilities() -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert draws(logits, top_k=0) == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.03)
    squared = np.array([0.01, 0.04, 0.09, 0.16]) / 0.3
    assert draws(logits, top_k=0, temperature=0.5) == pytest.approx(squared, abs=0.03)


def test_top_k() -> None:
    assert draws(np.log([0.1, 0.2, 0.3, 0.4]), top_k=2) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.03)


def test_top_p_keeps_the_fewest_that_reach_it() -> None:
    logits = np.log([0.1, 0.2, 0.3, 0.4])
    assert draws(logits, top_p=0.69) == pytest.approx([0, 0, 3 / 7, 4 / 7], abs=0.03)
    assert draws(logits, top_p=0.75) == pytest.approx([0, 2 / 9, 3 / 9, 4 / 9], abs=0.03)
    assert draws(logits, top_p=0.01)[3] == 1.0


def test_repetition_penalty() -> None:
    options = GenerateOptions(repetition_penalty=2.0)
    rng = np.random.default_rng(0)
    assert next_token(np.array([4.0, 3.0]), np.array([0, 0]), options, rng) == 1
    assert next_token(np.array([-1.0, -1.5]), np.array([0]), options, rng) == 1
    assert next_token(np.array([4.0, 3.0]), np.array([], dtype=np.int64), options, rng) == 0


def test_the_same_candidates_as_transformers() -> None:
    torch = pytest.importorskip("torch")
    logits_process = pytest.importorskip("transformers.generation.logits_process")
    from zoo.tasks.generation import _candidates, _penalised

    torch.manual_seed(0)
    seen = torch.tensor([[1, 5, 5, 30]])
    for temperature, top_k, top_p, penalty in ((0.7, 10, 0.9, 1.3), (1.5, 0, 0.5, 0.8), (1.0, 5, 1.0, 1.0)):
        logits = torch.randn(1, 50) * 3
        processed = logits_process.RepetitionPenaltyLogitsProcessor(penalty)(seen, logits.clone())
        warpers = [logits_process.TemperatureLogitsWarper(temperature)]
        warpers += [logits_process.TopKLogitsWarper(top_k)] if top_k else []
        warpers += [logits_process.TopPLogitsWarper(top_p)] if top_p < 1 else []
        for warper in warpers:
            processed = warper(seen, processed)
        expected = processed.softmax(-1)[0].numpy()
        scores = _penalised(logits[0].numpy().astype(np.float64), seen[0].numpy(), penalty) / temperature
        ids, probabilities = _candidates(scores, GenerateOptions(top_k=top_k, top_p=top_p))
        found = np.zeros(50)
        found[ids] = probabilities
        assert found == pytest.approx(expected, abs=1e-6)


def test_logits_that_are_not_numbers() -> None:
    with pytest.raises(ZooError, match="NaN"):
        next_token(np.array([np.nan, 1.0]), np.array([0]), GenerateOptions(), np.random.default_rng(0))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_new_tokens", 0),
        ("max_new_tokens", 1.5),
        ("max_new_tokens", True),
        ("do_sample", "yes"),
        ("temperature", 0),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0),
        ("top_p", 1.1),
        ("repetition_penalty", 0),
        ("seed", -1),
        ("stop", ("",)),
        ("stop", (1,)),
    ],
)
def test_options_are_checked(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=name):
        GenerateOptions(**{name: value})


def test_one_stop_text_may_be_given_bare() -> None:
    assert GenerateOptions(stop="end").stop == ("end",)  # type: ignore[arg-type]
    assert GenerateOptions(stop=["a", "b"]).stop == ("a", "b")  # type: ignore[arg-type]
    assert GenerateOptions(stop=None).stop == ()  # type: ignore[arg-type]
