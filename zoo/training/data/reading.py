"""`read`: data in any form as rows of one task."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError, suggest
from zoo.training.data import conll, folders, tables
from zoo.training.data.cells import Broken, Cell, display
from zoo.training.data.choose import OnError, Request, by_columns, by_roles, by_values, make_request, roles_of
from zoo.training.data.features import feature_names
from zoo.training.data.objects import Items, class_names, is_a, is_hub, open_object, pair_of, shape_of
from zoo.training.data.rows import Dataset, Row, Rows, Source
from zoo.training.data.table import Cells, Column, Indexed, Listed, Naming, Part, Paths, Table

_FORMS = (
    "Data is a folder with one folder a class, a .csv, .tsv, .jsonl or .parquet file, a two-column CoNLL file, a "
    "pandas or polars frame, a Hugging Face or torch dataset, or a list of (input, target) pairs or dicts "
    "(docs/data.md)."
)
_SHOWN = 5

_log = logging.getLogger(__name__)


def read(
    data: Any,
    *,
    tasks: Sequence[str],
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "raise",
) -> Dataset:
    """Read labelled data, recognised by what it is.

    data: one of the forms of docs/data.md. What was already read passes through.
    tasks: what the model is for. The one meant follows from the data's columns and types, unless `task` says it.
    columns: the data's own names of columns by role: {"text": "review", "label": "stars"}.
    on_error: "raise" at rows that can't be used (an empty cell, a file that is not there, tokens and tags of unequal
        number), naming them; "skip" (or "return") leaves them out and lists them in `Rows.skipped`.
    Texts and references are held in memory, media are not decoded. A torch Dataset of the map style and a Hugging
    Face Dataset are read row by row when rows are needed; a stream is read once, here.
    Raises DataError and, for the options, ConfigError.
    """
    request = make_request(tasks, task, columns, on_error)
    if isinstance(data, (Dataset, Rows)):
        return _already_read(data, request)
    splits, name = _splits(data)
    if not splits:
        found, rows = _read_one(data, name, request)
        return Dataset(found, {"train": rows})
    return _read_splits(splits, name, request)


def _already_read(data: Dataset | Rows, request: Request) -> Dataset:
    if data.task not in request.candidates:
        raise DataError(f"The data was read for {data.task}, not for {' or '.join(request.candidates)}.")
    return data if isinstance(data, Dataset) else Dataset(data.task, {"train": data})


def _read_splits(splits: dict[str, Any], name: str, request: Request) -> Dataset:
    if len(splits) == 1:
        # A sole split is the data, whatever it is called: evaluate(data) of a "test" alone.
        splits = {"train": next(iter(splits.values()))}
    if "train" not in splits:
        raise DataError(f"{name} has the splits {', '.join(splits)} and no 'train'. Give the one that is meant.")
    read_splits: dict[str, Rows] = {}
    for split in sorted(splits, key=["train", "val", "test"].index):
        given = splits[split]
        inner = display(given) if isinstance(given, str) else f"{name}[{split!r}]"
        task, read_splits[split] = _read_one(given, inner, request)
        request = request.settled(task)
    return Dataset(task, read_splits)


def _splits(data: Any) -> tuple[dict[str, Any], str]:
    """The data's own splits by their names here, if it has any, and what to call it."""
    if isinstance(data, (str, os.PathLike)):
        path = os.fsdecode(data)
        return (folders.split_folders(path) if os.path.isdir(path) else {}), display(path)
    name = type(data).__name__
    if not isinstance(data, Mapping):
        return {}, name
    known = {key: value for key, value in data.items() if isinstance(key, str) and key.lower() in folders.SPLITS}
    if known and (len(known) == len(data) or is_hub(data, "DatasetDict", "IterableDatasetDict")):
        return folders.named_splits(known, name), name
    if is_hub(data, "DatasetDict", "IterableDatasetDict"):
        if len(data) == 1:
            return {"train": next(iter(data.values()))}, name
        raise DataError(f"{name} has the splits {', '.join(map(str, data))}. Give the one that is meant: data[name].")
    return {}, name


def _read_one(data: Any, name: str, request: Request) -> tuple[str, Rows]:
    task, source = _open(data, name, request)
    if not len(source):
        raise DataError(f"{name} has no rows.")
    return task, _usable(source, task, request, name)


def _open(data: Any, name: str, request: Request) -> tuple[str, Source]:
    if isinstance(data, Rows):
        return _already_read(data, request).task, data._source
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fsdecode(data), request)
    table = open_object(data, name)
    if table is not None:
        return _from_table(table, request)
    if isinstance(data, Mapping):
        return _from_table(_mapping(data, name), request)
    _refuse(data, name)
    if isinstance(data, (list, tuple)):
        return _from_list(data, name, request)
    if _streams(data):
        return _from_list(list(data), name, request)
    return _from_items(data, name, request)


def _open_path(path: str, request: Request) -> tuple[str, Source]:
    if os.path.isdir(path):
        return folders.read_class_folder(path, request)
    if not os.path.exists(path):
        raise _not_there(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in tables.SUFFIXES:
        return _from_table(tables.open_table(path), request)
    if not conll.looks_like_conll(path):
        near = suggest(ending, tables.SUFFIXES)
        raise DataError(f"{display(path)}: a file that ends in {ending!r} is no form of data.{near} {_FORMS}")
    task = by_roles(request, ("tokens", "tags"), f"{display(path)} is read as a CoNLL file")
    loaded, naming = conll.read_conll(path)
    names = {"tokens": "tokens", "tags": "tags"}
    return task, _cells(task, names, ("tokens", "tags"), loaded, naming, Table(path, (), _nothing))


def _not_there(path: str) -> DataError:
    if glob.has_magic(path):
        return DataError(
            f"{display(path)!r} is a pattern of files, and files alone have no labels. Give the folder above them, "
            "with one folder a class, or a table with the columns of the task."
        )
    parent, name = os.path.split(path)
    near = suggest(name, os.listdir(parent or ".")) if os.path.isdir(parent or ".") else ""
    hub = " A dataset of the hub is given as datasets.load_dataset(name)." if not os.path.splitext(name)[1] else ""
    return DataError(f"There is no file or folder {display(path)!r}.{near}{hub}")


# -------------------------------------------------------------------------------------------------------- columns


def _from_table(table: Table, request: Request) -> tuple[str, Source]:
    task, names = by_columns(request, table)
    loaded, naming = table.load(list(dict.fromkeys(names.values())))
    return task, _cells(task, names, table.columns, loaded, naming, table)


def _cells(
    task: str, names: dict[str, str], columns: tuple[str, ...], loaded: dict[str, Column], naming: Naming, table: Table
) -> Cells:
    def part(role: str) -> Part:
        name = names[role]
        return Part(name, loaded[name], Cell(role, table.folder, table.names.get(name), table.written))

    roles = roles_of(task)
    return Cells(columns, part(roles[0]), part(roles[1]) if len(roles) > 1 else None, naming)


def _mapping(data: Mapping[Any, Any], name: str) -> Table:
    """Columns by name, as in {"text": [...], "label": [...]}."""
    lengths = {str(key): len(value) if hasattr(value, "__len__") else -1 for key, value in data.items()}
    if len(set(lengths.values())) != 1 or -1 in lengths.values() or any(isinstance(v, str) for v in data.values()):
        raise DataError(f"{name} is neither splits (train, val, test) nor columns of equal length. {_FORMS}")

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        return {key: Listed(list(data[key])) for key in wanted}, Indexed(name)

    return Table(name, tuple(data), load)


def _nothing(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
    raise AssertionError("the columns are already there")


# ---------------------------------------------------------------------------------------------------- rows one by one


def _refuse(data: Any, name: str) -> None:
    """What is easily mistaken for a data set."""
    if is_a(data, "torch.utils.data", "DataLoader"):
        raise DataError("A DataLoader gives batches of what was already encoded. Give its dataset: loader.dataset.")
    if isinstance(data, tuple) and len(data) == 2 and _equally_long(*data):
        raise DataError("That is a pair (inputs, targets). Give the rows: list(zip(inputs, targets)).")
    if not (hasattr(data, "__iter__") or hasattr(data, "__getitem__")):
        raise DataError(f"{name} is no form of data. {_FORMS}")
    if hasattr(data, "ndim"):
        raise DataError(f"An array has no labels. Give pairs: list(zip(inputs, targets)). {_FORMS}")


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
        return _from_table(_dicts(data, name), request)
    if isinstance(first, (str, os.PathLike)):
        return _texts_alone(data, name, request)
    given, target = _first_pair(first, name)
    task = by_values(request, given, target, name)
    pairs = [_as_pair(item) for item in data]
    roles = roles_of(task)
    names = {role: ("input", "target")[place] for place, role in enumerate(roles)}
    loaded: dict[str, Column] = {"input": Listed([p[0] for p in pairs]), "target": Listed([p[1] for p in pairs])}
    known = all(isinstance(item, Row) for item in data)
    naming = Paths([item.where for item in data]) if known else Indexed(name)
    return task, _cells(task, names, ("input", "target"), loaded, naming, Table(name, (), _nothing))


def _dicts(data: Sequence[Any], name: str) -> Table:
    fault = "a dict is expected, as in the first row, not {}"
    rows = [dict(row) if isinstance(row, Mapping) else Broken(fault.format(shape_of(row))) for row in data]
    columns = tuple(dict.fromkeys(str(key) for row in rows if isinstance(row, dict) for key in row))

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        loaded: dict[str, Column] = {
            key: Listed([row.get(key) if isinstance(row, dict) else row for row in rows]) for key in wanted
        }
        return loaded, Indexed(name)

    return Table(name, columns, load)


def _first_pair(item: Any, name: str) -> tuple[Any, Any]:
    try:
        return pair_of(item, None)
    except DataError as error:
        raise DataError(f"{name}[0]: {error}. {_FORMS}", row=0) from error


def _as_pair(item: Any) -> tuple[Any, Any]:
    try:
        return pair_of(item, None)
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
    task = texts[0]
    column: dict[str, Column] = {"text": Listed(list(data))}
    return task, _cells(task, {"text": "text"}, ("text",), column, Indexed(name), Table(name, (), _nothing))


def _looks_like_file(item: Any) -> bool:
    if isinstance(item, os.PathLike):
        return True
    if not isinstance(item, str) or len(item) > 4096 or "\0" in item or "\n" in item:
        return False
    ending = os.path.splitext(item)[1].lower()
    return os.path.isfile(item) or ending in folders.IMAGES | folders.AUDIO or ending in (*tables.SUFFIXES, ".txt")


def _from_items(data: Any, name: str, request: Request) -> tuple[str, Source]:
    """A torch Dataset of the map style, or what behaves like one; its first item says what it holds."""
    if not len(data):
        raise DataError(f"{name} has no rows.")
    try:
        first = data[0]
    except Exception as error:  # a user's own code
        raise DataError(f"{name}[0]: {type(error).__name__}: {error}", row=0) from error
    if isinstance(first, Mapping):
        task, names = by_columns(request, Table(name, tuple(map(str, first)), _nothing))
        roles = roles_of(task)
        keys = names[roles[0]], names[roles[1]] if len(roles) > 1 else None
        features = getattr(data, "features", None) or {}
        labels = feature_names(features[keys[1]]) if keys[1] in features else None
    else:
        task = by_values(request, *_first_pair(first, name), name)
        roles, keys, labels = roles_of(task), None, None
    labels = labels or class_names(data)
    target = Cell(roles[1], names=labels) if len(roles) > 1 else None
    return task, Items(data, (Cell(roles[0]), target), keys, name)


def _usable(source: Source, task: str, request: Request, name: str) -> Rows:
    """The rows without those that can't be used, or DataError that names them."""
    faults = list(source.faults()) if isinstance(source, Cells) else []
    if not faults:
        return Rows(source, task)
    if request.on_error == "raise":
        raise _faulty(faults, len(source))
    skipped = tuple(str(error) for _, error in faults)
    for message in skipped[:_SHOWN]:
        _log.warning("Left out: %s", message)
    if len(skipped) > _SHOWN:
        _log.warning("Left out: %d more rows of %s.", len(skipped) - _SHOWN, name)
    bad = np.fromiter((index for index, _ in faults), dtype=np.int64)
    rows = Rows(source, task, np.setdiff1d(np.arange(len(source)), bad), skipped=skipped)
    if not len(rows):
        raise DataError(f"{name} has no row that can be used: {skipped[0]}")
    return rows


def _faulty(faults: list[tuple[int, DataError]], total: int) -> DataError:
    first = faults[0][1]
    others = [str(error.row) for _, error in faults[1 : _SHOWN + 1]]
    more = f" {len(faults) - 1} more of {total} can't be used: {', '.join(others)}" if others else ""
    tail = f"{', ...' if len(faults) > _SHOWN + 1 else ''}." if others else ""
    return DataError(f"{first}{more}{tail}", row=first.row, column=first.column)
