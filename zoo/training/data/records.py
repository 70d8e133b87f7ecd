"""Rows of tables for tabular tasks: every column but the target's is a part of the input."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, final

from zoo.errors import DataError, suggest
from zoo.tasks.labels import label_text
from zoo.tasks.tabular import target_number
from zoo.training.data.cells import Broken, Cell, display, missing, plain
from zoo.training.data.choose import Request, by_roles, roles_of
from zoo.training.data.objects import open_object, pair_of
from zoo.training.data.rows import Index, Row, Source
from zoo.training.data.table import Column, Indexed, Naming, Table, in_memory
from zoo.training.data.tables import SUFFIXES, open_table

_ROW, _LABEL = "row", "label"
_TARGET = "(target)"  # what the second of a pair is called
# A number as a file writes it. Zeros in front are a code's (01234), and very long digits an identifier's.
_WHOLE = re.compile(r"[+-]?(0|[1-9][0-9]{0,14})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ZEROS = re.compile(r"[+-]?0[0-9]+$")


def wants_records(request: Request) -> bool:
    return all(roles_of(task)[0] == _ROW for task in request.candidates)


def open_records(data: Any, name: str, request: Request) -> tuple[str, Records]:
    """Data in any form that has named columns: a table's file, a data frame, a list of dicts or of (dict, target)."""
    table = _table(data, name)
    label = (request.columns or {}).get(_LABEL, _TARGET if _TARGET in table.columns else _LABEL)
    if label not in table.columns:
        raise DataError(
            f"{table.name} has no column {label!r}, which is the target.{suggest(label, table.columns)} It has: "
            f"{', '.join(map(repr, table.columns))}. Say which one it is: columns={{'label': '...'}}",
            column=label,
        )
    if len(set(table.columns)) != len(table.columns):
        twice = next(name for name in table.columns if table.columns.count(name) > 1)
        raise DataError(f"{table.name} has several columns {twice!r}; keep one.", column=twice)
    loaded, naming = table.load(list(table.columns))
    target = loaded.pop(label)
    task = _task(request, target, table)
    return task, Records(loaded, target, label, naming, task=task, table=table)


@final
class Records(Source):
    """Rows out of all columns."""

    def __init__(
        self, columns: Mapping[str, Column], target: Column, label: str, naming: Naming, *, task: str, table: Table
    ) -> None:
        self.columns = table.columns
        self._inputs = dict(columns)
        self._target = target
        self._label = label
        self.target_role = None if task == "tabular-regression" else "label"
        self._naming = naming
        self._written = table.written
        self._number = task == "tabular-regression"
        self._cell = Cell("label", names=table.names.get(label), written=table.written)

    def __len__(self) -> int:
        return len(self._target)

    def where(self, index: int) -> str:
        return self._naming.where(index)

    def row(self, index: int) -> Row:
        cells = {name: column[index] for name, column in self._inputs.items()}
        broken = next((cell for cell in cells.values() if isinstance(cell, Broken)), None)
        if broken is not None:
            raise DataError(f"{self.where(index)}: {broken.message}", row=self._naming.number(index))
        if self._written:
            cells = {name: written(cell) for name, cell in cells.items()}
        return Row(cells, self._read(index, self._target[index]), self.where(index))

    def targets(self, places: Index | None = None) -> list[Any]:
        if places is None:
            return [self._read(index, value) for index, value in enumerate(self._target)]
        return [self._read(int(place), self._target[int(place)]) for place in places]

    def faults(self) -> Iterator[tuple[int, DataError]]:
        for index, value in enumerate(self._target):
            try:
                found = self._read(index, value)
                if not self._number:
                    label_text(found)
            except DataError as error:
                yield index, error if error.row is not None else self._located(index, error)

    def _read(self, index: int, value: Any) -> Any:
        try:
            found = self._cell.read(value)
            return target_number(found) if self._number else found
        except DataError as error:
            raise self._located(index, error) from error

    def _located(self, index: int, error: DataError) -> DataError:
        message = f"{self.where(index)}, column {self._label!r}: {error}"
        return DataError(message, row=self._naming.number(index), column=self._label)


def written(cell: Any) -> Any:
    """A cell of a text file: a number where it is written as one, None where it is empty or NaN, or else the text."""
    if not isinstance(cell, str):
        return cell
    text = cell.strip()
    if not text or text.lower() in ("nan", "null"):
        return None
    if _WHOLE.fullmatch(text):
        return int(text)
    return float(text) if _NUMBER.fullmatch(text) and not _ZEROS.match(text) else text


def _task(request: Request, target: Column, table: Table) -> str:
    """Texts are labels and broken numbers are numbers; whole numbers may be either, and are never guessed."""
    if len(request.candidates) == 1:
        return request.candidates[0]
    if any(isinstance(plain(value), str) and not _is_number(value) for value in target if not missing(plain(value))):
        return by_roles(request, (_ROW, _LABEL), table.name)
    values = [float(plain(value)) for value in target if _is_number(value)]
    if "tabular-regression" in request.candidates and any(
        math.isfinite(value) and not value.is_integer() for value in values
    ):
        return "tabular-regression"
    choices = " or ".join(f"task={task!r}" for task in request.candidates)
    raise DataError(f"{table.name}: the target may be meant as a label or as a number. Say which one: {choices}.")


def _is_number(value: Any) -> bool:
    try:
        float(plain(value))
    except (TypeError, ValueError):
        return False
    return not isinstance(value, bool)


def _table(data: Any, name: str) -> Table:
    if isinstance(data, (str, os.PathLike)):
        return _file(os.fsdecode(data))
    table = open_object(data, name)
    if table is not None:
        return table
    if isinstance(data, Mapping):
        columns = {str(key): list(value) for key, value in data.items() if hasattr(value, "__len__")}
        if len(columns) != len(data) or len({len(values) for values in columns.values()}) != 1:
            raise DataError(f"{name} has no columns of equal length.")
        return in_memory(name, columns, Indexed(name))
    return _listed(data, name)


def _file(path: str) -> Table:
    if not os.path.isfile(path) or os.path.splitext(path)[1].lower() not in SUFFIXES:
        there = "is no file" if not os.path.isfile(path) else "is no table"
        raise DataError(
            f"{display(path)} {there}. A tabular model learns from a {', '.join(SUFFIXES)} file, a data frame, or a "
            "list of dicts."
        )
    return open_table(path)


def _listed(data: Any, name: str) -> Table:
    """A list, a stream or a torch Dataset of dicts, or of (dict, target) pairs."""
    try:
        items = [data[i] for i in range(len(data))] if hasattr(data, "__getitem__") else list(data)
    except (TypeError, KeyError, IndexError) as error:
        raise DataError(f"{name} is no table: {error}") from error
    if not items:
        raise DataError(f"{name} has no rows.")
    rows = [_row(item) for item in items]
    names = dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row)
    if not names:
        assert isinstance(rows[0], Broken)
        raise DataError(f"{name}[0]: {rows[0].message}", row=0)
    cells = {key: [row.get(key) if isinstance(row, dict) else row for row in rows] for key in names}
    return in_memory(name, cells, Indexed(name))


def _row(item: Any) -> dict[str, Any] | Broken:
    try:
        given, target = (item, None) if isinstance(item, Mapping) else pair_of(item)
    except DataError as error:
        return Broken(str(error))
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        return Broken(f"a row is a dict by the columns' names, not {type(given).__name__}")
    return dict(given) if given is item else {**given, _TARGET: target}
