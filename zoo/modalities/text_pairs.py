"""How a tokenizer joins two texts: the special tokens around and between them, and the type of every part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer

from zoo.errors import SpecError
from zoo.modalities.base import Array
from zoo.modalities.tokenizing import tokenizing


@dataclass(frozen=True, slots=True, eq=False)
class PairTemplate:
    """`around[0] first around[1] second around[2]`, ids int64 each, as the tokenizer's post-processor has it.

    kinds: the token types of those three; of_text: the types of the two texts.
    """

    around: tuple[Array, Array, Array]
    kinds: tuple[Array, Array, Array]
    of_text: tuple[int, int]

    @property
    def special(self) -> int:
        """How many special tokens a pair has."""
        return sum(map(len, self.around))

    def fill(self, texts: Sequence[Array]) -> Array:
        """int64 `[T]`: the ids of two texts with the special tokens."""
        before, between, after = self.around
        return np.concatenate([before, texts[0], between, texts[1], after])

    def segments(self, lengths: Sequence[int]) -> Array:
        """int64 `[T]`: which text each token is of, -1 for the special ones."""
        before, between, after = (np.full(len(ids), -1, dtype=np.int64) for ids in self.around)
        first, second = (np.full(length, number, dtype=np.int64) for number, length in enumerate(lengths))
        return np.concatenate([before, first, between, second, after])

    def types(self, lengths: Sequence[int]) -> Array:
        """int64 `[T]`: `token_type_ids`."""
        first, second = (np.full(n, kind, dtype=np.int64) for n, kind in zip(lengths, self.of_text, strict=True))
        return np.concatenate([self.kinds[0], first, self.kinds[1], second, self.kinds[2]])


def pair_template(tokenizer: Tokenizer) -> PairTemplate:
    """The template of a tokenizer that neither truncates nor pads. Raises SpecError for one that has none."""
    for probe in ("a", "0", ".", *sorted(tokenizer.get_vocab())):
        with tokenizing("reading a pair of texts"):
            found = tokenizer.encode(probe, probe)
        parts = np.array([-1 if part is None else part for part in found.sequence_ids], dtype=np.int64)
        first, second = np.flatnonzero(parts == 0), np.flatnonzero(parts == 1)
        if len(first) and len(second):
            return _cut(np.array(found.ids, np.int64), np.array(found.type_ids, np.int64), first, second)
    raise SpecError("The tokenizer gives no tokens for a pair of texts.")


def _cut(ids: Array, types: Array, first: Array, second: Array) -> PairTemplate:
    if second[0] < first[-1]:
        raise SpecError("The tokenizer puts the second text of a pair before the first, which is not supported.")
    cuts = (slice(0, first[0]), slice(first[-1] + 1, second[0]), slice(second[-1] + 1, len(ids)))
    around = (ids[cuts[0]], ids[cuts[1]], ids[cuts[2]])
    kinds = (types[cuts[0]], types[cuts[1]], types[cuts[2]])
    return PairTemplate(around, kinds, (int(types[first[0]]), int(types[second[0]])))
