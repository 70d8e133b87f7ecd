"""Texts one after another in full windows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zoo
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.spec import TextInput
from zoo.tasks.base import IGNORE

TEXTS = ["one two three", "四五六", "a" * 41, "", "the end of it"]


def fail(number: int, error: DataError) -> None:
    raise error


@pytest.mark.parametrize("style", ["gpt", "bert"])
def test_no_token_is_lost_and_every_window_but_the_last_is_full(style: Any) -> None:
    encoder = TextEncoder(TextInput(max_length=16), byte_tokenizer(style=style))
    around = 2 if style == "bert" else 0
    end = 2 if style == "bert" else 256
    windows = encoder.pack(enumerate(TEXTS), fail)
    assert {window.length for window in windows[:-1]} == {16}
    stream = np.concatenate([w.inputs["input_ids"][around // 2 : w.length - around // 2] for w in windows])
    expected: list[int] = []
    for text in TEXTS:
        expected += [*encoder.tokenizer.encode(text, add_special_tokens=False).ids, end]
    assert stream.tolist() == expected
    assert [window.row for window in windows] == sorted(window.row for window in windows)


def test_a_text_that_fills_a_window_is_trained_on_as_by_itself() -> None:
    """Sixteen tokens a window: fifteen letters and the end, alone or packed, are the same batch."""
    losses = []
    for packing, texts in (
        (True, ["a" * 15, "bc" * 7 + "d"]),
        (False, ["a" * 15 + "<|endoftext|>", "bc" * 7 + "d<|endoftext|>"]),
    ):
        spec = tiny(zoo.info("gpt2"))
        spec = spec.evolve(input={**spec.input.to_dict(), "max_length": 16})
        model = zoo.load(spec, weights=None, device="cpu", seed=0)
        rows = [{"text": text} for text in texts]
        model.finetune(rows, val=None, max_steps=1, batch_size=2, packing=packing, progress=False)
        losses.append(model.history[-1]["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_hidden_words_of_packed_texts_are_never_separators() -> None:
    spec = tiny(zoo.info("bert-base-cased"))
    model = zoo.load(spec, task="fill-mask", weights=None, device="cpu", seed=0)
    encoder: Any = model.encoder
    windows = encoder.pack(enumerate(TEXTS * 4), fail)
    for example in model.task.attach(model.task.prepare(encoder, windows), None):
        hidden = example.targets["labels"]
        assert not np.isin(hidden[hidden != IGNORE], encoder.special_ids).any()
    model.finetune([{"text": text} for text in TEXTS * 4 if text], val=None, max_steps=2, packing=True, progress=False)
    assert np.isfinite(model.history[-1]["train_loss"])


def test_rows_with_labels_are_not_packed() -> None:
    model = zoo.load(tiny(zoo.info("bert-base-cased")), weights=None, device="cpu", seed=0)
    rows = [{"text": "good", "label": "a"}, {"text": "bad", "label": "b"}] * 3
    with pytest.raises(ConfigError, match="packing goes with plain texts"):
        model.finetune(rows, val=None, packing=True, max_steps=1, progress=False)
