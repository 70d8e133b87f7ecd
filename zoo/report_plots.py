"""A report as plots and as one self-contained page. Needs matplotlib."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, missing
from zoo.report_fonts import lettering
from zoo.report_html import bullets, embedded, page, section, table
from zoo.report_text import fit, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo.report import ClassScore, Report

_FORMATS = (".png", ".svg", ".pdf")
_BARS = 40
_NAMED = 40  # labels on the axes of a confusion plot; more would overlap
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # of Okabe and Ito: told apart by the colour-blind too

Panel = Callable[["Axes"], None]


def save(report: Report, path: Path) -> Path:
    """Draw all panels side by side."""
    check_ending(path)
    figure([panel for _, panel in panels(report)]).savefig(path, bbox_inches="tight")
    return path


def check_ending(path: Path) -> None:
    """Raises ConfigError for a format that no plot is written in."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"A plot is written as {', '.join(_FORMATS)}, not {path.suffix or 'without an ending'!r}.")


def panels(report: Report) -> list[tuple[str, Panel]]:
    """Titled drawings: the training's course, the confusion, the classes' F1; metrics if there is nothing else."""
    found: list[tuple[str, Panel]] = []
    losses, metrics = _curves(report)
    if losses:
        found.append(("Loss by epoch", lambda axes: _draw_curves(axes, losses)))
    if metrics:
        found.append(("Metrics by epoch", lambda axes: _draw_curves(axes, metrics)))
    if report.confusion is not None and len(report.confusion.labels) > 1:
        found.append(("Confusion", lambda axes: _draw_confusion(axes, report)))
    scores = report.entities or (report.per_class if report.confusion is None else ())
    if scores:
        found.append(("F1 by entity" if report.entities else "F1 by label", lambda axes: _draw_scores(axes, scores)))
    return found or [("Metrics", lambda axes: _draw_metrics(axes, report.metrics))]


def drawn(report: Report) -> dict[str, bytes]:
    """Every panel as a PNG of its own, by its title."""
    found = {}
    for title, panel in panels(report):
        buffer = io.BytesIO()
        figure([panel]).savefig(buffer, format="png", bbox_inches="tight")
        found[title] = buffer.getvalue()
    return found


def html(report: Report) -> str:
    """The whole page; plots are inside it as PNG."""
    figures = "".join(embedded(title, data) for title, data in drawn(report).items())
    scores = report.entities or report.per_class
    sections = [
        section("Metrics", table(("metric", "value"), [(k, number(v)) for k, v in report.metrics.items()])),
        section("Entities" if report.entities else "Labels", _score_table(scores, report)) if scores else "",
        section("Plots", figures),
        section("Most frequent mistakes", _mistakes(report)) if _mistakes(report) else "",
        section("Training", history_table(report.history)) if report.history else "",
        section("Skipped rows", bullets(report.skipped)) if report.skipped else "",
    ]
    return page(f"{report.task}: {report.rows:,} rows", sections)


def figure(drawings: Sequence[Panel]) -> Figure:
    """Side by side. Raises MissingDependency without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("matplotlib", "measure", "Drawing a plot") from error
    # Figures without pyplot: no global state, no window, and none to close.
    made = Figure(figsize=(6.4 * len(drawings), 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(made)
    for axes, draw in zip(made.subplots(1, len(drawings), squeeze=False)[0], drawings, strict=True):
        draw(axes)
    return made


def _curves(report: Report) -> tuple[dict[str, list[tuple[float, float]]], dict[str, list[tuple[float, float]]]]:
    """Losses and metrics of the history by name, each as (epoch, value)."""
    losses: dict[str, list[tuple[float, float]]] = {}
    metrics: dict[str, list[tuple[float, float]]] = {}
    for place, record in enumerate(report.history):
        epoch = record.get("epoch", place + 1)
        for name, value in _numbers(record).items():
            bare = name.removeprefix("val_").removeprefix("eval_")
            if name.endswith("loss"):
                losses.setdefault(name, []).append((epoch, value))
            elif bare in list(report.metrics)[: len(COLOURS)]:
                metrics.setdefault(name, []).append((epoch, value))
    return losses, metrics


def _numbers(record: Mapping[str, Any]) -> dict[str, float]:
    """A record's figures by name, those of a mapping in it included."""
    found: dict[str, float] = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            found.update(_numbers(value))
        elif isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[str(name)] = float(value)
    return found


def _draw_curves(axes: Axes, curves: Mapping[str, Sequence[tuple[float, float]]]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, points), colour in zip(curves.items(), COLOURS * len(curves), strict=False):
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, color=colour, label=name.replace("_", " "))
    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_confusion(axes: Axes, report: Report) -> None:
    import numpy as np

    assert report.confusion is not None
    counts = np.array(report.confusion.matrix, dtype=np.float64)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    axes.figure.colorbar(image, ax=axes, shrink=0.8, label="share of the label's rows")
    axes.set_xlabel("answer")
    axes.set_ylabel("label")
    size = len(counts)
    if size <= _NAMED:
        small = 9 if size <= 12 else 6
        names, families = _names(axes, report.confusion.labels)
        axes.set_xticks(range(size), names, rotation=90 if size > 4 else 0, fontsize=small, fontfamily=families)
        axes.set_yticks(range(size), names, fontsize=small, fontfamily=families)
    if size <= 12:
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.5 else "black"
            axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=8)


def _draw_scores(axes: Axes, scores: Sequence[ClassScore]) -> None:
    places = sorted((i for i, score in enumerate(scores) if score.support), key=lambda i: scores[i].f1)
    names, families = _names(axes, [score.label for score in scores])
    if len(places) > _BARS:
        places = places[:_BARS]
        axes.set_title(f"the lowest {_BARS} of {len(scores)}", fontsize=9)
    axes.barh(range(len(places)), [scores[i].f1 for i in places], color=COLOURS[0])
    small = 9 if len(places) <= 15 else 6
    axes.set_yticks(range(len(places)), [names[i] for i in places], fontsize=small, fontfamily=families)
    axes.set_xlim(0, 1)
    axes.set_ylim(*_few_bars(len(places)))
    axes.set_xlabel("F1")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_metrics(axes: Axes, metrics: Mapping[str, float]) -> None:
    shown = {name: value for name, value in metrics.items() if math.isfinite(value)}
    bars = axes.barh(list(shown), list(shown.values()), color=COLOURS[0])
    axes.bar_label(bars, [number(value) for value in shown.values()], padding=3)
    axes.margins(x=0.15)
    axes.set_ylim(*reversed(_few_bars(len(shown))))
    axes.spines[["top", "right"]].set_visible(False)


def _few_bars(count: int) -> tuple[float, float]:
    """Limits of an axis where a few bars don't become blocks."""
    middle, half = (count - 1) / 2, max(count, 6) / 2
    return middle - half, middle + half


def _names(axes: Axes, labels: Sequence[str]) -> tuple[Sequence[str], list[str]]:
    """Short labels as they can be drawn, and the fonts for them."""
    found = lettering([fit(label, 18) for label in labels])
    if found.numbered:
        axes.set_title("#n: the label of place n; no installed font has its letters", fontsize=8, loc="left")
    return found.names, list(found.families)


def _score_table(scores: Sequence[ClassScore], report: Report) -> str:
    # Columns that no class has a figure for are left out.
    shown = {
        name: field
        for name, field in (
            ("specificity", "specificity"),
            ("AUROC", "auroc"),
            ("AP", "average_precision"),
            ("IoU", "iou"),
        )
        if any(getattr(score, field) is not None for score in scores)
    }

    def cells(score: ClassScore) -> tuple[str, ...]:
        extra = (getattr(score, field) for field in shown.values())
        figures = (score.precision, score.recall, score.f1, *extra)
        return score.label, *("" if value is None else f"{value:.4f}" for value in figures), f"{score.support:,}"

    header = ("entity" if report.entities else "label", "precision", "recall", "F1", *shown, "support")
    return table(header, [cells(score) for score in scores], foot=[cells(score) for score in report.averages.values()])


def _mistakes(report: Report) -> str:
    worst = report.confusion.worst(20) if report.confusion is not None else []
    return table(("label", "answer", "times"), [(a, b, f"{n:,}") for a, b, n in worst]) if worst else ""


def history_table(history: Sequence[Mapping[str, Any]]) -> str:
    """The figures of each epoch, as HTML."""
    records = [_numbers(record) for record in history]
    names = list(dict.fromkeys(name for record in records for name in record))
    return table(names, [[f"{record[name]:.6g}" if name in record else "" for name in names] for record in records])
