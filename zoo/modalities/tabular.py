"""Rows of tables to NumPy: categories by their place in a vocabulary or by a hash, numbers standardised, crosses."""

from __future__ import annotations

import difflib
import hashlib
import itertools
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, final

import numpy as np

from zoo.errors import InputError
from zoo.modalities.base import Array, Encoder, Example, shorten
from zoo.spec import Cross, TabularColumn, TabularInput

# The first rows of a column's part of the table of embeddings.
MISSING, UNKNOWN, FIRST = 0, 1, 2
# Standardised numbers beyond this say no more than "very large": one wild cell must not drown its row.
_FARTHEST = 10.0
_JOIN = "\x1f"


@dataclass(frozen=True, slots=True)
class Layout:
    """Where everything stands in the arrays and tables, which the encoder and the network must agree on.

    bases: the first row of each categorical column in the table of categories; row 0 is padding and counts nothing.
    slots: of each categorical column in `categories`, as (start, end). rows: of the table of categories.
    cross_bases, cross_slots, cross_rows: the same of the crosses, whose row 0 is padding too.
    numbers: how many numeric columns there are.
    """

    bases: tuple[int, ...]
    slots: tuple[tuple[int, int], ...]
    rows: int
    cross_bases: tuple[int, ...]
    cross_slots: tuple[tuple[int, int], ...]
    cross_rows: int
    numbers: int

    @property
    def width(self) -> int:
        """S, the length of `categories`."""
        return self.slots[-1][1] if self.slots else 0


def categorical(spec: TabularInput) -> list[TabularColumn]:
    return [column for column in spec.columns if column.kind != "numeric"]


def layout(spec: TabularInput) -> Layout:
    columns = categorical(spec)
    widths = {column.name: column.width for column in columns}
    bases = _starts([column.buckets + 1 if column.buckets else len(column.values) + FIRST for column in columns], 1)
    slots = _starts([column.width for column in columns], 0)
    crosses = _starts([cross.buckets for cross in spec.crosses], 1)
    places = _starts([math.prod(widths[name] for name in cross.columns) for cross in spec.crosses], 0)
    return Layout(
        bases=tuple(bases[:-1]),
        slots=tuple(itertools.pairwise(slots)),
        rows=bases[-1],
        cross_bases=tuple(crosses[:-1]),
        cross_slots=tuple(itertools.pairwise(places)),
        cross_rows=crosses[-1],
        numbers=len(spec.columns) - len(columns),
    )


def _starts(sizes: Sequence[int], first: int) -> list[int]:
    return list(itertools.accumulate(sizes, initial=first))


@final
class TabularEncoder(Encoder):
    """A row, a mapping of column names to cells, as int64 `categories [S]` and `crosses [X]`, float32 `numbers [2 M]`.

    A column that a row lacks, or has empty (None, NaN, ""), is missing: a category of its own, and for a number its
    mean with the indicator set, which stand behind the M numbers. A category that training never saw is `unknown`.
    Arrays that would be empty are left out.
    """

    def __init__(self, spec: TabularInput) -> None:
        self.input = spec
        self._layout = layout(spec)
        self._categorical = categorical(spec)
        self._numeric = [column for column in spec.columns if column.kind == "numeric"]
        self._places = [{value: i for i, value in enumerate(column.values)} for column in self._categorical]
        self._names = [column.name for column in spec.columns]

    def several(self, inputs: Any) -> list[Any] | None:
        """A data frame is its rows."""
        if hasattr(inputs, "to_dicts"):  # polars
            return list(inputs.to_dicts())
        if hasattr(inputs, "to_dict") and hasattr(inputs, "columns"):  # pandas
            return list(inputs.to_dict("records"))
        return super().several(inputs)

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        if not self._names:
            raise InputError("The model knows no columns yet: finetune() learns them from a table.")
        row = self._row(raw)
        texts = {column.name: self._texts(column, row.get(column.name)) for column in self._categorical}
        arrays = {
            "categories": self._categories(texts),
            "crosses": self._crosses(texts),
            "numbers": self._numbers(row),
        }
        return [Example({name: array for name, array in arrays.items() if array.size}, length=1)]

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        return {name: np.stack([example.inputs[name] for example in examples]) for name in examples[0].inputs}

    def describe(self, raw: Any) -> str:
        return shorten(repr(dict(raw)) if isinstance(raw, Mapping) else repr(raw))

    def save(self, folder: Path) -> None:
        """Nothing: the spec says it all."""

    def _row(self, raw: Any) -> Mapping[str, Any]:
        if not isinstance(raw, Mapping):
            raise InputError(
                f"A row is a mapping of column names to cells, not {type(raw).__name__} {shorten(repr(raw), 60)}. "
                f"The columns are: {', '.join(self._names)}."
            )
        if all(name in raw for name in self._names):
            return raw
        absent = [name for name in self._names if name not in raw]
        if len(absent) == len(self._names):
            given = shorten(", ".join(map(repr, raw)) or "none", 200)
            raise InputError(f"The row has none of the model's columns, which are {', '.join(absent)}; it has {given}.")
        # A column may be left out, but one that is only spelt differently is a mistake that nobody would see.
        others = [name for name in raw if isinstance(name, str) and name not in self._names]
        for name in absent:
            for near in difflib.get_close_matches(name, others, n=1, cutoff=0.75):
                raise InputError(
                    f"The row has {near!r} and not {name!r}, which is the model's column. Rename it, or give None."
                )
        return raw

    def _texts(self, column: TabularColumn, value: Any) -> list[str]:
        """The categories in a cell: none when it is missing, at most `width` of a set."""
        try:
            if column.kind == "set":
                return list(dict.fromkeys(members(value, column.separator)))[: column.width]
            text = category(value)
        except InputError as error:
            raise InputError(f"column {column.name!r}: {error}", column=column.name) from error
        return [] if text is None else [text]

    def _categories(self, texts: Mapping[str, list[str]]) -> Array:
        found = np.zeros(self._layout.width, dtype=np.int64)
        parts = zip(self._categorical, self._layout.bases, self._layout.slots, self._places, strict=True)
        for column, base, (start, _), places in parts:
            rows = [_place(text, column, places) for text in texts[column.name]] or [MISSING]
            found[start : start + len(rows)] = np.add(rows, base)
        return found

    def _crosses(self, texts: Mapping[str, list[str]]) -> Array:
        slots = self._layout.cross_slots
        found = np.zeros(slots[-1][1] if slots else 0, dtype=np.int64)
        for cross, base, (start, _) in zip(self.input.crosses, self._layout.cross_bases, slots, strict=True):
            rows = [base + bucket for bucket in _buckets(cross, texts)]
            found[start : start + len(rows)] = rows
        return found

    def _numbers(self, row: Mapping[str, Any]) -> Array:
        count = len(self._numeric)
        found = np.zeros(2 * count, dtype=np.float32)
        for place, column in enumerate(self._numeric):
            try:
                value = number(row.get(column.name))
            except InputError as error:
                raise InputError(f"column {column.name!r}: {error}", column=column.name) from error
            if value is None:
                found[count + place] = 1.0
            else:
                found[place] = np.clip((value - column.mean) / column.std, -_FARTHEST, _FARTHEST)
        return found


def _place(text: str, column: TabularColumn, places: Mapping[str, int]) -> int:
    if column.buckets:
        return 1 + _hash(text, column.buckets)
    place = places.get(text)
    return UNKNOWN if place is None else FIRST + place


def _buckets(cross: Cross, texts: Mapping[str, list[str]]) -> Iterator[int]:
    """One bucket for each combination; a missing cell combines with nothing."""
    for combination in itertools.product(*(texts[name] for name in cross.columns)):
        yield _hash(_JOIN.join(combination), cross.buckets)


def _hash(text: str, buckets: int) -> int:
    """The same on every machine and in every version, as Python's own is not."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") % buckets


def category(value: Any) -> str | None:
    """A cell as the name of its category: 196, 196.0, np.int64(196) and "196" are one. None where it is missing."""
    value = _plain(value)
    if _is_missing(value):
        return None
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value)
    if isinstance(value, numbers.Real | Decimal):
        return str(value) if isinstance(value, int) else _number_text(float(value))
    if isinstance(value, (list, tuple, set, frozenset, dict, bytes)) or hasattr(value, "ndim"):
        raise InputError(f"a category is a text or a number, not {type(value).__name__} {shorten(repr(value), 60)}.")
    return str(value)  # a date, a UUID, an Enum


def _number_text(value: float) -> str:
    return str(int(value)) if value.is_integer() else repr(value)


def members(value: Any, separator: str) -> list[str]:
    """A cell of several categories: a list, or a text with separators. Empty where it is missing."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str):
        value = value.split(separator)
    if isinstance(value, (list, tuple, set, frozenset)):
        # A set has no order of its own, and the first ones are kept.
        ordered = sorted(value, key=str) if isinstance(value, (set, frozenset)) else value
        return [text for item in ordered if (text := category(item)) is not None]
    one = category(value)
    return [] if one is None else [one]


def number(value: Any) -> float | None:
    """A cell as a number, None where it is missing. Raises InputError."""
    value = _plain(value)
    if _is_missing(value):
        return None
    if isinstance(value, (str, numbers.Real, Decimal)):
        try:
            found = float(value)
        except (ValueError, OverflowError) as error:
            raise InputError(f"a number is expected, not {type(value).__name__} {shorten(repr(value), 60)}.") from error
        if math.isnan(found):
            return None
        if not math.isfinite(found):
            raise InputError(f"{value!r} is no finite number.")
        return found
    raise InputError(f"a number is expected, not {type(value).__name__} {shorten(repr(value), 60)}.")


def _plain(value: Any) -> Any:
    return value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value


def _is_missing(value: Any) -> bool:
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return not value.strip()
    return isinstance(value, float) and math.isnan(value)
