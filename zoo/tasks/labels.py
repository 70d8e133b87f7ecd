"""Targets as label texts: the one place where str, int, bool and float labels become the same thing."""

from __future__ import annotations

import numbers
import re
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from zoo.errors import DataError, suggest

_SHOWN = 20


def label_text(value: Any) -> str:
    """A label of any plain kind as text: 1, 1.0, np.int64(1), a tensor holding 1 and "1" are all "1".

    Of the ways to write one text in Unicode it is the composed one (NFC), whatever system wrote it.

    Raises DataError for a missing value (None, NaN, empty text) and for what can't name a class.
    """
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    if plain is None or type(plain).__name__ in ("NAType", "NaTType"):
        raise DataError("The label is missing.")
    if isinstance(plain, str):
        if not plain.strip():
            raise DataError("The label is missing (an empty text).")
        return composed(plain)
    if isinstance(plain, (bool, np.bool_)):
        return str(bool(plain))
    if isinstance(plain, numbers.Integral):
        return str(int(plain))
    if isinstance(plain, numbers.Real):
        return _whole(float(plain))
    raise DataError(f"A label is a text or a whole number, not {type(value).__name__}: {_short(value)}.")


def composed(text: str) -> str:
    """The text in Unicode's composed form (NFC)."""
    return unicodedata.normalize("NFC", text)


def index_of(value: Any, index: Mapping[str, int]) -> int:
    """The place of a label among the model's. Raises DataError that names it and the known ones."""
    label = label_text(value)
    if label in index:
        return index[label]
    # A model from elsewhere may have its labels written in another way.
    for name, place in index.items():
        if composed(name) == label:
            return place
    known = ", ".join(list(index)[:_SHOWN]) + (", ..." if len(index) > _SHOWN else "")
    hint = suggest(label, index)
    if not hint and label.isdecimal() and not any(name.isdecimal() for name in index):
        hint = " It is a number and the model's labels are names: give the names."
    raise DataError(f"The label {label!r} is not one of the model's {len(index)}: {known}.{hint}")


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """Distinct labels: whole numbers by value, all others alphabetically."""
    distinct = set(labels)
    if all(re.fullmatch(r"-?[0-9]+", label) for label in distinct):
        return tuple(sorted(distinct, key=lambda label: (int(label), label)))
    return tuple(sorted(distinct))


def _whole(number: float) -> str:
    if np.isnan(number):
        raise DataError("The label is missing (NaN).")
    if not number.is_integer():
        raise DataError(f"The label {number!r} is not a whole number; a class is a text or a whole number.")
    return str(int(number))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
