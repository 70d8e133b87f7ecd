"""Beam search over the tokens of one row: the algorithm of transformers' `_beam_search`, without its batch.

Scores are float32, as there: what is out of the race has -1e9 added, and smaller differences drown in that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

import numpy as np

from zoo.modalities.base import Array
from zoo.tasks.arrays import log_softmax
from zoo.tasks.processors import process

if TYPE_CHECKING:
    from zoo.tasks.sequences import Settings

_OUT = np.float32(-1e9)


@final
class Beams:
    """The running beams of one row, best first, and the finished ones, best first."""

    def __init__(self, prompt: Array, settings: Settings, eos_id: int | None) -> None:
        self._settings = settings
        self._eos_id = eos_id
        self._prompt = len(prompt)
        beams = settings.num_beams
        self._tokens = np.tile(np.asarray(prompt, dtype=np.int64), (beams, 1))
        self._scores = np.full(beams, _OUT, dtype=np.float32)
        self._scores[0] = 0.0
        self._done: list[tuple[np.float32, bool, Array]] = [(_OUT, False, prompt[:0])] * beams
        self._improvable = True
        self.finished = False

    def step(self, logits: Array) -> tuple[Array, Array]:
        """One token more. logits: float32 `[K, V]` of the running beams.

        Returns the new last tokens of the beams, and which beam each goes on from: both int64 `[K]`.
        """
        beams = self._settings.num_beams
        totals = self._totals(logits)
        best = _top(totals.reshape(-1), 2 * beams)
        scores, parents, tokens = totals.reshape(-1)[best], best // logits.shape[1], best % logits.shape[1]
        made = self._tokens.shape[1] + 1 - self._prompt
        ended = np.full(len(best), made >= self._settings.max_new_tokens)
        if self._eos_id is not None:
            ended |= tokens == self._eos_id
        self._finish(scores, parents, tokens, ended, made)
        running = scores + ended.astype(np.float32) * _OUT
        kept = _top(running, beams)
        self._tokens = np.concatenate([self._tokens[parents[kept]], tokens[kept, None]], axis=1)
        self._scores = running[kept]
        self._judge(made, bool(ended.all()))
        return tokens[kept], parents[kept]

    def best(self) -> tuple[tuple[int, ...], Literal["length", "eos"], float]:
        """Tokens without prompt and end, why it ended, its score."""
        score, _, tokens = self._done[0]
        made = tokens[self._prompt :].tolist()
        if made and made[-1] == self._eos_id:
            return tuple(made[:-1]), "eos", float(score)
        return tuple(made), "length", float(score)

    def _totals(self, logits: Array) -> Array:
        """float32 `[K, V]`: what each beam's log-probability would be with each token."""
        found = log_softmax(logits.astype(np.float32))
        rows = [
            process(row, self._tokens[i], self._prompt, self._settings, self._eos_id) for i, row in enumerate(found)
        ]
        return np.asarray(np.stack(rows) + self._scores[:, None])

    def _finish(self, scores: Array, parents: Array, tokens: Array, ended: Array, made: int) -> None:
        """Keep the best finished sequences. Only the best K candidates may end: the others are spare."""
        settings = self._settings
        full = all(done for _, done, _ in self._done)
        if not self._improvable or (full and settings.early_stopping is True):
            return
        worth = scores / np.float32(made**settings.length_penalty)
        for place in range(settings.num_beams):
            if ended[place]:
                sequence = np.append(self._tokens[parents[place]], tokens[place])
                self._done.append((worth[place], True, sequence))
        self._done = sorted(self._done, key=lambda entry: -entry[0])[: settings.num_beams]

    def _judge(self, made: int, all_ended: bool) -> None:
        """Whether a running beam could still become better than the worst finished one, by upstream's estimates."""
        settings = self._settings
        longest = settings.early_stopping == "never" and settings.length_penalty > 0
        length = settings.max_new_tokens if longest else made
        hope = self._scores[0] / np.float32(length**settings.length_penalty)
        full = all(done for _, done, _ in self._done)
        any_open = any(not done for _, done, _ in self._done)
        worst = min(score for score, _, _ in self._done)
        beaten = any(done for _, done, _ in self._done) and hope > worst
        self._improvable = self._improvable and bool(beaten or (any_open and hope > _OUT))
        self.finished = not self._improvable or (full and settings.early_stopping is True) or all_ended


def _top(values: Array, count: int) -> Array:
    """int64: the places of the largest values, largest first."""
    count = min(count, len(values))
    places = np.argpartition(-values, count - 1)[:count] if count < len(values) else np.arange(len(values))
    return np.asarray(places[np.lexsort((places, -values[places]))])
