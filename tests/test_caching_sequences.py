"""Encoder-decoder models exported with a cache: beams change places in it, and write what `generate` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.test_caching import PROMPTS, Pair, drained, outspoken
from zoo import bundle as folders
from zoo import parity
from zoo.backends.transformers.seq2seq import Seq2SeqModule
from zoo.errors import ConfigError, ParityError
from zoo.modalities.base import pad
from zoo.runtime.caching import select_rows
from zoo.runtime.caching_sequences import CachedSequences, CachedSequenceSession
from zoo.runtime.sequences import GraphSequences

# Every option that the model's own configuration could set otherwise.
GREEDY: dict[str, Any] = {
    "num_beams": 1, "length_penalty": 1.0, "early_stopping": False, "no_repeat_ngram_size": 0, "min_new_tokens": 0,
    "max_new_tokens": 12,
}  # fmt: skip
BEAMS = {**GREEDY, "num_beams": 4, "length_penalty": 2.0, "no_repeat_ngram_size": 2, "min_new_tokens": 5}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    model = outspoken("t5-small", None)
    return model, model.export(tmp_path_factory.mktemp("bundles") / "a.bundle")


@pytest.mark.parametrize("options", [GREEDY, BEAMS])
def test_tokens_are_those_of_generate_over_ragged_texts(pair: Pair, options: dict[str, Any]) -> None:
    import torch
    import transformers

    model, bundle = pair
    net: Any = model.module.net
    rows = [np.asarray(model.task.encode(model.encoder, text)[0].inputs["input_ids"]) for text in PROMPTS]
    end, start = net.config.eos_token_id, net.config.decoder_start_token_id
    net.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start, eos_token_id=end, pad_token_id=0
    )
    made = net.generate(
        input_ids=torch.from_numpy(pad(rows, 0)),
        attention_mask=torch.from_numpy(pad([np.ones_like(row) for row in rows], 0)),
        **options,
    )[:, 1:].tolist()
    expected = [tuple(row[: row.index(end)] if end in row else row[:12]) for row in made]
    found = [one.tokens for one in bundle.predict(PROMPTS, batch_size=len(PROMPTS), **options)]
    assert found == expected
    assert len(set(found)) > 1, "the test would not see a text that is lost"


def test_each_token_is_read_once_and_the_input_is_seen_once(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = pair
    session = bundle.session
    assert isinstance(session, CachedSequenceSession)
    runs: dict[str, list[Any]] = {"encoder": [], "decoder": [], "select": []}
    for name, seen in runs.items():
        part = getattr(session, name)
        real = part.run_held

        def spied(inputs: Any, held: Any, real: Any = real, seen: list[Any] = seen) -> Any:
            seen.append((inputs, held))
            return real(inputs, held)

        monkeypatch.setattr(part, "run_held", spied)
    bundle.predict(PROMPTS[0], **BEAMS)
    assert len(runs["encoder"]) == 1
    assert {inputs["decoder_input_ids"].shape[1] for inputs, _ in runs["decoder"]} == {1}
    crossing = [held["selected"] for _, held in runs["select"] if held["selected"].startswith("cross.")]
    # One input's beams change places and see the same.
    assert sorted(crossing) == sorted(session.crossing)
    assert len(runs["select"]) > len(crossing)


def test_weights_stand_once_in_the_bundle(pair: Pair) -> None:
    model, bundle = pair
    weights = sum(p.numel() * p.element_size() for p in model.module.parameters())
    # Each on a page of its own.
    pages = 4096 * sum(1 for _ in model.module.parameters())
    assert 0.9 * weights < (bundle.folder / folders.SHARED).stat().st_size < weights + pages
    assert bundle.card.format == folders.CACHED_FORMAT


def test_beams_that_keep_their_places_are_caught_by_the_gate(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    model, bundle = pair
    parity.compare(model, bundle)

    def sorted_rows(select: Any, cache: Any, rows: Any) -> Any:
        return select_rows(select, cache, np.sort(rows))

    monkeypatch.setattr("zoo.runtime.caching_sequences.select_rows", sorted_rows)
    with pytest.raises(ParityError):
        parity.compare(model, bundle)


def test_a_decoder_without_a_cache_is_read_and_answers_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What earlier versions wrote."""
    monkeypatch.setattr(Seq2SeqModule, "caches", False)
    model = outspoken("t5-small", None)
    model.export(tmp_path / "a.bundle")
    bundle = zoo.runtime.load(tmp_path / "a.bundle")
    assert bundle.card.format == folders.FORMAT
    assert isinstance(bundle.sequence_stepper(), GraphSequences)
    ours, theirs = (each.predict(PROMPTS, max_new_tokens=6, num_beams=2) for each in (bundle, model))
    assert [one.tokens for one in ours] == [one.tokens for one in theirs]


def test_a_stepper_can_begin_again(pair: Pair) -> None:
    _, bundle = pair
    assert isinstance(bundle.session, CachedSequenceSession)
    inputs = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), dtype=np.int64)}
    stepper = CachedSequences(bundle.session)
    first = stepper.start(inputs, np.array([[0]]))
    stepper.advance(first.argmax(axis=1))
    np.testing.assert_array_equal(stepper.start(inputs, np.array([[0]])), first)


@pytest.mark.parametrize("options", [GREEDY, {**GREEDY, "do_sample": True, "temperature": 3.0, "seed": 2}])
def test_a_stream_is_the_prediction_in_pieces(pair: Pair, options: dict[str, Any]) -> None:
    for model in pair:
        for text in PROMPTS[:2]:
            whole = model.predict(text, **options)
            pieces, result = drained(model.stream(text, **options))
            assert "".join(pieces) == whole.text
            assert result == whole


def test_the_first_piece_comes_before_the_last_token(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    _, bundle = pair
    runs: list[int] = []
    real = CachedSequences.advance
    monkeypatch.setattr(CachedSequences, "advance", lambda self, tokens: runs.append(1) or real(self, tokens))
    stream = bundle.stream("Once upon", **{**GREEDY, "do_sample": True, "temperature": 3.0, "max_new_tokens": 23})
    next(stream)
    assert len(runs) < 12


def test_beams_are_not_streamed(pair: Pair) -> None:
    with pytest.raises(ConfigError, match=r"num_beams is 4.*Stream with num_beams=1"):
        pair[1].stream("Once", num_beams=4)


@pytest.mark.parametrize(
    ("seconds", "options"),
    [(2, {}), (2, {"return_timestamps": True}), (2, {"no_speech_threshold": 0.0, "logprob_threshold": 0.0}), (33, {})],
)
def test_what_is_heard_is_streamed(whisper: Pair, seconds: int, options: dict[str, Any]) -> None:
    """Token by token, or window by window where a window's end is heard again, or may be left out."""
    sound = {"array": np.random.default_rng(0).normal(0, 0.1, 16000 * seconds), "sampling_rate": 16000}
    settings = {**options, "language": "en", "max_new_tokens": 9, "num_beams": 1}
    for model in whisper:
        whole = model.predict(sound, **settings)
        pieces, result = drained(model.stream(sound, **settings))
        assert "".join(pieces) == whole.text
        assert result == whole
        if not options and seconds == 2:
            assert len(pieces) > 1


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    model = outspoken("whisper-tiny", "automatic-speech-recognition")
    return model, model.export(tmp_path_factory.mktemp("bundles") / "whisper.bundle")
