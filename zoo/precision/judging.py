"""What a reduced graph is judged by: the task's own metric on labelled rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.inference import Batch, batches, limits_of, make_batch
from zoo.modalities.base import Array
from zoo.predictor import Predictor
from zoo.runtime.caching import CachedSession
from zoo.runtime.session import Session
from zoo.training.data import Rows
from zoo.training.documents import evaluated

Arrays = Mapping[str, Array]
OneGraph = Session | CachedSession
"""What runs a bundle whose weights are in one graph."""

# Of metrics without an upper bound a loss is a share of what fp32 has; of the others, shares themselves, a difference.
_UNBOUNDED = ("loss", "log_loss", "perplexity", "rmse", "mae", "bleu", "chrf")
_TIMED_ROWS = 64


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


def measure(predictor: Predictor, rows: Rows, run: Callable[[Arrays], dict[str, Array]]) -> Score:
    """The metric that the task is judged by, of whatever answers batches: `run` of a session.

    Raises DataError where these rows have none.
    """
    from zoo.training.evaluation import score

    report = score(
        lambda batch: run(batch.inputs), predictor.task, predictor.encoder, evaluated(predictor.task, rows),
        batch_size="auto", accelerated=predictor.accelerated, on_error="raise",
    )  # fmt: skip
    name, higher = predictor.task.judged_by(report.metrics)
    value = report.metrics.get(name, math.nan)
    if math.isnan(value):
        raise DataError(f"{len(rows)} rows give no {name} to judge by. Give more rows, of more than one label.")
    return Score(name, value, higher)


def inputs_of(predictor: Predictor, rows: Rows, count: int) -> list[Arrays]:
    """Some of the rows, from everywhere among them, as the batches of arrays `[B, ...]` that predict() makes."""
    rows = evaluated(predictor.task, rows)
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    windows = [
        window.at(number)
        for number, place in enumerate(places)
        for window in predictor.task.examples(predictor.encoder, rows[int(place)].input, rows[int(place)].target)
    ]
    limits = limits_of("auto", predictor.spec.input.kind, accelerated=predictor.accelerated)
    made: list[Batch] = [make_batch(predictor.encoder, predictor.task, batch) for batch in batches(windows, limits)]
    return [batch.inputs for batch in made]


def timed(predictor: Predictor, rows: Rows) -> list[Arrays]:
    """The batches that speed is measured on."""
    return inputs_of(predictor, rows, _TIMED_ROWS)


def distance(expected: Sequence[Mapping[str, Any]], came: Sequence[Mapping[str, Any]]) -> float:
    """How far answers are from the expected ones: the root of the squared differences' share of the squares."""
    lost = total = 0.0
    for ours, theirs in zip(came, expected, strict=True):
        for name, array in theirs.items():
            if array.dtype.kind == "f":
                finite = np.isfinite(array)
                lost += float(np.square(ours[name][finite].astype(np.float64) - array[finite]).sum())
                total += float(np.square(array[finite].astype(np.float64)).sum())
    return math.inf if math.isnan(lost) else math.sqrt(lost / max(total, 1e-12))
