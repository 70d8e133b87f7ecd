"""Guesses at how a text goes on: as it did where the same tokens stood before. NumPy alone.

A step of one text waits for the weights to be read, so that a model reads a few tokens in little more than the time of
one. A guess changes no token: each is chosen as without it, and what was read behind the first wrong one is forgotten.
Prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding), speculation without a second model.
"""

from __future__ import annotations

from typing import final

import numpy as np

from zoo.modalities.base import Array

_LONGEST, _SHORTEST = 4, 2  # tokens in a row that must be the same
_PAUSE = 16  # steps


@final
class Lookup:
    """Of one text. most: tokens that are guessed at once, 0 for none.

    Guesses that are all wrong make it pause, each time twice as long, so that a text that repeats nothing costs little.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._wait = 0
        self._pause = 1

    def guess(self, text: Array, room: int) -> Array:
        """int64 `[G]`, what may follow `text [N]`: `room` tokens at most, or none."""
        most = min(self._most, room)
        if most <= 0:
            return text[:0]
        if self._wait:
            self._wait -= 1
            return text[:0]
        for size in range(min(_LONGEST, len(text) - 1), _SHORTEST - 1, -1):
            runs = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            places = np.flatnonzero((runs == text[-size:]).all(axis=1))
            if len(places):
                # A text that goes round is followed round.
                return np.resize(text[places[-1] + size :], most)
        return text[:0]

    def learn(self, right: int) -> None:
        """right: how many of the last guess's tokens were."""
        if right:
            self._wait, self._pause = 0, 1
        else:
            self._wait, self._pause = self._pause, min(2 * self._pause, _PAUSE)
