"""Whisper as a task: prompts, languages, teaching, options, what is no speech."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError
from zoo.modalities.target_text import TargetText
from zoo.tasks import get
from zoo.tasks.languages import _CODES, LANGUAGES
from zoo.tasks.speech_recognition import SpeechRecognition
from zoo.tasks.speech_seq2seq import SpeechSeq2Seq
from zoo.tasks.timestamps import TimestampRule, stretches
from zoo.tasks.whisper import read_tokens, suppressed

ASR = "automatic-speech-recognition"


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return tiny_model("whisper-tiny")


@pytest.fixture(scope="module")
def english() -> zoo.Model:
    return tiny_model("whisper-tiny.en")


def sound(seconds: float = 0.5) -> tuple[Any, int]:
    return np.random.default_rng(0).normal(0, 0.1, round(16_000 * seconds)).astype(np.float32), 16_000


def test_one_task_has_two_kinds() -> None:
    assert get(ASR) is SpeechRecognition
    assert get(ASR, zoo.info("wav2vec2-base-960h")) is SpeechRecognition
    assert get(ASR, zoo.info("whisper-tiny")) is SpeechSeq2Seq


def test_languages_are_upstream_s() -> None:
    from transformers.models.whisper import tokenization_whisper as upstream

    assert list(LANGUAGES.items()) == list(upstream.LANGUAGES.items())
    assert _CODES == upstream.TO_LANGUAGE_CODE


def test_what_is_taught_begins_with_language_and_task(model: zoo.Model) -> None:
    tokens = read_tokens(model.spec, model.encoder.target)  # type: ignore[attr-defined]
    (window,) = model.task.examples(model.encoder, sound(), "Hi")
    prompt = [tokens.start, tokens.languages["en"], tokens.tasks["transcribe"], tokens.no_timestamps]
    labels = window.targets["labels"].tolist()
    assert labels == [*prompt[1:], *b" Hi", tokens.end]
    assert window.inputs["decoder_input_ids"].tolist() == [prompt[0], *labels[:-1]]
    assert window.source.prompt == len(prompt)
    assert model.encoder.target.text(labels) == "Hi"  # type: ignore[attr-defined]


def test_english_alone_has_no_language(english: zoo.Model) -> None:
    tokens = read_tokens(english.spec, english.encoder.target)  # type: ignore[attr-defined]
    (window,) = english.task.examples(english.encoder, sound(), "Hi")
    assert window.targets["labels"].tolist() == [tokens.no_timestamps, *b" Hi", tokens.end]
    assert english.predict(sound(), max_new_tokens=3).language is None
    with pytest.raises(ConfigError, match="English alone"):
        english.predict(sound(), language="de")
    with pytest.raises(ConfigError, match="English alone"):
        english.predict(sound(), task="translate")


def test_training_must_know_the_language() -> None:
    spec = tiny(zoo.info("whisper-tiny"))
    decoder = {**spec.decoder.to_dict(), "source_language": None}  # type: ignore[union-attr]
    model = zoo.load(spec.evolve(decoder=decoder), weights=None, device="cpu")
    with pytest.raises(ConfigError, match="source_language"):
        model.task.examples(model.encoder, sound(), "a")
    told = zoo.load(spec.evolve(decoder=decoder), weights=None, device="cpu", decoder={"source_language": "german"})
    assert told.predict(sound(), max_new_tokens=2).language == "de"
    with pytest.raises(ConfigError, match="for models that write"):
        zoo.load("wav2vec2-base-960h", weights=None, decoder={"source_language": "de"})


@pytest.mark.parametrize(
    "options",
    [{"language": "klingon"}, {"language": 3}, {"task": "sing"}, {"return_timestamps": "char"}, {"prompt": 3},
     {"no_speech_threshold": "high"}, {"max_new_tokens": 1000}, {"condition_on_prev_tokens": "yes"}, {"lang": "de"}],
)  # fmt: skip
def test_options_out_of_range_are_refused(model: zoo.Model, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        model.predict(sound(), **options)


def test_a_language_is_suggested(model: zoo.Model) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'german'"):
        model.predict(sound(), language="germam")


def test_long_recordings_are_measured_by_their_text_and_not_trained_on(model: zoo.Model) -> None:
    with pytest.raises(DataError, match=r"3\.0 s long, and training takes up to 2 s"):
        model.task.check(48_000, "a")  # type: ignore[attr-defined]
    report = model.evaluate([(sound(3.0), "a b"), (sound(0.5), "c")], generation={"max_new_tokens": 4})
    assert report.rows == 2
    assert {"wer", "cer", "perplexity", "loss", "token_accuracy"} <= set(report.metrics)
    alone = model.evaluate([(sound(0.5), "c")], predict_with_generate=False)
    assert report.metrics["loss"] == pytest.approx(alone.metrics["loss"])
    assert "wer" not in alone.metrics
    assert model.task.judged_by(alone.metrics) == ("perplexity", False)


def test_truncation_hears_the_first_window(model: zoo.Model) -> None:
    wave, rate = sound(3.0)
    options = {"max_new_tokens": 5, "return_timestamps": True}
    cut = model.predict((wave, rate), truncation=True, **options)
    assert all(part.start <= 2.0 for part in cut.segments)


@pytest.mark.parametrize("score", [0.0, 2.0])
def test_timestamps_are_upstream_s_rule(score: float) -> None:
    import torch
    from transformers import GenerationConfig
    from transformers.generation.logits_process import WhisperTimeStampLogitsProcessor

    begin, end, size = 20, 10, 40
    config = GenerationConfig(no_timestamps_token_id=begin - 1, eos_token_id=end, max_initial_timestamp_index=3)
    theirs = WhisperTimeStampLogitsProcessor(config, begin_index=2)
    rule = TimestampRule(begin, end, 3)
    rng = np.random.default_rng(0)
    for _ in range(60):
        written = rng.integers(0, size, rng.integers(0, 6))
        scores = rng.normal(0, 1 + score, size).astype(np.float32)
        ids = torch.from_numpy(np.concatenate([[1, 2], written]))[None]
        expected = theirs(ids, torch.from_numpy(scores)[None])[0].numpy()
        np.testing.assert_array_equal(rule(scores, written), expected)


@pytest.mark.parametrize(
    ("tokens", "found", "done"),
    [
        ([100, 1, 2, 110, 110, 3, 115], [(1.0, 1.2), (1.2, 1.3)], 100),  # ends with one timestamp: nothing follows
        ([100, 1, 110, 112, 3, 115, 115], [(1.0, 1.2), (1.24, 1.3)], 30),
        ([100, 1, 110, 112, 3, 4], [(1.0, 1.2)], 20),  # an unfinished stretch is heard again
        ([100, 1, 2, 3], [(1.0, 2.0)], 100),
        ([100, 1, 104], [(1.0, 1.08)], 100),
        ([], [(1.0, 2.0)], 100),
    ],
)
def test_stretches(tokens: list[int], found: list[tuple[float, float]], done: int) -> None:
    parts, frames = stretches(tokens, 100, 100, 100)
    assert [(round(part.start, 6), round(part.end, 6)) for part in parts] == found
    assert frames == done


def test_what_is_no_speech_comes_of_the_tokenizer(model: zoo.Model) -> None:
    """A tokenizer in which some symbols are tokens of their own, as in Whisper's."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("\u0120", "("), ("\u0120", "-"), ("\u0120", "'"), ("\u00e2", "\u013b")]
    vocabulary = [*letters, *("".join(pair) for pair in merges)]
    made = Tokenizer(models.BPE(vocab={name: i for i, name in enumerate(vocabulary)}, merges=merges))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(["<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>",
                             "<|startoflm|>", "<|startofprev|>", "<|nocaptions|>", "<|notimestamps|>"])  # fmt: skip
    writing = TargetText(made)
    spec = zoo.info("whisper-tiny.en").evolve(config={})
    tokens = read_tokens(spec, writing)
    found = suppressed(tokens, writing)
    names = {made.id_to_token(token) for token in found["suppress_tokens"]}
    assert {"(", "\u0120(", "\u0120-", "\u0120'", "#", "\u00e2\u013b", "<|nocaptions|>", "<|startofprev|>"} <= names
    assert not {"a", "-", "'", "<|endoftext|>", "<|notimestamps|>"} & names
    assert found["begin_suppress_tokens"] == (made.token_to_id("\u0120"), tokens.end)


def test_a_folder_of_transformers_is_read(model: zoo.Model, tmp_path: Path) -> None:
    import transformers

    from zoo.modalities.tokenizing import save_tokenizer

    net = model.module.net
    net.generation_config = transformers.GenerationConfig(suppress_tokens=[300], max_initial_timestamp_index=7)
    net.generation_config.is_multilingual = True
    net.save_pretrained(tmp_path)
    save_tokenizer(model.encoder.target.tokenizer, tmp_path)  # type: ignore[attr-defined]
    again = zoo.load(tmp_path, device="cpu")
    assert again.task.name == ASR
    assert again.spec.input == model.spec.input
    decoder = again.spec.decoder
    assert decoder is not None
    assert decoder.multilingual
    assert decoder.generation["suppress_tokens"] == [300]
    assert decoder.generation["max_initial_timestamp_index"] == 7
    never = list(range(256, 365))
    options = {"language": "en", "suppress_tokens": never, "max_new_tokens": 6}
    assert again.predict(sound(), **options).tokens == model.predict(sound(), **options).tokens
