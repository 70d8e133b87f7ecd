"""Texts as windows of tokens whose offsets hold in every script, against transformers' own tokenizer."""

from __future__ import annotations

import pickle
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from zoo.errors import ConfigError, InputError, SpecError
from zoo.modalities.base import Array, Example
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.modalities.tokenizing import read_tokenizer
from zoo.spec import TextInput

TEXTS = {
    "plain": "Hello world, it's me.",
    "accents": "naïve café — Ångström",
    "combining": "e\u0301a\u0308 n\u0303o",
    "emoji": "a 👩‍👩‍👧‍👦 b 🇸🇪 c 👍🏽!",
    "hebrew": "שלום עולם, מה שלומך?",
    "arabic": "مرحبا بالعالم",
    "chinese": "我爱北京天安门",
    "mixed": "abc עברית 🎉 漢字 xyz",
    "blank": " \t\n  x  ",
    "nul": "a\0b \0 c",
    "controls": "a\u200bb\ufeffc\u2028d\x07",
}


def encoder(max_length: int = 512, style: Literal["bert", "gpt"] = "bert", **options: Any) -> TextEncoder:
    return TextEncoder(TextInput(max_length=max_length, **options), byte_tokenizer(style=style))


def minilm(folder: Path, max_length: int = 512) -> TextEncoder:
    return TextEncoder(TextInput(max_length=max_length), read_tokenizer(folder))


def byte_level(*, trim: bool, prefix: bool) -> Tokenizer:
    """As RoBERTa's: bytes, leading blanks part of a word, a template around."""
    tokenizer = byte_tokenizer(style="gpt")
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ids, trim_offsets=trim, add_prefix_space=prefix)
    return tokenizer


def sentencepiece() -> Tokenizer:
    """As ALBERT's and XLNet's: unigrams over text whose blanks are a visible mark."""
    pieces = ["<unk>", "▁", *"abcdefghijklmnopqrstuvwxyz", "▁the", "ing"]
    tokenizer = Tokenizer(models.Unigram([(piece, -float(i) / 10) for i, piece in enumerate(pieces)], unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return tokenizer


def ids(example: Example) -> list[int]:
    found = example.inputs["input_ids"]
    assert found.dtype == np.int64
    mask = example.inputs["attention_mask"]
    assert mask.dtype == np.int64
    assert mask.shape == found.shape == (example.length,)
    assert mask.all()
    return [int(token) for token in found]


def refusal(raw: Any, style: Literal["bert", "gpt"] = "bert") -> str:
    with pytest.raises(InputError) as caught:
        encoder(style=style).encode(raw)
    return str(caught.value)


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_equals_transformers(text: str, minilm_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm_folder), trust_remote_code=False)
    expected = reference(text, return_offsets_mapping=True, return_special_tokens_mask=True)
    (window,) = minilm(minilm_folder).encode(text)
    assert ids(window) == expected["input_ids"]
    assert window.source.offsets.tolist() == [list(pair) for pair in expected["offset_mapping"]]
    assert window.source.special.tolist() == [bool(special) for special in expected["special_tokens_mask"]]


def test_windows_and_padding_equal_transformers(minilm_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm_folder), trust_remote_code=False)
    text = " ".join(TEXTS.values()) * 3
    expected = reference(
        text,
        max_length=20,
        truncation=True,
        stride=4,
        return_overflowing_tokens=True,
        padding=True,
        return_tensors="np",
    )
    own = minilm(minilm_folder, max_length=20)
    # transformers counts the overlap in tokens of content; 0.25 of 18 are 4 of them.
    windows = own.encode(text, overlap=0.25)
    batch = own.collate(windows)
    assert (batch["input_ids"] == expected["input_ids"]).all()
    assert (batch["attention_mask"] == expected["attention_mask"]).all()


def test_words_equal_transformers(minilm_folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    reference = transformers.AutoTokenizer.from_pretrained(str(minilm_folder), trust_remote_code=False)
    words = ["Jan-Åke", "O'Brien", "visits", "U.S.", "", "👍", "antidisestablishmentarianism", "\0", "end"]
    expected = reference(words, is_split_into_words=True)
    (window,) = minilm(minilm_folder).encode(words)
    assert ids(window) == expected["input_ids"]
    assert window.source.words.tolist() == [-1 if word is None else word for word in expected.word_ids()]


def test_the_files_truncation_and_padding_are_off(minilm_folder: Path) -> None:
    given = read_tokenizer(minilm_folder)
    assert given.truncation is not None
    own = TextEncoder(TextInput(max_length=512), given)
    assert own.encode("word " * 300)[0].length == 302
    assert own.encode("word")[0].length == 3
    assert given.truncation is not None, "the tokenizer that was given is not changed"
    assert (own.pad_id, own.eos_id, own.vocab_size) == (0, None, 30_522)


def every_tokenizer() -> dict[str, Tokenizer]:
    return {
        "bert": byte_tokenizer(style="bert"),
        "gpt": byte_tokenizer(style="gpt"),
        "roberta": byte_level(trim=True, prefix=False),
        "untrimmed": byte_level(trim=False, prefix=True),
        "sentencepiece": sentencepiece(),
    }


@pytest.mark.parametrize("name", every_tokenizer())
@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_offsets_are_characters_of_the_text(text: str, name: str) -> None:
    windows = TextEncoder(TextInput(max_length=16), every_tokenizer()[name]).encode(text, overlap=0.25)
    covered: set[int] = set()
    for window in windows:
        source = window.source
        assert source.text == text
        assert source.offsets.dtype == np.int64
        assert source.offsets.shape == (window.length, 2)
        assert source.special.dtype == bool
        assert (source.offsets[source.special] == 0).all()
        assert (source.offsets[:, 0] <= source.offsets[:, 1]).all()
        assert (source.offsets <= len(text)).all()
        assert (np.diff(source.offsets[~source.special, 0]) >= 0).all()
        for start, end in source.offsets[~source.special]:
            covered.update(range(start, end))
        check_words(source.words, source.offsets, source.word_spans, source.special)
    if name != "sentencepiece":
        assert {place for place, char in enumerate(text) if not char.isspace()} <= covered


def check_words(words: Array, offsets: Array, spans: Array, special: Array) -> None:
    assert words.dtype == spans.dtype == np.int64
    assert spans.shape == (len(spans), 2)
    assert (words[special] == -1).all()
    inside = words >= 0
    assert (words[inside] < len(spans)).all()
    assert (np.diff(words[inside]) >= 0).all()
    assert (offsets[inside, 0] >= spans[words[inside], 0]).all()
    assert (offsets[inside, 1] <= spans[words[inside], 1]).all()


@pytest.mark.parametrize("style", ["bert", "gpt"])
def test_offsets_of_bytes(style: Literal["bert", "gpt"]) -> None:
    """All bytes of a character have that character's place."""
    (window,) = encoder(style=style).encode("é👍x")
    source = window.source
    assert source.offsets[~source.special].tolist() == [[0, 1]] * 2 + [[1, 2]] * 4 + [[2, 3]]


@pytest.mark.parametrize("name", every_tokenizer())
def test_given_words_have_their_tokens(name: str) -> None:
    words = ["alpha", "", "it's", "New York", "  ", "café", "👍🏽", "-", "the", "end"]
    (window,) = TextEncoder(TextInput(max_length=256), every_tokenizer()[name]).encode(words)
    source = window.source
    assert source.presplit
    assert source.text == " ".join(words)
    assert [source.text[start:end] for start, end in source.word_spans] == words
    seen = set(source.words.tolist()) - {-1}
    assert seen == {index for index, word in enumerate(words) if word.strip()}
    for word in seen:
        start, end = source.word_spans[word]
        # A word's first token may be the blank before it: its mark of a beginning.
        assert (source.offsets[source.words == word, 1] >= start).all()
        assert source.offsets[source.words == word, 1].max() == end
        assert (source.offsets[source.words == word, 0] < end).all()


def test_forms_of_words() -> None:
    words = ["Anna", "visits", "Rome"]
    expected = encoder().encode(words)[0]
    for form in (tuple(words), np.array(words), np.array(words, dtype=object)):
        found = encoder().encode(form)[0]
        assert ids(found) == ids(expected)
        assert found.source.presplit
    assert ids(encoder().encode("Anna visits Rome")[0]) == ids(expected)


@pytest.mark.parametrize("nothing", [[], [""], ["", ""], (), np.array([], dtype=object)])
def test_no_words(nothing: Any) -> None:
    (window,) = encoder().encode(nothing)
    assert window.length == 2
    assert window.source.special.all()
    assert window.source.word_spans.shape == (len(nothing), 2)


def test_own_words_of_a_text() -> None:
    (window,) = encoder().encode("Hi, you!")
    source = window.source
    assert [source.text[start:end] for start, end in source.word_spans] == ["Hi", ",", "you", "!"]
    assert source.words.tolist() == [-1, 0, 0, 1, 2, 2, 2, 3, -1]
    assert not source.presplit


def test_empty_text() -> None:
    (window,) = encoder().encode("")
    assert ids(window) == [1, 2]
    assert window.source.word_spans.shape == (0, 2)
    assert (window.window, window.windows) == (0, 1)
    assert "empty" in refusal("", style="gpt")


def test_special_tokens_in_a_text_are_those_tokens() -> None:
    (window,) = encoder(style="gpt").encode("a<|endoftext|>b")
    assert ids(window) == [97, 256, 98]
    assert window.source.offsets.tolist() == [[0, 1], [1, 14], [14, 15]]
    assert encoder().encode("[SEP]")[0].source.special.tolist() == [True, False, True]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("style", ["bert", "gpt"])
@pytest.mark.parametrize("count", [1, 9, 10, 11, 12, 13, 99])
def test_windows(count: int, style: Literal["bert", "gpt"], overlap: float) -> None:
    own = encoder(12, style=style)
    special = 2 if style == "bert" else 0
    text = "".join(chr(97 + index % 26) for index in range(count))
    windows = own.encode(text, overlap=overlap)
    read = ""
    for index, window in enumerate(windows):
        assert (window.window, window.windows) == (index, len(windows))
        assert window.length <= 12
        assert window.length == 12 or index == len(windows) - 1
        source = window.source
        inside = source.offsets[~source.special]
        assert source.special.sum() == special
        assert inside[0, 0] == source.first
        assert source.first <= len(read)
        read = read[: source.first] + text[inside[0, 0] : inside[-1, 1]]
        if style == "bert":
            assert ids(window)[0] == 1
            assert ids(window)[-1] == 2
    assert read == text
    if not overlap:
        assert sum(window.length - special for window in windows) == count
    else:
        assert len(windows) == 1 or windows[1].source.first == (12 - special) - int((12 - special) * overlap)


@pytest.mark.parametrize("overlap", [-0.1, 0.91, float("nan")])
def test_overlap_out_of_range(overlap: float) -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 0\.9"):
        encoder().encode("a", overlap=overlap)


@pytest.mark.parametrize("style", ["bert", "gpt"])
@pytest.mark.parametrize("unit", ["word ", "x", "👍", "字", "\0", " ", "e\u0301"])
def test_a_hundred_thousand_characters(unit: str, style: Literal["bert", "gpt"]) -> None:
    text = (unit * 100_000)[:100_000]
    begin = time.monotonic()
    windows = encoder(512, style=style).encode(text, overlap=0.25)
    assert time.monotonic() - begin < 10
    assert all(window.length <= 512 for window in windows)
    assert windows[-1].source.offsets.max() == (100_000 if style == "gpt" else len(text.rstrip()))


def test_a_long_text_of_a_real_tokenizer(minilm_folder: Path) -> None:
    text = "The quick brown fox jumps over the lazy dog. " * 2_300
    begin = time.monotonic()
    windows = minilm(minilm_folder, max_length=256).encode(text)
    assert time.monotonic() - begin < 5
    assert sum(window.length - 2 for window in windows) == 23_000
    assert minilm(minilm_folder).encode("x" * 100_000)[0].length == 3


@pytest.mark.parametrize("text", ["ab\ud800c", "\udfff", "a\ud83dx\ude00"])
def test_lone_surrogates(text: str) -> None:
    place = next(place for place, char in enumerate(text) if 0xD800 <= ord(char) <= 0xDFFF)
    for raw in (text, [text]):
        message = refusal(raw)
        assert f"character {place} " in message
        assert f"U+{ord(text[place]):04X}" in message
    assert text.encode("utf-8", "replace").decode() == "".join("?" if 0xD800 <= ord(c) <= 0xDFFF else c for c in text)


@pytest.mark.parametrize(
    ("data", "offset"), [(b"abc\xff", 3), (b"\x80", 0), (b"ab\xc3", 2), ("å".encode("latin-1") + b"x", 0)]
)
def test_bytes_that_are_not_utf8(data: bytes, offset: int) -> None:
    message = refusal(data)
    assert f"offset {offset}" in message
    assert f"0x{data[offset]:02X}" in message


def test_bytes_are_utf8() -> None:
    text = TEXTS["mixed"]
    for data in (text.encode(), bytearray(text.encode()), memoryview(text.encode())):
        (window,) = encoder().encode(data)
        assert window.source.text == text


@pytest.mark.parametrize("style", ["bert", "gpt"])
def test_nul_is_a_character(style: Literal["bert", "gpt"]) -> None:
    (window,) = encoder(style=style).encode("a\0b")
    assert window.source.offsets[~window.source.special].tolist() == [[0, 1], [1, 2], [2, 3]]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "None"),
        (float("nan"), "nan"),
        (3, "3 came"),
        ({"txt": "x"}, "A dict with 'txt'"),
        (["a", None], "Word 1 is None"),
        (["a", ["b"]], "Word 1 is a list"),
        ([b"a"], "Word 0 is a bytes"),
        (np.array([1, 2]), "Word 0 is a int64"),
        (np.array([["a"]]), "a ndarray"),
        (np.array("a"), "a ndarray"),
    ],
)
def test_what_is_no_text(raw: Any, reason: str) -> None:
    assert reason in refusal(raw)


def test_a_str_of_numpy() -> None:
    (window,) = encoder().encode(np.str_("abc"))
    assert type(window.source.text) is str


@pytest.mark.parametrize("side", ["right", "left"])
def test_collate(side: Literal["right", "left"]) -> None:
    own = encoder(style="gpt", padding_side=side)
    batch = own.collate([*own.encode("abc"), *own.encode("a")])
    filled, padding = [97], [256, 256]
    assert batch["input_ids"].dtype == batch["attention_mask"].dtype == np.int64
    assert batch["input_ids"].tolist() == [[97, 98, 99], padding + filled if side == "left" else filled + padding]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [0, 0, 1] if side == "left" else [1, 0, 0]]


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_decoding_bytes_gives_the_text_back(text: str) -> None:
    own = encoder(style="gpt")
    assert own.decode(own.encode(text)[0].inputs["input_ids"]) == text


def test_decoding_leaves_special_tokens_out(minilm_folder: Path) -> None:
    own = minilm(minilm_folder)
    assert own.decode(own.encode("hello there")[0].inputs["input_ids"]) == "hello there"
    assert encoder(style="gpt").decode([97, 256, 98]) == "ab"
    assert encoder(style="gpt").decode(np.zeros(0, dtype=np.int64)) == ""


def test_the_built_in_tokenizers() -> None:
    gpt, bert = byte_tokenizer(style="gpt"), byte_tokenizer(style="bert")
    assert gpt.get_vocab_size() == 257
    assert bert.get_vocab_size() == 261
    every = "".join(map(chr, range(256)))
    assert gpt.encode(every[:128]).ids == list(range(128))
    assert [bert.token_to_id(name) for name in ("[PAD]", "[CLS]", "[SEP]", "[UNK]")] == [0, 1, 2, 3]
    assert bert.encode("ab", "c").ids == [1, 101, 102, 2, 103, 2]
    assert (encoder().pad_id, encoder().eos_id, encoder().vocab_size) == (0, None, 261)
    assert (encoder(style="gpt").pad_id, encoder(style="gpt").eos_id) == (256, 256)
    with pytest.raises(SpecError, match='"bert", "gpt", "clip", "seq2seq" or "whisper"'):
        byte_tokenizer(style="t5")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ((None, None), (256, 256)),
        ((7, None), (7, 256)),
        ((None, 9), (9, 9)),
        ((50_256, 50_256), (256, 256)),
        ((-1, -1), (256, 256)),
    ],
)
def test_pad_and_eos_of_the_configuration(config: tuple[int | None, int | None], expected: tuple[int, int]) -> None:
    own = TextEncoder(TextInput(max_length=8), byte_tokenizer(style="gpt"), pad_id=config[0], eos_id=config[1])
    assert (own.pad_id, own.eos_id) == expected


def test_a_tokenizer_without_any_named_token() -> None:
    own = TextEncoder(TextInput(max_length=8), sentencepiece())
    assert (own.pad_id, own.eos_id) == (0, None)


@pytest.mark.parametrize("max_length", [1, 2])
def test_no_room_for_the_text(max_length: int) -> None:
    with pytest.raises(SpecError, match="2 special tokens"):
        encoder(max_length)
    assert encoder(3).encode("abc")[2].length == 3


def test_a_tokenizer_that_cant_be_saved() -> None:
    class Own:
        def pre_tokenize(self, text: Any) -> None: ...

    tokenizer = byte_tokenizer(style="bert")
    tokenizer.pre_tokenizer = pre_tokenizers.PreTokenizer.custom(Own())
    with pytest.raises(SpecError, match=r"tokenizer\.json"):
        TextEncoder(TextInput(max_length=8), tokenizer)


def test_save_and_read_again(tmp_path: Path) -> None:
    own = TextEncoder(TextInput(max_length=8, padding_side="left"), byte_tokenizer(style="gpt"), pad_id=7)
    own.save(tmp_path)
    again = TextEncoder(own.input, read_tokenizer(tmp_path))
    assert again.pad_id == 7
    assert ids(again.encode("abc")[0]) == ids(own.encode("abc")[0])
    first = (tmp_path / "tokenizer.json").read_bytes()
    again.save(tmp_path)
    assert (tmp_path / "tokenizer.json").read_bytes() == first


def test_reading_what_is_no_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"holds no tokenizer\.json"):
        read_tokenizer(tmp_path)
    for damaged in (b"", b"{}", b"\xff\xfe", b"[1, 2"):
        (tmp_path / "tokenizer.json").write_bytes(damaged)
        with pytest.raises(SpecError, match=r"tokenizer\.json"):
            read_tokenizer(tmp_path)


def test_describe() -> None:
    own = encoder()
    assert own.describe("short") == "'short'"
    assert len(own.describe("x" * 1000)) == 62
    assert own.describe(["a", "b"]) == "'a b'"
    assert own.describe(b"ab\xff") == "'ab\ufffd'"
    assert own.describe(None) == "a NoneType"
    assert own.describe("\ud800") == "'\\ud800'"


def test_threads_and_pickle() -> None:
    own = pickle.loads(pickle.dumps(encoder(64)))
    text = TEXTS["mixed"] * 50
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: [ids(window) for window in own.encode(text)], range(32)))
    assert all(one == found[0] for one in found)
    windows = pickle.loads(pickle.dumps(own.encode(text)))
    assert windows[0].source.text == text
