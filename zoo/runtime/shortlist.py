"""The most probable token without the logits of all: of a small language model they are a quarter of a step's work.

An output layer in int8 says of every token what its logit is about, and how far that may be off at most. The logits of
those that may be the largest are then computed in float32, and what is larger than all that the others may reach is
certain. (`zoo.shortlist` writes the graph, and says how the bound comes about.)
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np

from zoo.errors import BundleError

if TYPE_CHECKING:
    from zoo.modalities.base import Array

MOST_ROWS = 8  # of more all logits are as quick
_ROUNDING = 1e-4  # of the largest logit: between float32 in one order and in another


@final
class Shortlist:
    """What a graph's shortlists say, and whether it may be believed.

    graph: the file. vocabulary: how many tokens there are.
    It is trusted with so many rows once it has been right about logits of as many that were computed whole, and never
    again where it was wrong: another processor might multiply int8 in another way than the bound supposes.
    """

    def __init__(self, graph: Path, vocabulary: int) -> None:
        self._graph = graph
        self._vocabulary = vocabulary
        self._proved: set[int] = set()
        self.refuted = False

    def proved(self, rows: int) -> bool:
        """Whether `logits` may be asked of so many rows."""
        return rows in self._proved and not self.refuted

    def logits(self, outputs: Mapping[str, Array], rows: int) -> Array | None:
        """float32 `[R, V]`, all -inf but those of the shortlists. None where they do not tell what is the largest."""
        tokens, logits, rest = self._parts(outputs, rows)
        # Not so for NaN.
        if not (logits.max(axis=1) > rest).all():
            return None
        found = np.full((len(logits), self._vocabulary), -np.inf, dtype=np.float32)
        np.put_along_axis(found, tokens, logits, axis=1)
        return found

    def prove(self, outputs: Mapping[str, Array], logits: Array) -> None:
        """Compare what a graph gave with logits of the same rows, float32 `[R, V]`."""
        if not np.isfinite(logits).all():
            return
        tokens, found, rest = self._parts(outputs, len(logits))
        close = _ROUNDING * max(1.0, float(np.abs(logits).max()))
        others = logits.copy()
        np.put_along_axis(others, tokens, -np.inf, axis=1)
        same = np.abs(np.take_along_axis(logits, tokens, axis=1) - found).max() <= close
        if same and (others.max(axis=1) <= rest + close).all():
            self._proved.add(len(logits))
            return
        self.refuted = True
        warnings.warn(
            f"{self._graph} is wrong about its model's logits on this machine: all of them are computed from now on, "
            "which gives the same answers, and takes longer.",
            RuntimeWarning,
            stacklevel=2,
        )

    def _parts(self, outputs: Mapping[str, Array], rows: int) -> tuple[Array, Array, Array]:
        """int64 tokens and their logits, both `[R, K]`, and `[R]`, what no other token's logit is above."""
        tokens, logits, rest = outputs["candidates"], outputs["candidate_logits"], outputs["rest"]
        fits = tokens.shape == logits.shape and rest.shape == tokens.shape[:1] == (rows,) and tokens.shape[1] > 0
        if not (fits and (tokens >= 0).all() and (tokens < self._vocabulary).all()):
            raise BundleError(f"{self._graph} lists tokens that are none of its vocabulary of {self._vocabulary:,}.")
        return tokens, logits, rest
