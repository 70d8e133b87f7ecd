"""What an evaluation found: metrics, scores of each class, confusion. Prints as tables, saves as a page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 in [0, 1] of one class, or of an average; support: how many there truly are.

    recall is also called sensitivity. specificity: the share of the other rows that were not given this label. auroc,
    average_precision: of the class against the others, None where it can't be told, or was not counted. iou:
    intersection over union, of the pixels of a segmentation.
    """

    label: str
    precision: float
    recall: float
    f1: float
    support: int
    specificity: float | None = None
    auroc: float | None = None
    average_precision: float | None = None
    iou: float | None = None

    @property
    def sensitivity(self) -> float:
        return self.recall


@dataclass(frozen=True, slots=True)
class Confusion:
    """matrix[i][j]: how often what is truly labels[i] was answered with labels[j]."""

    labels: tuple[str, ...]
    matrix: tuple[tuple[int, ...], ...]

    def worst(self, count: int = 5) -> list[tuple[str, str, int]]:
        """The most frequent mistakes: (true label, answer, how often), most frequent first."""
        found = [
            (self.labels[i], self.labels[j], times)
            for i, row in enumerate(self.matrix)
            for j, times in enumerate(row)
            if i != j and times
        ]
        return sorted(found, key=lambda item: -item[2])[:count]


@dataclass(frozen=True)
class Report:
    """An evaluation.

    metrics: by name; accuracies, F1 and error rates are fractions (a word error rate may pass 1).
    per_class: every label of the model, in its order. averages: "micro", "macro" and "weighted", over the classes that
        occur in the data or in the answers; of entities for token-classification.
    entities: scores of each entity type, by seqeval's conventions.
    rows: how many were measured; skipped: one message for each row that could not be read.
    history: one record an epoch, of the training that made the model.
    """

    task: str
    metrics: Mapping[str, float]
    per_class: tuple[ClassScore, ...] = ()
    averages: Mapping[str, ClassScore] = field(default_factory=dict)
    confusion: Confusion | None = None
    entities: tuple[ClassScore, ...] = ()
    rows: int = 0
    skipped: tuple[str, ...] = ()
    history: tuple[dict[str, Any], ...] = ()

    def __str__(self) -> str:
        from zoo.report_text import text

        return text(self)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; a figure that is not finite is None."""
        plain = _plain({item.name: getattr(self, item.name) for item in dataclasses.fields(self)})
        assert isinstance(plain, dict)
        return plain

    def to_html(self, path: str | Path) -> Path:
        """Write one self-contained page, plots inside. Raises MissingDependency without matplotlib."""
        from zoo.report_plots import html

        target = Path(path)
        target.write_text(html(self), encoding="utf-8")
        return target

    def plot(self, path: str | Path) -> Path:
        """Draw the learning curve, the confusion or the classes' F1 to a PNG, SVG or PDF, by the path's ending.

        Raises MissingDependency without matplotlib, ConfigError for another ending.
        """
        from zoo.report_plots import save

        return save(self, Path(path))


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: _plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
