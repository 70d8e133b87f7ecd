"""A whole text as tokens: where each stands, and which word it is of, the tokenizer's own or one that was given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from zoo.errors import InputError
from zoo.modalities.base import Array
from zoo.modalities.tokenizing import tokenizing


@dataclass(frozen=True, slots=True, eq=False)
class Tokens:
    """A whole text without special tokens: ids `[N]`; offsets `[N, 2]`, words `[N]` and word_spans `[W, 2]`, all int64,
    as in `zoo.modalities.text.TextSource`."""

    text: str
    ids: Array
    offsets: Array
    words: Array
    word_spans: Array
    presplit: bool


def tokenize(tokenizer: Tokenizer, text: str, given: list[str] | None) -> Tokens:
    """given: the words that the text was joined of, by one space; None: the tokenizer's own. Raises InputError."""
    with tokenizing("reading the text", InputError):
        found = tokenizer.encode(text, add_special_tokens=False)
    ids = np.array(found.ids, dtype=np.int64)
    offsets = np.array(found.offsets, dtype=np.int64).reshape(-1, 2)
    pieces = np.array([-1 if word is None else word for word in found.word_ids], dtype=np.int64)
    words, spans = _own_words(pieces, offsets)
    if given is not None:
        # Where the tokenizer's own word of each token ends.
        ends = np.where(words >= 0, spans[words, 1], offsets[:, 1]) if len(spans) else offsets[:, 1]
        spans = _joined_spans(given)
        words = _given_words(text, offsets[:, 0], ends, spans)
    return Tokens(text, ids, offsets, words, spans, given is not None)


def _own_words(pieces: Array, offsets: Array) -> tuple[Array, Array]:
    """Runs of tokens of one piece as words `[N]`, and the words' spans `[W, 2]`."""
    if not len(pieces):
        return pieces, np.zeros((0, 2), dtype=np.int64)
    begins = np.append(True, pieces[1:] != pieces[:-1])
    # A token of no piece is no word, and does not take a number either.
    begins &= pieces >= 0
    words = np.where(pieces >= 0, np.cumsum(begins) - 1, -1)
    kept = words >= 0
    firsts = np.flatnonzero(begins[kept])
    if not len(firsts):
        return words, np.zeros((0, 2), dtype=np.int64)
    low = np.minimum.reduceat(offsets[kept, 0], firsts)
    high = np.maximum.reduceat(offsets[kept, 1], firsts)
    return words, np.stack([low, high], axis=1)


def _joined_spans(words: Sequence[str]) -> Array:
    """Spans `[W, 2]` of words that were joined by one space."""
    lengths = np.array([len(word) for word in words], dtype=np.int64)
    ends = np.cumsum(lengths + 1) - 1
    return np.stack([ends - lengths, ends], axis=1)


def _given_words(text: str, begins: Array, ends: Array, spans: Array) -> Array:
    """The given word of each token: that of the first character that the token shows, or else its piece.

    So a blank token is the word's if it is the mark of that word's beginning (SentencePiece's, or a byte), and
    no word's if it is no more than white space.
    """
    if not len(begins) or not len(spans):
        return np.full(len(begins), -1, dtype=np.int64)
    ink = _next_ink(text)[begins]
    words = np.searchsorted(spans[:, 0], ink, side="right") - 1
    return np.where((ink < ends) & (ink < spans[words, 1]), words, -1)


def _next_ink(text: str) -> Array:
    """int64 `[len(text) + 1]`: the first character at or after each place that is not white space."""
    places = np.arange(len(text) + 1)
    blank = np.fromiter(map(str.isspace, text), dtype=bool, count=len(text))
    places[:-1][blank] = len(text)
    return np.asarray(np.minimum.accumulate(places[::-1])[::-1])
