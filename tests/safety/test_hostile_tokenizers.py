"""Tokenizers of somebody else: one SpecError in opening, or one InputError in reading a text."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.safety import tiny
from zoo import bundle
from zoo.errors import InputError, SpecError
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.tokenizing import open_tokenizer, read_tokenizer

WORDS = {"type": "WordLevel", "vocab": {"a": 0, "b": 1, "[UNK]": 2}, "unk_token": "[UNK]"}
BASE: dict[str, Any] = {
    "version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
    "pre_tokenizer": None, "post_processor": None, "decoder": None, "model": WORDS,
}  # fmt: skip


def replacing(pattern: dict[str, str], content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def template(single: list[Any], special: dict[str, Any]) -> dict[str, Any]:
    pair = [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


A = {"Sequence": {"id": "A", "type_id": 0}}
TEXTS: dict[str, str | bytes] = {
    "nothing": "",
    "an empty object": "{}",
    "a list": "[]",
    "null": "null",
    "not UTF-8": b"\xff\xfe{}",
    "half of it": json.dumps(BASE)[:80],
    "deep lists": "[" * 100_000,
    "deep mappings": '{"a":' * 100_000,
    "a pickle": b"\x80\x04cos\nsystem\n(S'touch /tmp/hacked'\ntR.",
    "NULs": bytes(1000),
}
PARTS: dict[str, dict[str, Any]] = {
    "another version": {"version": "99"},
    "a model of nobody": {"model": {"type": "Evil"}},
    "no model": {"model": None},
    "a negative id": {"model": {**WORDS, "vocab": {"a": -1}}},
    "an id beyond 32 bits": {"model": {**WORDS, "vocab": {"a": 1 << 40}}},
    "ids that are texts": {"model": {**WORDS, "vocab": {"a": "0"}}},
    "merges of unknown tokens": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}},
    "merges that are none": {"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["abc"]}},
    "an unknown token beyond the end": {"model": {"type": "Unigram", "unk_id": 5, "vocab": []}},
    "a normalizer of nobody": {"normalizer": {"type": "Evil"}},
    "a broken charsmap": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "AAAA"}},
    "a regular expression that is none": {"normalizer": replacing({"Regex": "("}, "x")},
    "a megabyte for a letter": {"normalizer": replacing({"String": "a"}, "x" * 1_000_000)},
    "a megabyte before a text": {"normalizer": {"type": "Prepend", "prepend": "x" * 1_000_000}},
    "ten for one, seven times": {
        "normalizer": {"type": "Sequence", "normalizers": [replacing({"Regex": "."}, "a" * 10)] * 7}
    },
    "a megabyte for a token": {"decoder": replacing({"String": "a"}, "x" * 1_000_000)},
    "ten thousand special tokens": {
        "post_processor": template(
            [A, {"SpecialToken": {"id": "x", "type_id": 0}}],
            {"x": {"id": "x", "ids": [1] * 10_000, "tokens": ["a"] * 10_000}},
        )
    },
    "a template without the text": {"post_processor": template([], {})},
    "no word for a letter": {"model": {**WORDS, "vocab": {}, "unk_token": "?"}},
    "no token for anything": {"model": {"type": "BPE", "vocab": {}, "merges": []}},
    "an expression without end": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": False}
    },
    "an expression of choices": {
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(a|aa)+$"}, "behavior": "Isolated", "invert": False}
    },
    "an expression that looks back": {
        "normalizer": replacing({"Regex": r"(.*)*\1$!"}, "x"),
        "pre_tokenizer": {"type": "Split", "pattern": {"Regex": r"^(([a-z])+.)+[A-Z]([a-z])+$"}, "behavior": "Removed",
                          "invert": True},
    },
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_a_file_that_is_no_tokenizer(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder, said = tiny.copy(whole["text"], tmp_path / "a"), TEXTS[name]
    (folder / bundle.TOKENIZER).write_bytes(said if isinstance(said, bytes) else said.encode())
    tiny.seal(folder)
    with pytest.raises(SpecError) as caught:
        zoo.runtime.load(folder)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("name", PARTS)
def test_a_hostile_tokenizer(whole: dict[str, Path], tmp_path: Path, name: str) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.TOKENIZER).write_text(json.dumps({**BASE, **PARTS[name]}), encoding="utf-8")
    tiny.seal(folder)
    with pytest.raises((SpecError, InputError)) as caught:
        zoo.runtime.load(folder).predict("a" * 400 + "!")
    assert len(str(caught.value)) < 1000


def test_a_text_that_breaks_the_tokenizer_is_one_row(whole: dict[str, Path], tmp_path: Path) -> None:
    folder = tiny.copy(whole["text"], tmp_path / "a")
    (folder / bundle.TOKENIZER).write_text(json.dumps({**BASE, **PARTS["an expression without end"]}), encoding="utf-8")
    tiny.seal(folder)
    good, bad = zoo.runtime.load(folder).predict(["b", "a" * 400 + "!"], on_error="return")
    assert good.label in tiny.LABELS
    assert bad.error == "InputError"


def test_what_real_tokenizers_have_is_read(tmp_path: Path) -> None:
    """The rules of T5's, Llama's and XLNet's, which put a mark for a space."""
    rules = [{"type": "Prepend", "prepend": "▁"}, replacing({"String": " "}, "▁"), replacing({"Regex": " {2,}"}, " "),
             replacing({"String": "``"}, '"'), {"type": "NFKC"}, {"type": "Lowercase"}]  # fmt: skip
    path = tmp_path / bundle.TOKENIZER
    path.write_text(json.dumps({**BASE, "normalizer": {"type": "Sequence", "normalizers": rules}}), encoding="utf-8")
    assert open_tokenizer(path).encode("a").ids


@pytest.mark.parametrize("change", range(30))
def test_a_byte_changed(tmp_path: Path, change: int) -> None:
    """Whatever it makes of the tokenizer: one that reads, or an error of ours."""
    import numpy as np

    content = bytearray(byte_tokenizer(style="bert").to_str().encode())
    generator = np.random.default_rng(change)
    for place in generator.integers(len(content), size=1 + change % 3):
        content[place] = generator.integers(32, 127)
    (tmp_path / bundle.TOKENIZER).write_bytes(content)
    try:
        found = read_tokenizer(tmp_path)
    except SpecError as error:
        message = str(error)
        assert bundle.TOKENIZER in message
    else:
        assert found.get_vocab_size()


def test_a_charsmap_of_noise(tmp_path: Path) -> None:
    noise = base64.b64encode(b"\x10\x00\x00\x00" + b"\xff" * 64).decode()
    path = tmp_path / bundle.TOKENIZER
    path.write_text(json.dumps({**BASE, "normalizer": {"type": "Precompiled", "precompiled_charsmap": noise}}))
    from zoo.modalities.text import TextEncoder
    from zoo.spec import TextInput

    try:
        TextEncoder(TextInput(max_length=32), open_tokenizer(path)).encode("aé\u0301b")
    except (SpecError, InputError) as error:
        message = str(error)
        assert message
