"""Pairs of texts: the tokenizer's own template, types, offsets in each text, and windows of what is too long."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import processors

from zoo.errors import InputError
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.modalities.tokenizing import read_tokenizer
from zoo.spec import TextInput

PAIRS = [("Who wrote it?", "Ada Lovelace did, in 1843."), ("我爱北京", "北京 is a city 🎉"), ("", "b")]


def encoder(max_length: int = 64, **options: Any) -> TextEncoder:
    return TextEncoder(TextInput(max_length=max_length, token_types=True, **options), byte_tokenizer(style="bert"))


def raw(first: Any, second: Any) -> dict[str, Any]:
    return {"text": first, "text_pair": second}


@pytest.mark.parametrize("pair", PAIRS)
def test_equals_transformers(pair: tuple[str, str], minilm_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm_folder), trust_remote_code=False)
    expected = reference(*pair, return_offsets_mapping=True, return_token_type_ids=True)
    own = TextEncoder(TextInput(max_length=512, token_types=True), read_tokenizer(minilm_folder))
    (window,) = own.encode(raw(*pair))
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert window.inputs[name].dtype == np.int64
        assert window.inputs[name].tolist() == expected[name]
    assert window.source.offsets.tolist() == [list(place) for place in expected["offset_mapping"]]
    assert [None if n < 0 else n for n in window.source.segments.tolist()] == expected.sequence_ids()


def test_windows_over_the_second_text_equal_transformers(minilm_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm_folder), trust_remote_code=False)
    question, context = "who met whom", "One day Ada met Charles in the garden of a friend. " * 6
    expected = reference(
        question, context, max_length=24, truncation="only_second", stride=4, return_overflowing_tokens=True,
        return_offsets_mapping=True, padding=True, return_tensors="np",
    )  # fmt: skip
    own = TextEncoder(TextInput(max_length=24, token_types=True), read_tokenizer(minilm_folder))
    # 24 less 3 special tokens and 3 of the question leave 18, of which 4 are a share of 0.25.
    windows = own.encode_pair(question, context, overlap=0.25, over="second")
    batch = own.collate(windows)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        assert (batch[name] == expected[name]).all(), name
    for window, offsets in zip(windows, expected["offset_mapping"].tolist(), strict=True):
        assert window.source.offsets.tolist() == offsets[: window.length]


def test_a_single_text_has_types_of_zero() -> None:
    (window,) = encoder().encode("abc")
    assert window.inputs["token_type_ids"].tolist() == [0] * 5
    assert window.source.segments is None
    (same,) = encoder().encode({"text": "abc"})
    assert same.inputs["input_ids"].tolist() == window.inputs["input_ids"].tolist()
    plain = TextEncoder(TextInput(max_length=64), byte_tokenizer(style="bert"))
    assert set(plain.encode(raw("a", "b"))[0].inputs) == {"input_ids", "attention_mask"}
    assert "token_type_ids" not in plain.ragged
    assert "token_type_ids" in encoder().ragged


def test_offsets_and_words_are_of_each_text() -> None:
    (window,) = encoder().encode(raw("né here", ["New", "York"]))
    source = window.source
    texts = (source.text, source.pair)
    assert texts == ("né here", "New York")
    for number, expected in enumerate(("néhere", "NewYork")):
        places = source.offsets[source.segments == number]
        assert "".join(dict.fromkeys(texts[number][a:b] for a, b in places.tolist() if b - a)) in (
            expected, "".join(dict.fromkeys(expected)),
        )  # fmt: skip
    assert len(source.word_spans) == 4
    assert source.words.max() == 3
    assert source.words[source.segments == 1].min() == 2


def test_the_longer_text_is_gone_through_in_windows() -> None:
    own = encoder(23)  # 20 beside the special tokens
    windows = own.encode(raw("x" * 35, "abcde"))
    assert [w.length for w in windows] == [23, 23, 13]
    assert all("abcde" in own.decode(w.inputs["input_ids"]) for w in windows)
    windows = own.encode(raw("abcde", "x" * 35))
    assert len(windows) == 3
    # Both are longer than half of what there is: the first is cut to its half.
    windows = own.encode(raw("y" * 30, "x" * 31))
    assert [(w.source.segments == 0).sum() for w in windows] == [10] * 4
    assert sum(int((w.source.segments == 1).sum()) for w in windows) == 31
    # Where both together fit, nothing is cut.
    assert len(own.encode(raw("y" * 12, "x" * 8))) == 1


def test_left_padding_and_special_tokens_of_roberta() -> None:
    tokenizer = byte_tokenizer(style="gpt")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    first, last = (tokenizer.token_to_id(token) for token in ("<s>", "</s>"))
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", last), ("<s>", first))
    roberta = TextEncoder(TextInput(max_length=32), tokenizer)
    (window,) = roberta.encode(raw("a", "b"))
    a, b = (int(roberta.encode(text)[0].inputs["input_ids"][1]) for text in "ab")
    assert window.inputs["input_ids"].tolist() == [first, a, last, last, b, last]
    assert window.source.segments.tolist() == [-1, 0, -1, -1, 1, -1]
    own = encoder(padding_side="left")
    batch = own.collate([own.encode(raw("a", "b"))[0], own.encode("abc")[0], own.encode(raw("ab", "cde"))[0]])
    assert {array.shape for array in batch.values()} == {(3, 8)}
    assert batch["token_type_ids"][0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1]


def test_an_encoder_can_be_pickled_after_its_first_pair() -> None:
    own = encoder()
    expected = own.encode(raw("a", "b"))[0].inputs
    again = pickle.loads(pickle.dumps(own)).encode(raw("a", "b"))[0].inputs
    assert {name: array.tolist() for name, array in again.items()} == {n: a.tolist() for n, a in expected.items()}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "A dict with nothing came"),
        ({"text_pair": "b"}, "A dict with 'text_pair' came"),
        ({"text": "a", "pair": "b"}, r"'text', 'pair' came.*text_pair"),
        (raw("a", None), "Leave text_pair out"),
        (raw("a", 5), "5 came"),
        (raw(None, "a"), "None came"),
    ],
)
def test_what_is_no_pair(given: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        encoder().encode(given)
    assert isinstance(encoder().describe(given), str)


def test_a_first_text_that_leaves_no_room() -> None:
    with pytest.raises(InputError, match="has 40 tokens, and the model sees 20"):
        encoder(23).encode_pair("q" * 40, "context", over="second")
    with pytest.raises(InputError, match="no room for a pair"):
        encoder(4).encode(raw("a", "b"))
