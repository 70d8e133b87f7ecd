"""A report as tables for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from zoo import terminal
from zoo.terminal import left, right

if TYPE_CHECKING:
    from zoo.report import ClassScore, Confusion, Report

_WIDTH = 80
_LABEL = 30
_SHORT = 22  # beside four figures
_CLASSES = 30
_SKIPPED = 5


def text(report: Report) -> str:
    """Metrics, the scores of classes or entities, the confusion, and what was skipped."""
    rows = f"{report.rows:,} row{'' if report.rows == 1 else 's'}"
    skipped = f", {len(report.skipped)} skipped" if report.skipped else ""
    blocks = [f"{report.task}: {rows}{skipped}", _metrics(report)]
    shown = report.entities or report.per_class
    if shown:
        blocks.append(_scores("entity" if report.entities else "label", shown, report))
        blocks.append(_areas(shown))
        blocks.append(_overlaps(shown))
    if report.confusion is not None:
        blocks.append(_confusion(report.confusion))
    if report.skipped:
        blocks.append(_skipped(report.skipped))
    return "\n\n".join(block for block in blocks if block)


def fit(label: str, cells: int) -> str:
    """A label in one line of at most so many cells; one of white space alone as Python writes it."""
    return terminal.fit(label if label.strip() else repr(label), cells)


def number(value: float) -> str:
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"


def _metrics(report: Report) -> str:
    width = max(map(len, report.metrics), default=0)
    return "\n".join(f"  {name:<{width}}  {number(value):>10}" for name, value in report.metrics.items())


def _scores(title: str, scores: Sequence[ClassScore], report: Report) -> str:
    shown = scores[:_CLASSES]
    averages = list(report.averages.values())
    width = min(max(terminal.width(fit(score.label, _LABEL)) for score in [*shown, *averages]), _LABEL)
    width = max(width, len(title))
    lines = [f"  {title:<{width}}  precision    recall        f1   support", *(_line(score, width) for score in shown)]
    if len(scores) > len(shown):
        field = "entities" if report.entities else "per_class"
        lines.append(f"  ... and {len(scores) - len(shown):,} more in report.{field}")
    return "\n".join([*lines, "", *(_line(score, width) for score in averages)]).rstrip()


def _areas(scores: Sequence[ClassScore]) -> str:
    """Each class against the others, where that was measured. What is no number is a dash."""
    shown = [score for score in scores[:_CLASSES] if score.auroc is not None]
    if not shown:
        return ""
    width = max(5, *(terminal.width(fit(score.label, _SHORT)) for score in shown))
    lines = [f"  {'label':<{width}}  sensitivity  specificity     auroc  average precision"]
    for score in shown:
        figures = (score.recall, score.specificity, score.auroc, score.average_precision)
        texts = [f"{value:.4f}" if value is not None else "-" for value in figures]
        line = "".join(f"{text:>{column}}" for text, column in zip(texts, (13, 13, 10, 19), strict=True))
        lines.append(f"  {left(fit(score.label, width), width)}{line}")
    return "\n".join(lines)


def _overlaps(scores: Sequence[ClassScore]) -> str:
    """Each class's intersection over union, of a segmentation."""
    shown = [(score.label, score.iou) for score in scores[:_CLASSES] if score.iou is not None]
    if not shown:
        return ""
    width = max(5, *(terminal.width(fit(label, _LABEL)) for label, _ in shown))
    lines = (f"  {left(fit(label, width), width)}  {value:>9.4f}" for label, value in shown)
    return "\n".join([f"  {'label':<{width}}        IoU", *lines])


def _line(score: ClassScore, width: int) -> str:
    figures = f"{score.precision:>9.4f} {score.recall:>9.4f} {score.f1:>9.4f} {score.support:>9,}"
    return f"  {left(fit(score.label, width), width)}  {figures}"


def _confusion(confusion: Confusion) -> str:
    if _LABEL + len(confusion.labels) * (_column(confusion) + 1) <= _WIDTH - 2:
        return _matrix(confusion)
    worst = confusion.worst()
    if not worst:
        return ""
    lines = (f"  {times:>7,}  {fit(true, _LABEL)} -> {fit(answer, _LABEL)}" for true, answer, times in worst)
    return "\n".join(["  most frequent mistakes (label -> answer)", *lines])


def _column(confusion: Confusion) -> int:
    """The width that no label and no count of a confusion passes."""
    counts = (len(f"{cell:,}") for row in confusion.matrix for cell in row)
    return max([5, *map(terminal.width, confusion.labels), *counts])


def _matrix(confusion: Confusion) -> str:
    corner, column = "label \\ answer", _column(confusion)
    first = min(max(map(terminal.width, (corner, *confusion.labels))), _LABEL)
    lines = [_cells(corner, first, confusion.labels, column)]
    for label, row in zip(confusion.labels, confusion.matrix, strict=True):
        lines.append(_cells(label, first, (f"{cell:,}" for cell in row), column))
    return "\n".join(lines)


def _cells(label: str, first: int, cells: Iterable[str], column: int) -> str:
    return f"  {left(fit(label, first), first)}" + "".join(f" {right(fit(cell, column), column)}" for cell in cells)


def _skipped(skipped: Sequence[str]) -> str:
    lines = [f"  {fit(message, _WIDTH - 2)}" for message in skipped[:_SKIPPED]]
    if len(skipped) > _SKIPPED:
        lines.append(f"  ... and {len(skipped) - _SKIPPED:,} more in report.skipped")
    return "\n".join(["  skipped", *lines])
