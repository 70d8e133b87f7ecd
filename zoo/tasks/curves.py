"""Measures of a ranking: areas under ROC and precision-recall curves, by class and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import final

import numpy as np

from zoo.modalities.base import Array
from zoo.report import ClassScore

# Scores are kept, four bytes a row and label: of a thousand labels they would fill the memory.
MOST_LABELS = 100


def roc_auc(scores: Array, true: Array) -> float | None:
    """The area under the ROC curve: how often a row of the class has a higher score than one of the others.

    scores: float `[N]`; true: bool `[N]`. Ties count half. None where all rows are of the class, or none is.
    Agrees with scikit-learn's `roc_auc_score`.
    """
    positive = int(true.sum())
    negative = len(true) - positive
    if not positive or not negative:
        return None
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    # The mean rank, from 1, of all that share a score.
    rank = np.cumsum(count) - (count - 1) / 2
    return float((rank[place][true].sum() - positive * (positive + 1) / 2) / (positive * negative))


def average_precision(scores: Array, true: Array) -> float | None:
    """The area under the precision-recall curve, by steps: scikit-learn's `average_precision_score`.

    scores: float `[N]`; true: bool `[N]`. None where no row is of the class.
    """
    positive = int(true.sum())
    if not positive:
        return None
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    # Rows of one score are one step: their order says nothing.
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    found = np.cumsum(true[order])[ends]
    gained = np.diff(found, prepend=0) / positive
    return float((gained * (found / (ends + 1))).sum())


@final
class ScoreKeeper:
    """Every row's scores, float32, for what only the whole ranking tells. Keeps nothing for more than 100 labels."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.on = 0 < len(labels) <= MOST_LABELS
        self._scores: list[Array] = []
        self._true: list[Array] = []

    def update(self, scores: Array, true: Array) -> None:
        """One row. scores: float `[C]`; true: bool `[C]`, which labels it has."""
        if self.on:
            self._scores.append(scores.astype(np.float32))
            self._true.append(np.asarray(true, dtype=bool))

    def areas(self) -> list[tuple[float | None, float | None]]:
        """(AUROC, average precision) of each label against the others."""
        if not self._scores:
            return []
        scores, true = np.stack(self._scores), np.stack(self._true)
        columns = zip(scores.T, true.T, strict=True)
        return [(roc_auc(column, rows), average_precision(column, rows)) for column, rows in columns]

    def add_to(self, classes: tuple[ClassScore, ...]) -> tuple[ClassScore, ...]:
        """The classes' scores with their areas."""
        areas = self.areas()
        if not areas:
            return classes
        return tuple(
            replace(score, auroc=auroc, average_precision=precision)
            for score, (auroc, precision) in zip(classes, areas, strict=True)
        )


def mean_areas(classes: Sequence[ClassScore]) -> dict[str, float]:
    """`auroc` and `average_precision`: plain means over the classes that have one; left out where none has."""
    found = {}
    for name in ("auroc", "average_precision"):
        values = [value for score in classes if (value := getattr(score, name)) is not None]
        if values:
            found[name] = sum(values) / len(values)
    return found
