"""Whisper's writing, against transformers' own `generate`: prompts, timestamps, beams, recordings of any length."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import zoo
from tests.tiny import tiny
from zoo.modalities.base import Array
from zoo.tasks.whisper import read_tokens

RATE = 16_000
# Random weights repeat one token and hardly hear; these make them listen.
FACTORS = {"decoder.embed_positions": 20.0, "encoder_attn": 30.0, ".fc": 5.0, "conv": 8.0}


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    """Two seconds at once, and answers that depend on what was heard."""
    spec = tiny(zoo.info("whisper-tiny"))
    assert spec.decoder is not None
    spec = spec.evolve(decoder={**spec.decoder.to_dict(), "source_language": None, "max_length": 64},
                       config={**spec.config, "max_target_positions": 64})  # fmt: skip
    made = zoo.load(spec, weights=None, device="cpu", seed=1)
    with torch.no_grad():
        for name, parameter in made.module.net.named_parameters():
            for part, factor in FACTORS.items():
                if part in name and parameter.dim() > 1:
                    parameter.mul_(factor)
    made.module.net.generation_config = generation_config(made)
    return made


def generation_config(model: zoo.Model) -> transformers.GenerationConfig:
    tokens = read_tokens(model.spec, model.encoder.target)  # type: ignore[attr-defined]
    assert model.spec.decoder is not None
    own = model.spec.decoder.generation
    return transformers.GenerationConfig(
        max_length=64,
        eos_token_id=tokens.end,
        pad_token_id=tokens.end,
        decoder_start_token_id=tokens.start,
        no_timestamps_token_id=tokens.no_timestamps,
        prev_sot_token_id=tokens.previous,
        is_multilingual=True,
        lang_to_id={f"<|{code}|>": token for code, token in tokens.languages.items()},
        task_to_id=dict(tokens.tasks),
        suppress_tokens=list(own["suppress_tokens"]),
        begin_suppress_tokens=list(own["begin_suppress_tokens"]),
        max_initial_timestamp_index=own["max_initial_timestamp_index"],
    )


def sounds(*seconds: float) -> list[tuple[Array, int]]:
    rng = np.random.default_rng(7)
    found = []
    for length in seconds:
        t = np.arange(round(length * RATE)) / RATE
        wave = np.sin(2 * np.pi * (150 + 300 * rng.random()) * t * (1 + t)) * rng.random() + rng.normal(
            0, 0.02, t.shape
        )
        found.append((0.5 * wave.astype(np.float32), RATE))
    return found


def features(model: zoo.Model, raws: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What upstream's `generate` takes: `[B, 80, F]` and the frames' mask `[B, F]`."""
    arrays = [model.encoder.recording(raw).inputs["input_features"] for raw in raws]  # type: ignore[attr-defined]
    longest = max(array.shape[1] for array in arrays)
    padded = [np.pad(array, ((0, 0), (0, longest - array.shape[1]))) for array in arrays]
    mask = np.stack([np.arange(longest) < array.shape[1] for array in arrays]).astype(np.int64)
    return torch.from_numpy(np.stack(padded)), torch.from_numpy(mask)


def theirs(model: zoo.Model, raws: Any, **options: Any) -> list[tuple[int, ...]]:
    """What upstream writes, without prompt, end and padding."""
    inputs, mask = features(model, raws)
    if options.get("language") is None:
        # A language that was heard is followed by no task unless one is said; the checkpoints themselves say it.
        options = {"task": "transcribe", **options}
    end = model.module.net.generation_config.eos_token_id  # type: ignore[union-attr]
    with torch.no_grad():
        found = model.module.net.generate(input_features=inputs, attention_mask=mask, **options)  # type: ignore[operator]
    return [tuple(token for token in row.tolist() if token != end) for row in found]


OPTIONS: list[dict[str, Any]] = [
    {"language": "de"},
    {},
    {"language": "french", "task": "translate", "max_new_tokens": 9},
    {"num_beams": 3, "max_new_tokens": 12},
    {"num_beams": 2, "language": "en", "max_new_tokens": 12, "no_repeat_ngram_size": 2},
]


def untimed(model: zoo.Model) -> list[int]:
    """What may not come where no times are wanted: at random weights upstream would go on from a stray timestamp."""
    return list(range(257, model.spec.config["vocab_size"]))


@pytest.mark.parametrize("given", OPTIONS, ids=str)
def test_short_recordings_together_and_alone(model: zoo.Model, given: dict[str, Any]) -> None:
    raws = sounds(0.3, 2.0, 1.1)
    given = {**given, "suppress_tokens": untimed(model)}
    ours = model.predict(raws, batch_size=3, **given)
    assert [one.tokens for one in ours] == theirs(model, raws, **given)
    assert [one.tokens for one in ours] == [model.predict(raw, **given).tokens for raw in raws]
    assert len({one.tokens for one in ours}) > 1, "every recording gives the same: nothing is compared"


@pytest.mark.parametrize("given", [*OPTIONS, {"return_timestamps": True}], ids=str)
def test_long_recordings_are_heard_from_timestamp_to_timestamp(model: zoo.Model, given: dict[str, Any]) -> None:
    raws = sounds(7.0, 4.3, 5.05)
    ours = model.predict(raws, batch_size=3, **given)
    assert [one.tokens for one in ours] == theirs(model, raws, **{**given, "return_timestamps": True})
    assert [one.tokens for one in ours] == [model.predict(raw, **given).tokens for raw in raws]


def test_segments_have_upstream_s_times(model: zoo.Model) -> None:
    raws = sounds(7.0, 4.3)
    inputs, mask = features(model, raws)
    found = model.module.net.generate(  # type: ignore[operator]
        input_features=inputs, attention_mask=mask, return_timestamps=True, return_segments=True, task="transcribe"
    )
    for ours, segments in zip(model.predict(raws, return_timestamps=True), found["segments"], strict=True):
        there = [one for one in segments if text_of(model, one["tokens"].tolist())]
        assert [one.start for one in ours.segments] == pytest.approx([float(one["start"]) for one in there])
        assert [one.end for one in ours.segments] == pytest.approx([float(one["end"]) for one in there])
        assert len(there) > 1


def text_of(model: zoo.Model, tokens: list[int]) -> str:
    target = model.encoder.target  # type: ignore[attr-defined]
    begin = read_tokens(model.spec, target).timestamps
    return str(target.text([token for token in tokens if token < begin]))


def test_each_window_is_told_what_was_said_before(model: zoo.Model) -> None:
    raws = sounds(7.0, 4.3)
    told = model.predict(raws, condition_on_prev_tokens=True, language="en")
    expected = theirs(model, raws, condition_on_prev_tokens=True, language="en", return_timestamps=True)
    assert [one.tokens for one in told] == expected
    assert [one.tokens for one in told] != [one.tokens for one in model.predict(raws, language="en")]


def test_a_prompt_stands_before_what_is_heard(model: zoo.Model) -> None:
    raws = sounds(0.5, 1.4)
    target = model.encoder.target  # type: ignore[attr-defined]
    tokens = read_tokens(model.spec, target)
    ids = torch.tensor([tokens.previous, *target.ids(" Zürich")])
    options = {"language": "en", "suppress_tokens": untimed(model), "max_new_tokens": 12}
    ours = [one.tokens for one in model.predict(raws, prompt="Zürich ", **options)]
    assert ours == theirs(model, raws, prompt_ids=ids, **options)
    assert ours != [one.tokens for one in model.predict(raws, **options)]


def test_silence_is_left_out(model: zoo.Model) -> None:
    raws = sounds(7.0, 4.3, 0.4)
    everything = model.predict(raws, language="en")
    options = {"no_speech_threshold": 0.0005, "logprob_threshold": 0.0}
    ours = model.predict(raws, language="en", **options)
    expected = theirs(model, raws, language="en", return_timestamps=True, temperature=0.0, **options)
    assert [one.tokens for one in ours] == expected
    assert [one.tokens for one in ours] != [one.tokens for one in everything]


def test_the_language_is_heard(model: zoo.Model) -> None:
    raws = sounds(0.3, 2.0, 1.1, 3.0)
    inputs, _ = features(model, raws)
    ids = model.module.net.detect_language(input_features=inputs, num_segment_frames=200)  # type: ignore[operator]
    tokens = read_tokens(model.spec, model.encoder.target)  # type: ignore[attr-defined]
    codes = {token: code for code, token in tokens.languages.items()}
    assert [one.language for one in model.predict(raws)] == [codes[token] for token in ids.tolist()]
