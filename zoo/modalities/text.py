"""Text: a string, or its words, as windows of token ids with what it takes to find them in the text again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, final

import numpy as np
from tokenizers import Tokenizer

from zoo.bundle import TARGET_TOKENIZER, TOKENIZER
from zoo.errors import ConfigError, DataError, InputError, SpecError
from zoo.modalities.base import Array, Encoder, Example, pad, shorten, window_starts
from zoo.modalities.target_text import TargetText
from zoo.modalities.text_pairs import PairTemplate, pair_template
from zoo.modalities.text_tokens import Tokens, tokenize
from zoo.modalities.tokenizing import (
    bare,
    bare_copy,
    first_known,
    pad_and_eos,
    special_around,
    tokenizing,
    within,
)
from zoo.spec import TextInput

MASK_TOKENS = ("[MASK]", "<mask>", "<|mask|>", "<MASK>")
_ACCEPTED = "a text (str), its UTF-8 bytes, or a list of its words"
_NONE: Array = np.zeros(0, dtype=np.int64)
_PAIR = '{"text": ..., "text_pair": ...}'


@dataclass(frozen=True, slots=True, eq=False)
class TextSource:
    """Where the tokens of one window stand in the text.

    text: the whole text of the row; the words joined by one space if words were given.
    offsets: int64 `[T, 2]`, begin and end in `text` in characters; (0, 0) for special tokens.
    special: bool `[T]`, true for what the tokenizer adds around a text.
    words: int64 `[T]`, the index of each token's word in the whole row, or -1.
    word_spans: int64 `[W, 2]`, begin and end of every word of the row: those given, or the tokenizer's own.
    presplit: the words were given.
    first: where this window's first token stands among all tokens of the row, special ones not counted; of a pair,
        among the tokens of the text that the windows go through.
    pair: the second text of a pair, else None. The words of both are then counted through, the first text's first.
    segments: int64 `[T]`, 0 and 1 for tokens of the first and of the second text, in which their offsets are, and -1
        for special tokens. None for a text alone.
    """

    text: str
    offsets: Array
    special: Array
    words: Array
    word_spans: Array
    presplit: bool
    first: int
    pair: str | None = None
    segments: Array | None = None


@final
class TextEncoder(Encoder):
    """Text as int64 `input_ids [T]` and `attention_mask [T]`, T <= `input.max_length`.

    With `input.token_types`, `token_type_ids [T]` beside them: what the tokenizer gives the parts of a pair.

    A longer text becomes several windows, each with the special tokens around it. As upstream, a special
    token that is spelled out in the text ("[MASK]", "<|endoftext|>") is that token.

    pad_id, eos_id: what the model's configuration says; used where the tokenizer has the token.
    mask_id: the token that stands for a hidden word, or None where the tokenizer has none.
    target: the tokenizer of what the model writes, where that is another one.
    owned: whether the tokenizers are the encoder's to change; else it takes copies, which neither truncate nor pad.
    known: ids from here on have no row in the embedding, and are read as the tokenizer's unknown token.
    special_ids: of all tokens that are no text, int64, sorted.
    Raises SpecError for a tokenizer that leaves no place for the text.
    """

    def __init__(
        self,
        input: TextInput,
        tokenizer: Tokenizer,
        *,
        pad_id: int | None = None,
        eos_id: int | None = None,
        target: Tokenizer | None = None,
        known: int | None = None,
        owned: bool = False,
    ) -> None:
        self.input = input
        stripped = bare if owned else bare_copy
        types = ("token_type_ids",) if input.token_types else ()
        self.ragged = frozenset({"input_ids", "attention_mask", *types})
        self.pad_id, self.eos_id = pad_and_eos(tokenizer, pad_id, eos_id)
        self.tokenizer = stripped(tokenizer)
        self._known = known
        self._target = TargetText(stripped(target), known) if target is not None else None
        self._own_target = target is not None
        self.vocab_size: int = self.tokenizer.get_vocab_size()
        self.mask_id = first_known(self.tokenizer, MASK_TOKENS)
        added = self.tokenizer.get_added_tokens_decoder()
        self.special_ids: Array = np.array(sorted(i for i, token in added.items() if token.special), dtype=np.int64)
        self._before, self._after = special_around(self.tokenizer)
        self._template: PairTemplate | None = None
        self._room = input.max_length - len(self._before) - len(self._after)
        if self._room < 1:
            raise SpecError(
                f"max_length is {input.max_length}, and the tokenizer adds {len(self._before) + len(self._after)} "
                "special tokens: nothing is left for the text."
            )

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One text as windows. raw: `str`, UTF-8 bytes, a list of `str`, the words of one text; or a pair of texts,
        `{"text": ..., "text_pair": ...}`, as `encode_pair` reads it."""
        if isinstance(raw, Mapping):
            first, second = _read_pair(raw)
            if second is not None:
                return self.encode_pair(first, second, overlap=overlap)
            raw = first
        text, given = read_text(raw)
        tokens = tokenize(self.tokenizer, text, given)
        tokens = replace(tokens, ids=within(tokens.ids, self.tokenizer, self._known))
        if not len(tokens.ids) and not len(self._before) + len(self._after):
            raise InputError("The text is empty, and the model has no special tokens to see instead. Give a text.")
        starts = window_starts(len(tokens.ids), self._room, overlap)
        return [self._window(tokens, start, index, len(starts)) for index, start in enumerate(starts)]

    def encode_pair(
        self, first: Any, second: Any, *, overlap: float = 0.0, over: Literal["longer", "first", "second"] = "longer"
    ) -> list[Example]:
        """Two texts, each as `encode` takes one, joined as the tokenizer's template for pairs says.

        A pair too long for one window: the longer text is gone through in windows, beside the whole of the other. If
        that one takes more than half of a window itself, it is cut to the half. With over="first" or "second" it is
        that one that is gone through, and another of more than half is an InputError.
        """
        texts = [tokenize(self.tokenizer, *read_text(raw)) for raw in (first, second)]
        if self._template is None:
            self._template = pair_template(self.tokenizer)
        room = self.input.max_length - self._template.special
        if room < 2:
            raise InputError(f"The model sees {self.input.max_length} tokens at once: no room for a pair of texts.")
        if not sum(len(text.ids) for text in texts) + self._template.special:
            raise InputError("Both texts are empty. Give a text.")
        sizes = [len(text.ids) for text in texts]
        longer = 1 if sizes[1] > sizes[0] else 0
        moving = {"first": 0, "second": 1, "longer": longer}[over]
        kept = min(sizes[1 - moving], max(room // 2, room - sizes[moving]))
        if over != "longer" and kept < sizes[1 - moving]:
            which, size = ("first", "second")[1 - moving], sizes[1 - moving]
            raise InputError(f"The {which} text has {size} tokens, and the model sees {room} of both. Shorten it.")
        starts = window_starts(sizes[moving], room - kept, overlap)
        windows = []
        for index, start in enumerate(starts):
            pieces = [slice(0, kept), slice(0, kept)]
            pieces[moving] = slice(start, start + room - kept)
            windows.append(self._pair_window(texts, pieces, start, index, len(starts)))
        return windows

    def pack(self, raws: Iterable[tuple[int, Any]], on_bad: Callable[[int, DataError], None]) -> list[Example]:
        """Texts one after another, each with the end-of-text token behind it (the tokenizer's last special one where
        there is none), cut into windows that are full but for the last. No token is lost.

        raws: the number of each row, and its text; `on_bad` hears of a text that can't be read. A window's `row` is
        that of its first token. Raises ConfigError for a tokenizer without a token to set between texts.
        """
        ends = [self.eos_id] if self.eos_id is not None else self._after[-1:].tolist()
        if not ends:
            raise ConfigError("The tokenizer has no end-of-text token to set between texts; leave packing out.")
        texts: list[Tokens] = []
        ids, words, rows, places = [_NONE], [_NONE], [_NONE], [_NONE.reshape(0, 2)]
        counted = shown = 0
        for number, raw in raws:
            try:
                found = tokenize(self.tokenizer, *read_text(raw))
            except DataError as error:
                on_bad(number, error)
                continue
            texts.append(found)
            ids += [found.ids, np.array(ends, dtype=np.int64)]
            words += [np.where(found.words >= 0, found.words + counted, -1), np.array([-1])]
            rows.append(np.full(len(found.ids) + 1, number, dtype=np.int64))
            places += [found.offsets + shown, np.full((1, 2), shown + len(found.text))]
            counted += len(found.word_spans)
            shown += len(found.text)
        stream, row = np.concatenate(ids), np.concatenate(rows)
        tokens = Tokens(
            "".join(text.text for text in texts), stream, np.concatenate(places), np.concatenate(words),
            np.zeros((0, 2), dtype=np.int64), presplit=all(text.presplit for text in texts),
        )  # fmt: skip
        starts = window_starts(len(stream), self._room, 0.0) if len(stream) else []
        return [self._window(tokens, start, 0, 1).at(int(row[start])) for start in starts]

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """int64 `input_ids` and `attention_mask`, both `[B, T]`, padded on `input.padding_side`."""
        left = self.input.padding_side == "left"
        fill = {"input_ids": self.pad_id, "attention_mask": 0}
        if self.input.token_types:
            fill["token_type_ids"] = 0
        return {name: pad([e.inputs[name] for e in examples], value, left=left) for name, value in fill.items()}

    def decode(self, ids: Array | Sequence[int]) -> str:
        """Token ids int64 `[T]` as text, special tokens left out."""
        with tokenizing("writing tokens as text"):
            return str(self.tokenizer.decode([int(token) for token in ids], skip_special_tokens=True))

    def word(self, token: int) -> str:
        """One token as text, without white space around it; a piece that goes on a word keeps its mark ("##ing")."""
        with tokenizing("writing a token as text"):
            return str(self.tokenizer.decode([token], skip_special_tokens=False)).strip()

    @property
    def target(self) -> TargetText:
        """How texts are written that the model answers with."""
        if self._target is None:
            self._target = TargetText(self.tokenizer, self._known)
        return self._target

    def describe(self, raw: Any) -> str:
        if isinstance(raw, Mapping):
            return ", ".join(f"{key}={self.describe(value)}" for key, value in list(raw.items())[:4]) or "an empty dict"
        if isinstance(raw, (bytes, bytearray)):
            raw = bytes(raw[:200]).decode("utf-8", "replace")
        if isinstance(raw, (list, tuple, np.ndarray)):
            raw = " ".join(str(word) for word in raw[:20])
        return repr(shorten(raw, 60)) if isinstance(raw, str) else f"a {type(raw).__name__}"

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json`, and `target_tokenizer.json` where there is one.

        Its padding is kept there, because the id to pad with is not always named.
        """
        copy = bare_copy(self.tokenizer)
        token = copy.id_to_token(self.pad_id) or ""
        copy.enable_padding(direction=self.input.padding_side, pad_id=self.pad_id, pad_token=token)
        copy.save(str(folder / TOKENIZER))
        if self._own_target:
            self.target.tokenizer.save(str(folder / TARGET_TOKENIZER))

    def _window(self, tokens: Tokens, start: int, index: int, windows: int) -> Example:
        piece = slice(start, start + self._room)
        ids = np.concatenate([self._before, tokens.ids[piece], self._after])
        inside = slice(len(self._before), len(ids) - len(self._after))
        special = np.ones(len(ids), dtype=bool)
        special[inside] = False
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        offsets[inside] = tokens.offsets[piece]
        words = np.full(len(ids), -1, dtype=np.int64)
        words[inside] = tokens.words[piece]
        source = TextSource(tokens.text, offsets, special, words, tokens.word_spans, tokens.presplit, start)
        return Example(self._inputs(ids), len(ids), source, window=index, windows=windows)

    def _pair_window(
        self, texts: Sequence[Tokens], pieces: Sequence[slice], start: int, index: int, windows: int
    ) -> Example:
        template = self._template
        assert template is not None
        # Words of the second text are counted on from the first's.
        shifts = (0, len(texts[0].word_spans))
        words = [np.where(t.words >= 0, t.words + by, -1) for t, by in zip(texts, shifts, strict=True)]
        ids = template.fill([text.ids[piece] for text, piece in zip(texts, pieces, strict=True)])
        segments = template.segments([len(text.ids[piece]) for text, piece in zip(texts, pieces, strict=True)])
        offsets = np.zeros((len(ids), 2), dtype=np.int64)
        every = np.full(len(ids), -1, dtype=np.int64)
        for number, piece in enumerate(pieces):
            offsets[segments == number] = texts[number].offsets[piece]
            every[segments == number] = words[number][piece]
        source = TextSource(
            texts[0].text, offsets, segments < 0, every, np.concatenate([text.word_spans for text in texts]),
            texts[0].presplit, start, texts[1].text, segments,
        )  # fmt: skip
        types = template.types([len(text.ids[piece]) for text, piece in zip(texts, pieces, strict=True)])
        return Example(self._inputs(ids, types), len(ids), source, window=index, windows=windows)

    def _inputs(self, ids: Array, types: Array | None = None) -> dict[str, Array]:
        inputs = {"input_ids": ids, "attention_mask": np.ones(len(ids), dtype=np.int64)}
        if self.input.token_types:
            inputs["token_type_ids"] = np.zeros(len(ids), dtype=np.int64) if types is None else types
        return inputs


def _read_pair(raw: Mapping[Any, Any]) -> tuple[Any, Any]:
    """The two texts of a pair; the second is None where it is not there."""
    if "text" not in raw or set(raw) - {"text", "text_pair"}:
        raise InputError(f"A dict with {', '.join(map(repr, raw)) or 'nothing'} came. A pair of texts is {_PAIR}.")
    if "text_pair" in raw and raw["text_pair"] is None:
        raise InputError("The second text is None. Leave text_pair out for a text alone.")
    return raw["text"], raw.get("text_pair")


def read_text(raw: Any) -> tuple[str, list[str] | None]:
    """The text, and its words if they were given."""
    if isinstance(raw, str):
        return _unicode(str(raw)), None
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return _decoded(bytes(raw)), None
    if isinstance(raw, (list, tuple)) or (isinstance(raw, np.ndarray) and raw.ndim == 1):
        words = list(raw)
        for index, word in enumerate(words):
            if not isinstance(word, str):
                raise InputError(f"Word {index} is {_shown(word)}, not a text. Give {_ACCEPTED}.")
        return _unicode(" ".join(words)), words
    raise InputError(f"A text was expected, and {_shown(raw)} came. Give {_ACCEPTED}.")


def _shown(raw: Any) -> str:
    return f"{raw!r}" if raw is None or isinstance(raw, (int, float)) else f"a {type(raw).__name__}"


def _unicode(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError(
            f"The text is not valid Unicode: character {error.start} is half of a surrogate pair "
            f"(U+{ord(text[error.start]):04X}). text.encode('utf-8', 'replace').decode() replaces it."
        ) from error
    return text


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"The bytes are not UTF-8: byte 0x{data[error.start]:02X} at offset {error.start} ({error.reason}). "
            "Decode them with their own encoding, data.decode('latin-1') for example, and give the text."
        ) from error
