"""Words of a text and the tokens that stand for them: one label a word, read from its first sub-word.

A text given as a list of words has those words. A raw text is cut as the corpora that taggers learn from
are: at white space, with quotes, brackets and closing punctuation taken off the ends, and a final `'s`.
What is inside a word stays: "U.S.", "@paulwalk" and "O'Brien" are one word each, though most
tokenizers cut them into pieces. A character of Chinese or Japanese is a word of its own, because those
scripts put no space between words and corpora label their characters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from zoo.modalities.base import Array, Example

if TYPE_CHECKING:
    from zoo.modalities.text import TextSource

_OPENING = "([{\"'\u00ab\u201c\u2018\u201e\u00bf\u00a1"
_CLOSING = ".,;:!?)]}\"'\u00bb\u201d\u2019\u2026"
# Ideographs, kana, and the full-width punctuation that stands between them.
_ALONE = "\u3001-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65"
_ALONE += "\U00020000-\U0003ffff"
_RUN = re.compile(rf"[{_ALONE}]|[^\s{_ALONE}]+")
_UNSPACED = re.compile(f"[{_ALONE}]")
_CLITIC = re.compile("(?<=\\w)['\u2019][sS]$")
# A full stop that belongs to the word: initials, and abbreviations that stand in names.
_DOTTED = re.compile(
    r"(?:[^\W\d_]{1,2}\.){2,}|[^\W\d_]\.|(?:mr|mrs|ms|dr|prof|st|mt|ft|jr|sr|gen|col|lt|sgt|sen|rep|gov|inc|ltd|co|corp|bros)\.",
    re.IGNORECASE,
)


class FirstTokens(NamedTuple):
    """Where words are read. words: int64 [N] of this window, rising; tokens: int64 [N] into the window."""

    words: Array
    tokens: Array


def text_words(text: str) -> Array:
    """Character spans int64 `[W, 2]` of the words of a raw text; together they hold all but white space."""
    found = [span for run in _RUN.finditer(text) for span in _cut(text, *run.span())]
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def word_spans(source: TextSource) -> Array:
    """Character spans int64 `[W, 2]` of a row's words, given or found."""
    return source.word_spans if source.presplit else text_words(source.text)


def own_words(source: TextSource) -> Array:
    """int64 `[T]`, the word of each token, as `TextSource.words`; in Chinese and Japanese, unless the words were given,
    a character.

    Of those scripts a tokenizer that cuts at white space makes one word of a whole sentence. A token of several
    characters is a word then, and the bytes of one character are.
    """
    words = source.words
    if source.presplit or not len(words):
        return words
    second = source.segments == 1 if source.segments is not None else np.zeros(len(words), dtype=bool)
    alone = np.where(
        second, _unspaced(source.pair or "", source.offsets, second), _unspaced(source.text, source.offsets, ~second)
    )
    if not alone.any():
        return words
    begins = np.append(True, (words[1:] != words[:-1]) | alone[1:] | alone[:-1])
    # The bytes of one character have its place each.
    begins[1:] &= (words[1:] != words[:-1]) | (source.offsets[1:] != source.offsets[:-1]).any(axis=1)
    return np.where(words >= 0, np.cumsum(begins & (words >= 0)) - 1, -1)


def first_tokens(windows: Sequence[Example], spans: Array) -> list[FirstTokens]:
    """For each window of one row, the words that are read there: no word in two windows.

    Windows overlap; a word is read where its first sub-word stands farthest from a cut edge, because there it
    has been seen with most of its context. A word without a token (of characters that the tokenizer drops)
    is read nowhere.
    """
    sources: list[TextSource] = [window.source for window in windows]
    ink = None if sources[0].presplit else _next_ink(sources[0].text)
    found = [_in_window(source, spans, ink) for source in sources]
    best = np.full(len(spans), -1.0)
    owner = np.full(len(spans), -1, dtype=np.int64)
    for index, (source, first) in enumerate(zip(sources, found, strict=True)):
        distance = _from_edge(source, first.tokens, last=index == len(sources) - 1)
        better = distance > best[first.words]
        best[first.words[better]] = distance[better]
        owner[first.words[better]] = index
    kept = [owner[first.words] == index for index, first in enumerate(found)]
    return [FirstTokens(first.words[keep], first.tokens[keep]) for first, keep in zip(found, kept, strict=True)]


def _cut(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """A run without white space as words. One of punctuation alone, such as ":-)", stays whole."""
    if not any(map(str.isalnum, text[start:end])):
        yield start, end
        return
    while text[start] in _OPENING:
        yield start, start + 1
        start += 1
    tail: list[tuple[int, int]] = []
    while text[end - 1] in _CLOSING and not _DOTTED.fullmatch(text, start, end):
        # "..." and "!!" are one word.
        cut = start + len(text[start:end].rstrip(text[end - 1]))
        tail.append((cut, end))
        end = cut
    if clitic := _CLITIC.search(text[start:end]):
        tail.append((start + clitic.start(), end))
        end = start + clitic.start()
    yield start, end
    yield from reversed(tail)


def _next_ink(text: str) -> Array:
    """int64 `[len(text) + 1]`: the first character at or after each place that is not white space."""
    places = np.arange(len(text) + 1)
    space = np.fromiter(map(str.isspace, text), dtype=bool, count=len(text))
    places[:-1][space] = len(text)
    return np.asarray(np.minimum.accumulate(places[::-1])[::-1])


def _unspaced(text: str, offsets: Array, those: Array) -> Array:
    """bool `[T]`: which of those tokens show a character of a script without spaces. offsets: int64 `[T, 2]`."""
    found = np.zeros(len(offsets), dtype=bool)
    places = np.flatnonzero(those & (offsets[:, 1] > offsets[:, 0]))
    # One look at all of it, before one at each token.
    if len(places) and _UNSPACED.search(text, int(offsets[places, 0].min()), int(offsets[places, 1].max())):
        found[places] = [_UNSPACED.search(text, start, end) is not None for start, end in offsets[places].tolist()]
    return found


def _in_window(source: TextSource, spans: Array, ink: Array | None) -> FirstTokens:
    tokens = np.flatnonzero(~source.special & (source.words >= 0))
    if ink is None:
        words = source.words[tokens]
    else:
        tokens, words = _raw_words(source, tokens, spans, ink)
    starts = source.offsets[tokens, 0] <= spans[words, 0] if len(words) else np.zeros(0, dtype=bool)
    words, tokens = words[starts], tokens[starts]
    words, places = np.unique(words, return_index=True)
    return FirstTokens(words, tokens[places])


def _raw_words(source: TextSource, tokens: Array, spans: Array, ink: Array) -> tuple[Array, Array]:
    """Tokens that show a character, and their words. A blank token counts when its own piece goes on after it
    (SentencePiece's lone mark of a word's beginning): training reads such a word there."""
    begin = ink[source.offsets[tokens, 0]]
    pieces = source.words[tokens]
    goes_on = np.append(pieces[1:] == pieces[:-1], False) if len(pieces) else np.zeros(0, dtype=bool)
    shown = (begin < source.offsets[tokens, 1]) | (goes_on & (begin < len(source.text)))
    tokens, begin = tokens[shown], begin[shown]
    return tokens, np.searchsorted(spans[:, 0], begin, side="right") - 1


def _from_edge(source: TextSource, tokens: Array, *, last: bool) -> Array:
    """Tokens between each of these and the nearest edge where the text was cut; infinite without one."""
    content = np.flatnonzero(~source.special)
    before = tokens - content[0] if source.first > 0 and len(content) else np.full(len(tokens), np.inf)
    after = content[-1] - tokens if not last and len(content) else np.full(len(tokens), np.inf)
    return np.asarray(np.minimum(before, after), dtype=np.float64)
