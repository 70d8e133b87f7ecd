"""Rows given one by one: lists of pairs or dicts, streams, and torch datasets."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from zoo.errors import DataError
from zoo.training.data import folders, tables
from zoo.training.data.cells import Broken, Cell, missing
from zoo.training.data.choose import FORMS, Request, by_columns, by_values, facts, open_columns, roles_of
from zoo.training.data.features import feature_names
from zoo.training.data.kinds import target_role
from zoo.training.data.objects import Field, Items, class_names, is_a, pair_of, shape_of
from zoo.training.data.pictures import IMAGES
from zoo.training.data.rows import Row, Source
from zoo.training.data.table import Cells, Indexed, Listed, Part, Paths, Table, in_memory


def open_rows(data: Any, name: str, request: Request) -> tuple[str, Source]:
    """The task and the rows of whatever gives rows. Streams are read once, here. Raises DataError."""
    _refuse(data, name)
    if isinstance(data, (list, tuple)):
        return _from_list(data, name, request)
    if _streams(data):
        return _from_list(list(data), name, request)
    return _from_items(data, name, request)


def _refuse(data: Any, name: str) -> None:
    """What is easily mistaken for a data set."""
    if is_a(data, "torch.utils.data", "DataLoader"):
        raise DataError("A DataLoader gives batches of what was already encoded. Give its dataset: loader.dataset.")
    if isinstance(data, tuple) and len(data) == 2 and _equally_long(*data):
        raise DataError("That is a pair (inputs, targets). Give the rows: list(zip(inputs, targets)).")
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(f"{name} is no form of data. {FORMS}")
    if hasattr(data, "ndim"):
        raise DataError(f"An array has no labels. Give pairs: list(zip(inputs, targets)). {FORMS}")


def _equally_long(inputs: Any, targets: Any) -> bool:
    """Whether two things are columns rather than two (input, target) pairs."""
    if isinstance(inputs, (str, bytes, tuple, dict, Row)):
        return False
    return hasattr(inputs, "__len__") and hasattr(targets, "__len__") and len(inputs) == len(targets)


def _streams(data: Any) -> bool:
    if is_a(data, "torch.utils.data", "IterableDataset") or isinstance(data, Iterator):
        return True
    if hasattr(data, "__getitem__"):
        if not hasattr(data, "__len__"):
            raise DataError(f"{type(data).__name__} has no __len__, so its rows can't be counted; add one.")
        return False
    return isinstance(data, Iterable)


def _from_list(data: Sequence[Any], name: str, request: Request) -> tuple[str, Source]:
    if not data:
        raise DataError(f"{name} has no rows.")
    first = data[0]
    if isinstance(first, Mapping):
        table = _dicts(data, name)
        task, names = by_columns(request, table)
        return task, open_columns(task, names, table, problem_type=request.problem_type)
    if isinstance(first, (str, os.PathLike)):
        return _texts_alone(data, name, request)
    task = by_values(request, *_typical(data, name), name)
    inputs, targets = zip(*map(_as_pair, data), strict=True)
    known = all(isinstance(item, Row) for item in data)
    naming = Paths([item.where for item in data]) if known else Indexed(name)
    roles = facts(task)
    given = Part("input", Listed(inputs), roles.whole)
    target = Part("target", Listed(targets), Cell(_role(task, request, targets))) if roles.targets else None
    return task, Cells(("input", "target"), given, target, naming)


def _dicts(data: Sequence[Any], name: str) -> Table:
    fault = "a dict is expected, as in the first row, not {}"
    rows = [dict(row) if isinstance(row, Mapping) else Broken(fault.format(shape_of(row))) for row in data]
    columns = tuple(dict.fromkeys(key for row in rows if isinstance(row, dict) for key in row if isinstance(key, str)))
    cells = {name: [row.get(name) if isinstance(row, dict) else row for row in rows] for name in columns}
    return in_memory(name, cells, Indexed(name))


def _typical(data: Sequence[Any], name: str) -> tuple[Any, Any]:
    """The first complete pair: what is missing in a row before it is that row's fault, not the task's."""
    for item in data:
        given, target = _as_pair(item)
        if not (isinstance(given, Broken) or missing(given) or missing(target)):
            return given, target
    return _first_pair(data[0], name)


def _first_pair(item: Any, name: str) -> tuple[Any, Any]:
    try:
        return pair_of(item)
    except DataError as error:
        raise DataError(f"{name}[0]: {error}. {FORMS}", row=0) from error


def _as_pair(item: Any) -> tuple[Any, Any]:
    try:
        return pair_of(item)
    except DataError as error:
        return Broken(str(error)), Broken(str(error))


def _texts_alone(data: Sequence[Any], name: str, request: Request) -> tuple[str, Source]:
    """Texts for a language model; files alone are refused."""
    texts = [task for task in request.candidates if roles_of(task) == ("text",)]
    if not texts or any(_looks_like_file(item) for item in data[:100]):
        raise DataError(
            f"{name} holds {'files' if texts else 'inputs'} alone, such as {str(data[0])[:60]!r}, and no targets. Give "
            "(input, target) pairs, a folder with one folder a class, or a table with the columns of the task."
        )
    return texts[0], open_columns(texts[0], {"text": "text"}, in_memory(name, {"text": list(data)}, Indexed(name)))


def _looks_like_file(item: Any) -> bool:
    if isinstance(item, os.PathLike):
        return True
    if not isinstance(item, str) or len(item) > 4096 or "\0" in item or "\n" in item:
        return False
    ending = os.path.splitext(item)[1].lower()
    return os.path.isfile(item) or ending in IMAGES | folders.AUDIO or ending in (*tables.SUFFIXES, ".txt")


def _from_items(data: Any, name: str, request: Request) -> tuple[str, Source]:
    """A torch Dataset of the map style, or what behaves like one; its first item says what it holds."""
    if not len(data):
        raise DataError(f"{name} has no rows.")
    try:
        first = data[0]
    except Exception as error:  # a user's own code
        raise DataError(f"{name}[0]: {type(error).__name__}: {error}", row=0) from error
    if isinstance(first, Mapping):
        task, names = by_columns(request, in_memory(name, dict.fromkeys(first, ()), Indexed(name)))
        return task, Items(data, *_fields(task, names, data, first, request), name)
    given, target = _first_pair(first, name)
    task = by_values(request, given, target, name)
    roles = facts(task)
    role = _role(task, request, [target])
    targets = (Field(None, Cell(role, names=class_names(data))),) if roles.targets else ()
    return task, Items(data, (Field(None, roles.whole),), targets, name)


def _role(task: str, request: Request, targets: Sequence[Any], role: str | None = None) -> str:
    """The role of targets in memory."""
    usual = role or next(iter(facts(task).targets), ("",))[0]
    return target_role(usual, request.problem_type, targets, written=False, light=True)


def _fields(
    task: str, names: Mapping[str, str], data: Any, first: Mapping[Any, Any], request: Request
) -> tuple[tuple[Field, ...], tuple[Field, ...]]:
    """The inputs' and the targets' places in dicts. names: of the keys by role."""
    features = getattr(data, "features", None) or {}
    roles = facts(task)
    given = (*roles.inputs, *roles.optional)
    targets = [role for role in names if role not in given]
    found: dict[str, Field] = {}
    for role, key in names.items():
        labels = feature_names(features[key]) if key in features else None
        real = _role(task, request, [first[key]], role) if role in targets else role
        if [role] == targets:
            labels = labels or class_names(data)
        found[role] = Field(key, Cell(real, names=labels))
    return tuple(found[role] for role in given if role in found), tuple(found[role] for role in targets)
