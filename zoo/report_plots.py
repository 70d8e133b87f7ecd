"""A report as plots and as one self-contained page. Needs matplotlib."""

from __future__ import annotations

import base64
import html as escape
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, missing
from zoo.report_fonts import lettering
from zoo.report_text import fit, number

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from zoo.report import ClassScore, Report

_FORMATS = (".png", ".svg", ".pdf")
_BARS = 40
_NAMED = 40  # labels on the axes of a confusion plot; more would overlap
_COLOURS = ("#1f6f8b", "#d1495b", "#7a8b2f", "#8a5a9e")

Panel = Callable[["Axes"], None]


def save(report: Report, path: Path) -> Path:
    """Draw all panels side by side."""
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"A plot is written as {', '.join(_FORMATS)}, not {path.suffix or 'without an ending'!r}.")
    _figure([panel for _, panel in panels(report)]).savefig(path, bbox_inches="tight")
    return path


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
        _figure([panel]).savefig(buffer, format="png", bbox_inches="tight")
        found[title] = buffer.getvalue()
    return found


def html(report: Report) -> str:
    """The whole page; plots are inside it as PNG."""
    figures = "".join(_embedded(title, data) for title, data in drawn(report).items())
    scores = report.entities or report.per_class
    sections = [
        _section("Metrics", _table(("metric", "value"), [(k, number(v)) for k, v in report.metrics.items()])),
        _section("Entities" if report.entities else "Labels", _score_table(scores, report)) if scores else "",
        _section("Plots", figures),
        _section("Most frequent mistakes", _mistakes(report)) if _mistakes(report) else "",
        _section("Training", _history(report.history)) if report.history else "",
        _section("Skipped rows", _list(report.skipped)) if report.skipped else "",
    ]
    title = f"{escape.escape(report.task)}: {report.rows:,} rows"
    return _PAGE.format(title=title, body="\n".join(filter(None, sections)))


def _figure(drawings: Sequence[Panel]) -> Figure:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing("matplotlib", "train", "Plotting a report") from error
    # Figures without pyplot: no global state, no window, and none to close.
    figure = Figure(figsize=(6.4 * len(drawings), 4.8), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, draw in zip(figure.subplots(1, len(drawings), squeeze=False)[0], drawings, strict=True):
        draw(axes)
    return figure


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
            elif bare in list(report.metrics)[: len(_COLOURS)]:
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

    for (name, points), colour in zip(curves.items(), _COLOURS * len(curves), strict=False):
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
    axes.barh(range(len(places)), [scores[i].f1 for i in places], color=_COLOURS[0])
    small = 9 if len(places) <= 15 else 6
    axes.set_yticks(range(len(places)), [names[i] for i in places], fontsize=small, fontfamily=families)
    axes.set_xlim(0, 1)
    axes.set_ylim(*_few_bars(len(places)))
    axes.set_xlabel("F1")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_metrics(axes: Axes, metrics: Mapping[str, float]) -> None:
    shown = {name: value for name, value in metrics.items() if math.isfinite(value)}
    bars = axes.barh(list(shown), list(shown.values()), color=_COLOURS[0])
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


def _embedded(title: str, png: bytes) -> str:
    data = base64.b64encode(png).decode("ascii")
    return f'<figure><figcaption>{title}</figcaption><img alt="{title}" src="data:image/png;base64,{data}"></figure>'


def _section(title: str, body: str) -> str:
    return f"<section>\n<h2>{title}</h2>\n{body}\n</section>"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, foot: Sequence[Sequence[str]] = ()) -> str:
    def line(cells: Sequence[str], tag: str) -> str:
        # dir: a label from right to left does not turn the line around.
        return "<tr>" + "".join(f'<{tag} dir="auto">{escape.escape(cell)}</{tag}>' for cell in cells) + "</tr>"

    body = "\n".join(line(row, "td") for row in rows)
    end = "<tfoot>" + "\n".join(line(row, "td") for row in foot) + "</tfoot>" if foot else ""
    return f"<table>\n<thead>{line(header, 'th')}</thead>\n<tbody>\n{body}\n</tbody>\n{end}</table>"


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
    return _table(header, [cells(score) for score in scores], foot=[cells(score) for score in report.averages.values()])


def _mistakes(report: Report) -> str:
    worst = report.confusion.worst(20) if report.confusion is not None else []
    return _table(("label", "answer", "times"), [(a, b, f"{n:,}") for a, b, n in worst]) if worst else ""


def _history(history: Sequence[Mapping[str, Any]]) -> str:
    records = [_numbers(record) for record in history]
    names = list(dict.fromkeys(name for record in records for name in record))
    return _table(names, [[f"{record[name]:.6g}" if name in record else "" for name in names] for record in records])


def _list(items: Sequence[str]) -> str:
    return "<ul>" + "\n".join(f"<li>{escape.escape(item)}</li>" for item in items) + "</ul>"


_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1c2730; }}
h1 {{ font-size: 1.5rem; }}
h2 {{ font-size: 1.1rem; margin-top: 2rem; }}
table {{ border-collapse: collapse; }}
th, td {{ padding: .25rem .9rem; border-bottom: 1px solid #d9e0e5; text-align: right; }}
th:first-child, td:first-child {{ text-align: left; }}
tfoot td {{ font-weight: 600; }}
figure {{ display: inline-block; margin: 0 1rem 1rem 0; vertical-align: top; }}
figcaption {{ font-weight: 600; }}
img {{ max-width: 100%; height: auto; }}
section {{ overflow-x: auto; }}
</style>
</head>
<body>
<h1>{title}</h1>
{body}
</body>
</html>
"""
