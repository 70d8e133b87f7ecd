"""One figure that a graph is judged by."""

from __future__ import annotations

import math
from dataclasses import dataclass

# Of metrics without an upper bound a loss is a share of what fp32 has; of the others, shares themselves, a difference.
_UNBOUNDED = ("loss", "log_loss", "perplexity", "rmse", "mae", "bleu", "chrf")


@dataclass(frozen=True, slots=True)
class Score:
    """One metric of one graph."""

    metric: str
    value: float
    higher_is_better: bool

    @property
    def relative(self) -> bool:
        """Whether a loss is counted as a share of fp32's value."""
        return self.metric in _UNBOUNDED

    def drop_to(self, other: Score) -> float:
        """How much worse the other is; below zero where it is better, infinite where it is no number."""
        lost = self.value - other.value if self.higher_is_better else other.value - self.value
        if math.isnan(lost):
            return math.inf
        return lost / max(abs(self.value), 1e-12) if self.relative else lost
