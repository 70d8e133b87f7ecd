"""Guesses at how a text goes on, and how many at once: of its own words, or of a cheaper model's. NumPy alone.

A step of one text waits for the weights to be read, so that a model reads a few tokens in little more than the time of
one. A guess changes no token: each is chosen as without it, and what was read behind the first wrong one is forgotten.
Prompt lookup decoding (https://github.com/apoorvumang/prompt-lookup-decoding) guesses what stood behind the same tokens
before; speculative decoding (arXiv:2211.17192) asks a smaller model.
"""

from __future__ import annotations

from typing import final

import numpy as np

from zoo.modalities.base import Array

_LONGEST, _SHORTEST = 4, 2  # tokens in a row that must be the same
_PAUSE = 16  # steps


@final
class _Patience:
    """Guesses that are all wrong make it pause, each time twice as long, so that a text that none fits costs little.

    again: whether one that was right ends a pause that had grown long at once, or halves it.
    """

    def __init__(self, *, again: bool) -> None:
        self._again = again
        self._wait = 0
        self._pause = 0

    def over(self) -> bool:
        """Whether it is time for a guess; asked once a step."""
        self._wait -= self._wait > 0
        return not self._wait

    def learn(self, right: int) -> None:
        if not right:
            self._pause = min(max(2 * self._pause, 1), _PAUSE)
        else:
            self._pause = 0 if self._again else self._pause // 2
        self._wait = self._pause + 1


@final
class Lookup:
    """Of one text. most: tokens that are guessed at once, 0 for none."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._patience = _Patience(again=True)

    def guess(self, text: Array, room: int) -> Array:
        """int64 `[G]`, what may follow `text [N]`: `room` tokens at most, or none."""
        most = min(self._most, room)
        if most <= 0 or not self._patience.over():
            return text[:0]
        for size in range(min(_LONGEST, len(text) - 1), _SHORTEST - 1, -1):
            runs = np.lib.stride_tricks.sliding_window_view(text[:-1], size)
            places = np.flatnonzero((runs == text[-size:]).all(axis=1))
            if len(places):
                # A text that goes round is followed round.
                return np.resize(text[places[-1] + size :], most)
        return text[:0]

    def learn(self, right: int, guessed: int) -> None:
        """right: how many of the last guess's tokens were."""
        self._patience.learn(right)


@final
class Drafts:
    """How long the drafts of one text are: one token more after each that was right, and half as long at most after
    one that was not, or as long as it was right.

    most: tokens at once, 0 for none. first: how many to begin with.
    """

    def __init__(self, most: int, first: int) -> None:
        self._most = most
        self._size = min(first, most)
        # Each takes its time, which the few that are right of many don't win back.
        self._patience = _Patience(again=False)

    def size(self, room: int) -> int:
        """How many tokens to draft now: `room` at most."""
        size = min(self._size, room)
        return size if size > 0 and self._patience.over() else 0

    def learn(self, right: int, guessed: int) -> None:
        """right: how many of that draft's tokens were."""
        self._patience.learn(right)
        self._size = min(self._size + 1, self._most) if right == guessed else max(right, self._size // 2, 1)
