"""Masked language modelling, as BERT's authors do it: which tokens are hidden, and what stands in their place."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace

import numpy as np

from zoo.errors import InputError
from zoo.modalities.base import Array, Example
from zoo.modalities.text import TextEncoder, TextSource
from zoo.tasks.base import IGNORE
from zoo.tasks.words import own_words

# What evaluation hides, whatever was trained with, so that figures can be compared.
PROBABILITY = 0.15
# Of the tokens chosen, BERT's authors show the mask for eight of ten and another token for one; one stays.
_MASKED, _REPLACED = 0.8, 0.1


@dataclass(frozen=True, slots=True, eq=False)
class Vocabulary:
    """What masking needs of a tokenizer: the mask's id, and int64 `[K]`, the ids of the tokens that are text."""

    mask_id: int
    ordinary: Array


@dataclass(frozen=True, slots=True, eq=False)
class Maskable:
    """The source of a window whose tokens may be hidden.

    words: int32 `[T]`, the word of each token, a number of its own for a token outside of words; -1 for what the
    tokenizer adds around a text, which is never hidden.
    """

    words: Array
    vocabulary: Vocabulary


def vocabulary_of(encoder: TextEncoder) -> Vocabulary:
    """Raises InputError for a tokenizer without a mask."""
    ordinary = np.setdiff1d(np.arange(encoder.vocab_size, dtype=np.int64), encoder.special_ids)
    return Vocabulary(mask_of(encoder), ordinary)


def mask_of(encoder: TextEncoder) -> int:
    """The mask's id. Raises InputError for a tokenizer without one."""
    if encoder.mask_id is None:
        raise InputError("The model's tokenizer has no mask token, so no word can be hidden.")
    return encoder.mask_id


def maskable(window: Example, vocabulary: Vocabulary) -> Example:
    """The window, with what masking needs of its source alone: training keeps all windows in memory."""
    source = window.source
    assert isinstance(source, TextSource)
    words = own_words(source).astype(np.int32)
    alone = np.flatnonzero((words < 0) & ~source.special)
    words[alone] = words.max(initial=-1) + 1 + np.arange(len(alone), dtype=np.int32)
    # A special token spelled out in the text is no word of it either.
    words[source.special | np.isin(window.inputs["input_ids"], vocabulary.ordinary, invert=True)] = -1
    return replace(window, source=Maskable(words, vocabulary))


def masked(
    window: Example, random: np.random.Generator, *, probability: float = PROBABILITY, whole_words: bool = False
) -> Example:
    """A `maskable` window with some of its tokens hidden, and int64 `labels [T]`: the hidden tokens, -100 elsewhere.

    As in BERT's own data, `max(1, round(probability x tokens))` are chosen; 80 % become the mask, 10 % another token,
    10 % stay. A window that is masked already is restored first. whole_words: all tokens of a word or none.
    """
    source = window.source
    assert isinstance(source, Maskable)
    ids = original(window)
    chosen = _choose(source.words, random, probability, whole_words=whole_words)
    labels = np.full(len(ids), IGNORE, dtype=np.int64)
    labels[chosen] = ids[chosen]
    draw = random.random(len(chosen))
    kept = draw >= _MASKED + _REPLACED
    other = random.choice(source.vocabulary.ordinary, size=len(chosen))
    ids[chosen] = np.where(draw < _MASKED, source.vocabulary.mask_id, np.where(kept, labels[chosen], other))
    return replace(window, inputs={**window.inputs, "input_ids": ids}, targets={**window.targets, "labels": labels})


def original(window: Example) -> Array:
    """A copy of the window's ids as they were before any were hidden, int64 `[T]`."""
    ids = np.array(window.inputs["input_ids"], dtype=np.int64)
    labels = window.targets.get("labels")
    if labels is not None:
        ids[labels != IGNORE] = labels[labels != IGNORE]
    return ids


def fixed(window: Example) -> np.random.Generator:
    """A generator that depends on what the window says alone: evaluation hides the same tokens each time."""
    return np.random.default_rng(zlib.crc32(original(window).tobytes()))


def _choose(words: Array, random: np.random.Generator, probability: float, *, whole_words: bool) -> Array:
    """Places of the tokens to hide, int64, sorted."""
    places = np.flatnonzero(words >= 0)
    if not len(places):
        return places
    count = max(1, round(probability * len(places)))
    if not whole_words:
        return np.sort(random.choice(places, size=count, replace=False))
    names, sizes = np.unique(words[places], return_counts=True)
    taken: list[int] = []
    total = 0
    for index in random.permutation(len(names)):
        # The first is taken whatever its size; later ones only while they fit.
        if not taken or total + sizes[index] <= count:
            taken.append(int(names[index]))
            total += int(sizes[index])
        if total >= count:
            break
    return places[np.isin(words[places], taken)]
