"""The ways to reduce a graph's precision: which of them a precision means, and what each would convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zoo.errors import ConfigError, suggest
from zoo.precision import halves, int8
from zoo.precision.graphs import Arrays, Graphs
from zoo.precision.source import Conversion, Source

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS = (*get_args(Precision), "auto")


@dataclass(frozen=True, slots=True)
class Way:
    """One conversion of each graph. nodes: the names of those that it would convert, in the graphs' order."""

    name: str
    precision: Precision
    conversions: Mapping[str, Conversion]
    nodes: tuple[str, ...]


def check(precision: str) -> None:
    """Raises ConfigError for anything but the name of a precision, or "auto"."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision is {precision!r}.{suggest(precision, PRECISIONS)} It is one of: {', '.join(PRECISIONS)}."
        )


def ways_of(precision: str, graphs: Graphs, feeds: Callable[[], Mapping[str, Sequence[Arrays]]]) -> list[Way]:
    """Every way that a precision, or "auto", has for these graphs.

    feeds: what each graph is given, in batches, to find ranges of activations on.
    """
    found: list[Way] = []
    if precision in ("int8", "auto"):
        found += _int8(graphs, feeds)
    if precision in ("fp16", "auto"):
        found.append(Way("fp16", "fp16", {name: halves.fp16() for name in graphs.sources}, graphs.nodes()))
    if precision in ("bf16", "auto"):
        found.append(Way("bf16", "bf16", {name: halves.bf16() for name in graphs.sources}, graphs.nodes()))
    return found


def _int8(graphs: Graphs, feeds: Callable[[], Mapping[str, Sequence[Arrays]]]) -> list[Way]:
    found = []
    # Convolutions whose ranges are found while they run are slower than fp32 on every machine that we know.
    if graphs.weighty(int8.MATRICES) > graphs.weighty(int8.CONVOLUTIONS):
        conversions = {name: int8.dynamic() for name in graphs.sources}
        found.append(Way("int8 dynamic", "int8", conversions, graphs.nodes(dict.fromkeys(conversions, int8.DYNAMIC))))
    operators = {name: _static_operators(source) for name, source in graphs.sources.items()}
    operators = {name: kinds for name, kinds in operators.items() if graphs.nodes({name: kinds})}
    if operators:
        given = feeds()
        conversions = {
            name: int8.static(kinds, int8.ranges_of(graphs.sources[name], kinds, given[name]))
            for name, kinds in operators.items()
        }
        found.append(Way("int8 static", "int8", conversions, graphs.nodes(operators)))
    return found


def _static_operators(source: Source) -> tuple[str, ...]:
    convolutional = source.weighty(int8.CONVOLUTIONS) > source.weighty(int8.MATRICES)
    return (*int8.MATRICES, *int8.CONVOLUTIONS, *(int8.BETWEEN if convolutional else ()))
