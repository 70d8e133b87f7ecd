"""The ways to reduce a graph's precision: which of them a precision means, and what each would convert."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from zoo.errors import ConfigError, suggest
from zoo.modalities.base import Array
from zoo.precision import halves, int8
from zoo.precision.source import Conversion, Source

Precision = Literal["fp32", "fp16", "bf16", "int8"]
PRECISIONS = (*get_args(Precision), "auto")


@dataclass(frozen=True, slots=True)
class Way:
    """One conversion. nodes: the names of those that it would convert, in the graph's order."""

    name: str
    precision: Precision
    convert: Conversion
    nodes: tuple[str, ...]


def check(precision: str) -> None:
    """Raises ConfigError for anything but the name of a precision, or "auto"."""
    if precision not in PRECISIONS:
        raise ConfigError(
            f"precision is {precision!r}.{suggest(precision, PRECISIONS)} It is one of: {', '.join(PRECISIONS)}."
        )


def ways_of(precision: str, source: Source, inputs: Callable[[], Sequence[Mapping[str, Array]]]) -> list[Way]:
    """Every way that a precision, or "auto", has for this graph. inputs: batches to find ranges of activations on."""
    found: list[Way] = []
    if precision in ("int8", "auto"):
        found += _int8(source, inputs)
    if precision in ("fp16", "auto"):
        found.append(Way("fp16", "fp16", halves.fp16(), _named(source)))
    if precision in ("bf16", "auto"):
        found.append(Way("bf16", "bf16", halves.bf16(), _named(source)))
    return found


def _int8(source: Source, inputs: Callable[[], Sequence[Mapping[str, Array]]]) -> list[Way]:
    matrices, convolutions = source.weighty(int8.MATRICES), source.weighty(int8.CONVOLUTIONS)
    found = []
    # Convolutions whose ranges are found while they run are slower than fp32 on every machine that we know.
    if matrices > convolutions:
        found.append(Way("int8 dynamic", "int8", int8.dynamic(), _named(source, int8.DYNAMIC)))
    operators = (*int8.MATRICES, *int8.CONVOLUTIONS, *(int8.BETWEEN if convolutions > matrices else ()))
    nodes = _named(source, operators)
    if nodes:
        ranges = int8.ranges_of(source, operators, inputs())
        found.append(Way("int8 static", "int8", int8.static(operators, ranges), nodes))
    return found


def _named(source: Source, operators: Sequence[str] | None = None) -> tuple[str, ...]:
    return tuple(node.name for node in source.nodes if operators is None or node.op_type in operators)
