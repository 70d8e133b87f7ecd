"""Whether the targets of a classification are one label, several, or a number: as said, or as the column shows."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from zoo.spec import ProblemType
from zoo.training.data.cells import Broken, missing, plain, written_list
from zoo.training.data.rows import Rows

# transformers' names of what a classification answers with, and the role of a column of such targets.
ROLES: dict[ProblemType, str] = {
    "single_label_classification": "label",
    "multi_label_classification": "labels",
    "regression": "value",
}


def problem_of(rows: Rows) -> ProblemType | None:
    """transformers' name of what these targets are; None where they are no classification's."""
    for name, role in ROLES.items():
        if rows.target_role == role:
            return name
    return None


def target_role(
    role: str, problem_type: ProblemType | None, cells: Iterable[Any], *, written: bool, light: bool
) -> str:
    """The role by which a target's cells are read.

    role: of the column. problem_type: what was said, or None. written: cells are texts out of a file; light: they may
    be looked at. Numbers, of which one is not whole, are values; lists are labels.
    """
    if role not in ("label", "labels"):
        return role
    if problem_type is not None:
        return ROLES[problem_type]
    if not light:
        return role
    return _written(role, cells) if written else _in_memory(cells)


def _in_memory(cells: Iterable[Any]) -> str:
    numbers = False
    for cell in cells:
        value = plain(cell)
        if isinstance(value, Broken) or missing(value):
            continue
        if isinstance(value, (list, tuple, set, frozenset)) or getattr(value, "ndim", 0) == 1:
            return "labels"
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "label"
        numbers = numbers or not float(value).is_integer()
    return "value" if numbers else "label"


def _written(role: str, cells: Iterable[Any]) -> str:
    """A column named `labels` holds several where any of its cells does."""
    numbers = False
    for cell in cells:
        if isinstance(cell, Broken) or missing(cell) or not str(cell).strip():
            continue
        if role == "labels" and (len(written_list(str(cell))) != 1 or str(cell).lstrip().startswith("[")):
            return "labels"
        if role == "label":
            number = _number(str(cell))
            if number is None:
                return "label"
            numbers = numbers or not number.is_integer()
    return "value" if numbers else "label"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
