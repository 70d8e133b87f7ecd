"""What a reduced model is judged by: the task's own metric on labelled rows, or likeness where a task has none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError
from zoo.inference import Batch, batches, limits_of, make_batch
from zoo.precision.likeness import Likeness
from zoo.precision.scores import Score
from zoo.runtime import BundleModel
from zoo.tasks.feature_extraction import FeatureExtraction
from zoo.tasks.sequences import SequenceOptions
from zoo.training import scoring
from zoo.training.data import Rows
from zoo.training.documents import evaluated

Judge = Callable[[BundleModel], Score]
_TIMED_ROWS = 64


def judge(reference: BundleModel, rows: Rows) -> Judge:
    """What tells a model's score on these rows. The reference is fp32."""
    if isinstance(reference.task, FeatureExtraction):
        return Likeness(reference, rows).of
    return lambda model: measure(model, rows)


def measure(model: BundleModel, rows: Rows) -> Score:
    """The metric that the task is judged by, as `evaluate` counts it: of texts that are written, greedily, too.

    Raises DataError where these rows have none.
    """
    report = scoring.measure(model, rows)
    name, higher = model.task.judged_by(report.metrics)
    value = report.metrics.get(name, math.nan)
    if math.isnan(value):
        raise DataError(f"{len(rows)} rows give no {name} to judge by. Give more rows, of more than one label.")
    return Score(name, value, higher)


def batches_of(model: BundleModel, rows: Rows, count: int) -> list[Batch]:
    """Some of the rows, from everywhere among them, in the batches that predict() makes."""
    rows = evaluated(model.task, rows)
    places = np.unique(np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(int))
    windows = [window.at(number) for number, place in enumerate(places) for window in _windows(model, rows, int(place))]
    writing = issubclass(model.task.options, SequenceOptions)
    limits = limits_of("auto", model.spec.input.kind, accelerated=model.accelerated, writing=writing)
    return [make_batch(model.encoder, model.task, batch) for batch in batches(windows, limits)]


def _windows(model: BundleModel, rows: Rows, place: int) -> list[Any]:
    row = rows[place]
    if isinstance(model.task, FeatureExtraction):
        return model.task.encode(model.encoder, row.input)
    return model.task.examples(model.encoder, row.input, row.target)


def timed(model: BundleModel, rows: Rows) -> list[Batch]:
    """The batches that speed is measured on."""
    return batches_of(model, rows, _TIMED_ROWS)


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
