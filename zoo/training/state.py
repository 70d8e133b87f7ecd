"""Where a run stands: plain numbers and texts, written into every checkpoint as JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass
class RunState:
    """epoch: finished ones. step: optimiser steps of the run; done: of the running epoch. micro: inputs in a pass.

    loss, weight, samples, seconds: sums over the running epoch. rate: the learning rate of the last step.
    best_value: of the metric; best_step: where, which is the name of its checkpoint; stale: epochs since.
    skipped: rows that could not be read, and why.
    """

    micro: int = 1
    epoch: int = 0
    step: int = 0
    done: int = 0
    loss: float = 0.0
    weight: float = 0.0
    samples: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best_value: float | None = None
    best_step: int | None = None
    stale: int = 0
    finished: bool = False
    skipped: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> RunState:
        return cls(**data)

    def close_epoch(self) -> None:
        self.epoch += 1
        self.done = self.samples = 0
        self.loss = self.weight = self.seconds = 0.0

    def judge(self, value: float, *, higher: bool) -> bool:
        """Whether this epoch's metric is the best so far; counts the epochs since the best. Never true of NaN."""
        better = value == value and (
            self.best_value is None or (value > self.best_value if higher else value < self.best_value)
        )
        self.stale = 0 if better else self.stale + 1
        if better:
            self.best_value, self.best_step = value, self.step
        return better
