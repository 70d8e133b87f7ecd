"""What a table's columns are, learned from the rows to train on."""

from __future__ import annotations

import logging
import math
import numbers
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from zoo.errors import ConfigError, DataError, InputError, suggest
from zoo.modalities.base import shorten
from zoo.modalities.tabular import category, members, number
from zoo.spec import Cross, TabularColumn, TabularInput, TargetRange

Kind = Literal["categorical", "hashed", "set", "numeric", "ignored"]

_log = logging.getLogger(__name__)
# Whole numbers name categories where each comes this often, and there are not too many of them.
_REPEATED, _MOST = 10, 10_000
_WIDEST = 32
_SEPARATORS = ("|", ";", ",", " ")


def learn(
    rows: Iterable[Mapping[str, Any]],
    *,
    kinds: Mapping[str, Kind] | None = None,
    crosses: Sequence[Sequence[str]] = (),
    hash_above: int = 20_000,
    hash_buckets: int = 50_000,
    cross_buckets: int = 50_000,
) -> TabularInput:
    """The columns of these rows.

    kinds: of columns by name, where the inferred one is not meant. Inferred: texts, truth values and whole numbers that
        come ten times on average are categories; lists are sets of them; other numbers are numeric.
    crosses: categorical columns whose combinations count; a number that is crossed is taken for a category.
    hash_above: columns of more categories are hashed into `hash_buckets`; crosses always are, into `cross_buckets`.
    Raises DataError, ConfigError.
    """
    cells = _by_column(rows)
    given = dict(kinds or {})
    crossed = [name for cross in crosses for name in cross]
    for name in (*given, *crossed):
        if name not in cells:
            raise ConfigError(f"There is no column {name!r}.{suggest(name, cells)} The columns are: {_listed(cells)}.")
    for name in crossed:
        # Numbers that are crossed are names of something.
        if name not in given and infer(cells[name]) == "numeric":
            given[name] = "categorical"
    columns = {name: _column(name, values, given.get(name), hash_above, hash_buckets) for name, values in cells.items()}
    found = [column for column in columns.values() if column is not None]
    for name, column in columns.items():
        if column is None and given.get(name) != "ignored":
            _log.warning("The column %r says the same of every row and is not used.", name)
    if not found:
        raise DataError(f"None of the columns ({_listed(cells)}) tells rows apart: there is nothing to learn from.")
    _check_crosses(found, crosses)
    made = tuple(Cross(columns=tuple(cross), buckets=cross_buckets) for cross in crosses)
    return TabularInput(columns=tuple(found), crosses=made)


def target_range(targets: Iterable[Any]) -> TargetRange:
    """Of the numbers to learn. Raises DataError where they are all one."""
    values = np.array([float(target) for target in targets], dtype=np.float64)
    if values.min() == values.max():
        raise DataError(f"All {len(values)} rows have the one target {values[0]:g}; there is nothing to learn.")
    return TargetRange(
        mean=float(values.mean()), std=float(values.std()), low=float(values.min()), high=float(values.max())
    )


def _by_column(rows: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Cells by column, None where a row lacks it."""
    cells: dict[str, list[Any]] = {}
    for count, row in enumerate(rows):
        for name, value in row.items():
            if name not in cells:
                cells[name] = [None] * count
            cells[name].append(value)
        for values in cells.values():
            if len(values) == count:
                values.append(None)
    return cells


def _column(
    name: str, values: Sequence[Any], kind: Kind | None, hash_above: int, hash_buckets: int
) -> TabularColumn | None:
    """None for a column that is not to be used, or that says the same of every row."""
    try:
        chosen = kind or infer(values)
        if chosen == "ignored":
            return None
        if chosen == "numeric":
            return _numeric(name, values)
        return _categorical(name, values, chosen, hash_above, hash_buckets)
    except InputError as error:
        raise DataError(f"column {name!r}: {error}", column=name) from error


def infer(values: Iterable[Any]) -> Kind:
    """What a column's cells seem to be."""
    there = [value for value in values if not _absent(value)]
    if any(isinstance(value, (list, tuple, set, frozenset)) or getattr(value, "ndim", 0) for value in there):
        return "set"
    if not all(isinstance(value, numbers.Real) and not isinstance(value, (bool, np.bool_)) for value in there):
        return "categorical"
    if any(not math.isfinite(float(value)) or float(value) != int(value) for value in there):
        return "numeric"
    distinct = len({int(value) for value in there})
    return "categorical" if distinct <= _MOST and distinct * _REPEATED <= len(there) else "numeric"


def _absent(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _numeric(name: str, values: Sequence[Any]) -> TabularColumn | None:
    found = np.array([value for cell in values if (value := number(cell)) is not None], dtype=np.float64)
    if not found.size:
        return None
    # Scaled first: the squares of very large numbers are no numbers.
    scale = max(float(np.abs(found).max()), 1e-300)
    spread = float((found / scale).std()) * scale
    if spread == 0:
        # A number that is there or not may still tell rows apart.
        return TabularColumn(name=name, kind="numeric", mean=float(found[0])) if found.size < len(values) else None
    return TabularColumn(name=name, kind="numeric", mean=float((found / scale).mean()) * scale, std=spread)


def _categorical(
    name: str, values: Sequence[Any], kind: Kind, hash_above: int, hash_buckets: int
) -> TabularColumn | None:
    several = kind == "set"
    separator = _separator(values) if several else _SEPARATORS[0]
    cells = [members(cell, separator) if several else _one(cell) for cell in values]
    counts = Counter(text for cell in cells for text in cell)
    if not counts or (len(counts) == 1 and all(cells)):
        return None
    width = min(max(len(set(cell)) for cell in cells), _WIDEST) if several else 1
    shared: dict[str, Any] = {"name": name, "kind": "set" if several else "categorical", "width": width}
    if several:
        shared["separator"] = separator
    if kind == "hashed" or len(counts) > hash_above:
        return TabularColumn(**shared, buckets=hash_buckets)
    ordered = sorted(counts, key=lambda text: (-counts[text], text))
    return TabularColumn(**shared, values=tuple(ordered))


def _one(cell: Any) -> list[str]:
    text = category(cell)
    return [] if text is None else [text]


def _separator(values: Iterable[Any]) -> str:
    """Of the values within one text: the first of | ; , and the space that any cell has."""
    texts = [value for value in values if isinstance(value, str)]
    return next((mark for mark in _SEPARATORS if any(mark in text.strip() for text in texts)), _SEPARATORS[0])


def _check_crosses(columns: Sequence[TabularColumn], crosses: Sequence[Sequence[str]]) -> None:
    kinds = {column.name: column.kind for column in columns}
    for cross in crosses:
        if len(cross) < 2 or len(set(cross)) != len(cross):
            raise ConfigError(f"crosses has {tuple(cross)!r}; a cross is of two or more different columns.")
        for name in cross:
            if kinds.get(name) in (None, "numeric"):
                state = "is numeric" if name in kinds else "is not used"
                raise ConfigError(
                    f"crosses has {name!r}, which {state}; only categories are crossed. Name it in column_kinds="
                    f'{{{name!r}: "categorical"}} if it is one.'
                )


def _listed(names: Iterable[str]) -> str:
    return shorten(", ".join(names), 300)
