"""Generation without a cache: the whole text is read again for every token. NumPy alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import final

import numpy as np

from zoo.modalities.base import Array, pad
from zoo.tasks.generation import most_probable


@final
class RerunStepper:
    """Runs the whole text again for every token: for a graph without a cache.

    forward: int64 `input_ids` and `attention_mask`, both `[B, T]`, to outputs with `logits [B, T, V]`. Rows are
    padded on the right, as in training. checks: of `Checker`.
    """

    def __init__(
        self, forward: Callable[[dict[str, Array]], Mapping[str, Array]], pad_id: int, *, checks: bool = True
    ) -> None:
        self._forward = forward
        self._pad_id = pad_id
        self.checks = checks
        self._rows: list[Array] = []

    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        self._rows = [ids[mask.astype(bool)] for ids, mask in zip(input_ids, attention_mask, strict=True)]
        return self._run()

    def advance(self, tokens: Array) -> Array:
        self._rows = [np.append(row, token) for row, token in zip(self._rows, tokens, strict=True)]
        return self._run()

    def best(self, tokens: Array) -> Array:
        return most_probable(self.advance(tokens))

    def select(self, rows: Array) -> None:
        self._rows = [self._rows[i] for i in rows]

    def join(self, other: RerunStepper) -> None:
        """The rows of another come behind these."""
        self._rows += other._rows

    def check(self, tokens: Array) -> Array:
        self._rows = [np.append(self._rows[0], tokens)]
        return np.asarray(self._logits()[0, -len(tokens) :], dtype=np.float32)

    def forget(self, count: int) -> None:
        self._rows = [self._rows[0][:-count]]

    def _run(self) -> Array:
        last = np.array([len(row) - 1 for row in self._rows])
        return np.asarray(self._logits()[np.arange(len(last)), last], dtype=np.float32)

    def _logits(self) -> Array:
        ids = pad(self._rows, self._pad_id)
        mask = pad([np.ones(len(row), dtype=np.int64) for row in self._rows], 0)
        return self._forward({"input_ids": ids, "attention_mask": mask})["logits"]
