"""Whisper's timestamps: which tokens may follow which, and the stretches of speech that they mark.

As transformers' WhisperTimeStampLogitsProcessor and `generate`, which go back to OpenAI's `whisper.decoding` and
`whisper.transcribe`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from zoo.modalities.base import Array
from zoo.tasks.arrays import log_softmax

SECONDS = 0.02  # from one timestamp token to the next
FRAMES = 2  # of the spectrogram, in that time
_NEVER = -np.inf


@dataclass(frozen=True, slots=True)
class TimestampRule:
    """Scores of the next token, so that timestamps come first, in pairs around text, and never go back.

    begin: the id of `<|0.00|>`, which all timestamps follow; the one before it says that there are none. end: of the
    transcript. latest: the largest timestamp that may come first, in tokens after `<|0.00|>`; None for any.
    """

    begin: int
    end: int
    latest: int | None = None

    def __call__(self, scores: Array, tokens: Array) -> Array:
        """scores: float `[V]`, logits or log-probabilities; tokens: int64 `[T]`, written so far, without the prompt."""
        scores = scores.copy()
        scores[self.begin - 1] = _NEVER
        if not len(tokens):
            scores[: self.begin] = _NEVER
            if self.latest is not None:
                scores[self.begin + self.latest + 1 :] = _NEVER
        timed = tokens >= self.begin
        last = len(tokens) > 0 and bool(timed[-1])
        before = len(tokens) < 2 or bool(timed[-2])
        if last and before:
            scores[self.begin :] = _NEVER
        elif last:
            scores[: self.end] = _NEVER
        if timed.any():
            # A stretch may begin where the last one ended; it does not end where it began.
            least = int(tokens[timed][-1]) + (0 if last and not before else 1)
            scores[self.begin : least] = _NEVER
        return self._likelier(scores)

    def _likelier(self, scores: Array) -> Array:
        """Timestamps alone where all of them together are likelier than any text."""
        found = log_softmax(scores.astype(np.float32))
        times = found[self.begin :]
        highest = times.max(initial=_NEVER)
        if highest == _NEVER:
            return scores
        together = highest + np.log(np.exp(times - highest).sum())
        if together > found[: self.begin].max(initial=_NEVER):
            scores[: self.begin] = _NEVER
        return scores


class Stretch(NamedTuple):
    """Times in seconds of the whole recording; tokens with the timestamps around them."""

    start: float
    end: float
    tokens: tuple[int, ...]


def stretches(tokens: Sequence[int], begin: int, seek: int, heard: int) -> tuple[list[Stretch], int]:
    """What was written of one window, cut where two timestamps meet, and how many frames are done with.

    begin: the id of `<|0.00|>`. seek: the window's first frame. heard: frames of the window that have sound. What
    follows the last pair of timestamps is thrown away, and heard again from there.
    """
    timed = [token >= begin for token in tokens]
    alone = timed[-2:] == [False, True]
    cuts = [i + 1 for i in range(len(tokens) - 1) if timed[i] and timed[i + 1]]
    offset = seek * SECONDS / FRAMES
    if not cuts:
        times = [token - begin for token in tokens if token >= begin]
        last = times[-1] if times and times[-1] else heard // FRAMES
        return [Stretch(offset, offset + last * SECONDS, tuple(tokens))], heard
    if alone:
        cuts.append(len(tokens))
    else:
        # The last one keeps both timestamps, which says that it was no ending.
        cuts[-1] += 1
    found, first = [], 0
    for number, cut in enumerate(cuts):
        part = tokens[first:cut]
        end = part[-2] if number == len(cuts) - 1 and not alone else part[-1]
        found.append(Stretch(offset + (part[0] - begin) * SECONDS, offset + (end - begin) * SECONDS, tuple(part)))
        first = cut
    done = heard if alone else (tokens[first - 2] - begin) * FRAMES
    return found, done if done > 0 else heard
