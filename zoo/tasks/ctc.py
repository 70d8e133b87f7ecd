"""Vocabularies of CTC models: text to ids, frames to text, and how many frames a text needs."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array

_BLANKS = ("<pad>", "[PAD]", "<blank>", "[blank]", "<ctc_blank>")
_UNKNOWN = ("<unk>", "[UNK]")
_SPECIAL = re.compile(r"<.+>|\[.+\]")
# Wav2Vec2's feature encoder, which HuBERT, WavLM, Data2Vec-Audio and UniSpeech share.
_KERNELS = (10, 3, 3, 3, 3, 2, 2)
_STRIDES = (5, 2, 2, 2, 2, 2, 2)
_MISSING = "\ufffd"


class Token(NamedTuple):
    """A token heard in the frames from `first` up to, and without, `end`. Between words the text is a space."""

    text: str
    first: int
    end: int
    score: float


@final
class Vocabulary:
    """The tokens of a CTC head, in the order of its logits.

    blank: the index of CTC's blank (`<pad>`, or torchaudio's `-` in the first place). space: what stands between
    two words in a text: a space, or nothing for a vocabulary without `|`. Texts take the case of the vocabulary.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self.tokens = tuple(tokens)
        self.blank = _blank(self.tokens)
        self._unknown = next((i for i, token in enumerate(tokens) if token in _UNKNOWN), None)
        self._delimiter = next((token for token in ("|", " ") if token in tokens), None)
        self.space = " " if self._delimiter is not None else ""
        spoken = {token: i for i, token in enumerate(tokens) if i != self.blank and not _SPECIAL.fullmatch(token)}
        self._index = spoken
        self._case = _case(spoken)
        # The longest token first, for vocabularies that have more than characters.
        choices = sorted(filter(None, spoken), key=len, reverse=True)
        self._pattern = re.compile("|".join([*map(re.escape, choices), "(.)"]), re.DOTALL)

    def ids(self, text: str) -> Array:
        """int64 `[L]`. Raises DataError naming characters that are not in a vocabulary without `<unk>`."""
        words = self._cased(unicodedata.normalize("NFC", text)).replace("|", " ").split()
        written = (self._delimiter or "").join(words)
        found, strange = [], []
        for match in self._pattern.finditer(written):
            if match.lastindex is None:
                found.append(self._index[match[0]])
            elif self._unknown is not None:
                found.append(self._unknown)
            else:
                strange.append(match[0])
        if strange:
            named = ", ".join(repr(character) for character in sorted(set(strange)))
            known = " ".join(self._index)
            raise DataError(f"The transcript has {named}, which the model's vocabulary has not. It has: {known}")
        return np.array(found, dtype=np.int64)

    def spell(self, word: str) -> list[int]:
        """The ids of one word, in the vocabulary's case, the delimiter behind it; empty when it can't be written."""
        found = []
        for match in self._pattern.finditer(self._cased(unicodedata.normalize("NFC", word))):
            if match.lastindex is not None:
                return []
            found.append(self._index[match[0]])
        return [*found, self._index[self._delimiter]] if found and self._delimiter else []

    def text(self, ids: Array) -> str:
        """The text of vocabulary ids; an unknown one is shown as the replacement character."""
        shown = (_MISSING if i == self._unknown else self._spoken(int(i)) for i in ids)
        return " ".join("".join(shown).split())

    def read(self, probabilities: Array) -> list[Token]:
        """Greedy decoding of frames float `[F, V]`: the likeliest token of each, repeats and blanks left out."""
        if not len(probabilities):
            return []
        best = probabilities.argmax(axis=-1)
        firsts = np.flatnonzero(np.append(True, best[1:] != best[:-1]))
        ends = np.append(firsts[1:], len(best))
        peaks = probabilities.max(axis=-1)
        return [
            Token(self._spoken(int(best[first])), int(first), int(end), float(peaks[first]))
            for first, end in zip(firsts, ends, strict=True)
            if best[first] != self.blank and self._spoken(int(best[first]))
        ]

    def _spoken(self, index: int) -> str:
        token = self.tokens[index]
        if token == self._delimiter:
            return " "
        return token if token in self._index else ""

    def _cased(self, text: str) -> str:
        return {"upper": text.upper, "lower": text.lower}.get(self._case, lambda: text)()


def transcript(target: Any) -> str:
    """A target as text. Raises DataError when it is missing or is no text."""
    if target is None or (isinstance(target, float) and np.isnan(target)) or type(target).__name__ == "NAType":
        raise DataError("The transcript is missing.")
    if not isinstance(target, str):
        raise DataError(f"A transcript is a text, not {type(target).__name__}.")
    if not target.strip():
        raise DataError("The transcript is missing (an empty text).")
    return str(target)


def characters(texts: Iterable[str]) -> tuple[str, ...]:
    """A vocabulary for these texts: `<pad>`, `<unk>`, `|`, and their characters as they are written, sorted."""
    found = {character for text in texts for character in unicodedata.normalize("NFC", text)}
    return ("<pad>", "<unk>", "|", *sorted(c for c in found if not c.isspace() and c != "|"))


def frames(samples: int, config: Mapping[str, Any]) -> int:
    """Frames that the feature encoder makes of so many samples. config: the spec's, for conv_kernel and conv_stride."""
    for kernel, stride in zip(config.get("conv_kernel", _KERNELS), config.get("conv_stride", _STRIDES), strict=True):
        samples = max((samples - kernel) // stride + 1, 0)
    return samples


def stride(config: Mapping[str, Any]) -> int:
    """Samples between the beginnings of two frames."""
    return math.prod(config.get("conv_stride", _STRIDES))


def text_of(tokens: Iterable[Token]) -> str:
    return " ".join("".join(token.text for token in tokens).split())


def words_of(tokens: Sequence[Token], *, separate: bool) -> list[list[Token]]:
    """Tokens by word. separate: each token is a word, for a vocabulary that writes none between words."""
    words: list[list[Token]] = [[]]
    for token in tokens:
        if not token.text.strip() or separate:
            words.append([])
        if token.text.strip():
            words[-1].append(token)
    return [word for word in words if word]


def stitch(frames: Sequence[Array], starts: Sequence[int], sizes: Sequence[int], stride: int) -> tuple[Array, Array]:
    """The frames of overlapping windows as one row of frames `[F, ...]`, and where each begins: int64 `[F]`, samples.

    Of what two windows share, the first half is the earlier one's: both then decide where they heard what came
    before and after. starts, sizes: of the windows, in samples. stride: samples between two frames.
    """
    places = [start + stride * np.arange(len(part)) for part, start in zip(frames, starts, strict=True)]
    kept = []
    for index, place in enumerate(places):
        keep = np.ones(len(place), dtype=bool)
        if index:
            keep &= place >= (starts[index] + starts[index - 1] + sizes[index - 1]) / 2
        if index + 1 < len(places):
            keep &= place < (starts[index + 1] + starts[index] + sizes[index]) / 2
        kept.append(keep)
    joined = np.concatenate([part[keep] for part, keep in zip(frames, kept, strict=True)])
    return joined, np.concatenate([place[keep] for place, keep in zip(places, kept, strict=True)])


def frames_needed(labels: Array) -> int:
    """The fewest frames that CTC can align: one a label, and a blank between two that are equal."""
    return len(labels) + int((labels[1:] == labels[:-1]).sum())


def _blank(tokens: Sequence[str]) -> int:
    for name in _BLANKS:
        if name in tokens:
            return tokens.index(name)
    if tokens and tokens[0] == "-":
        return 0
    raise ConfigError(
        f"A CTC vocabulary needs a blank: one of {', '.join(_BLANKS)}, or '-' in the first place. "
        f"These labels have none: {', '.join(tokens[:10])}{', ...' if len(tokens) > 10 else ''}."
    )


def _case(tokens: Iterable[str]) -> str:
    """upper, lower or both: what the letters of a vocabulary are."""
    joined = "".join(tokens)
    if joined.isupper():
        return "upper"
    return "lower" if joined.islower() else "both"
