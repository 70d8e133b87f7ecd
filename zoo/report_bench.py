"""Times of predictors as a plot: milliseconds a batch and rows a second, over batch sizes. Needs matplotlib."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.report_plots import COLOURS, Panel, check_ending, figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from zoo.bench import Timing

# Never by colour alone.
_MARKERS = "osD^vP"
_COLOURS = (*COLOURS, "#56b4e9", "#000000")


def save(timings: Sequence[Timing], path: Path) -> Path:
    """Draw both panels to a PNG, SVG or PDF, by the path's ending. Raises ConfigError, MissingDependency."""
    check_ending(path)
    figure(_panels(timings)).savefig(path, bbox_inches="tight")
    return path


def png(timings: Sequence[Timing]) -> bytes:
    buffer = io.BytesIO()
    figure(_panels(timings)).savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _panels(timings: Sequence[Timing]) -> list[Panel]:
    lines = {name: [t for t in timings if t.name == name] for name in dict.fromkeys(t.name for t in timings)}
    return [lambda axes: _draw_latency(axes, lines), lambda axes: _draw_throughput(axes, lines)]


def _draw_latency(axes: Axes, lines: dict[str, list[Timing]]) -> None:
    for place, (name, found) in enumerate(lines.items()):
        sizes, colour = [t.batch_size for t in found], _COLOURS[place % len(_COLOURS)]
        marker = _MARKERS[place % len(_MARKERS)]
        axes.plot(sizes, [t.p50 for t in found], color=colour, marker=marker, markersize=6, label=name)
        axes.plot(sizes, [t.p95 for t in found], color=colour, linestyle=(0, (2, 2)), linewidth=1)
        axes.fill_between(sizes, [t.p50 for t in found], [t.p99 for t in found], color=colour, alpha=0.15, linewidth=0)
    axes.set_title(
        "milliseconds a batch, without preprocessing: p50; p95 dotted; shaded up to p99", fontsize=9, loc="left"
    )
    axes.set_yscale("log")
    _finish(axes, lines)
    axes.legend(frameon=False)


def _draw_throughput(axes: Axes, lines: dict[str, list[Timing]]) -> None:
    for place, (name, found) in enumerate(lines.items()):
        axes.plot(
            [t.batch_size for t in found],
            [t.throughput for t in found],
            color=_COLOURS[place % len(_COLOURS)],
            marker=_MARKERS[place % len(_MARKERS)],
            markersize=6,
            label=name,
        )
    axes.set_title("rows a second, at the median", fontsize=9, loc="left")
    _finish(axes, lines)
    axes.set_ylim(bottom=0)


def _finish(axes: Axes, lines: dict[str, list[Timing]]) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    sizes = sorted({timing.batch_size for found in lines.values() for timing in found})
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,g}"))
    axes.set_xlabel("rows a batch")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
