"""`read`: data in any form as rows of one task."""

from __future__ import annotations

import glob
import logging
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError, suggest
from zoo.spec import ProblemType
from zoo.training.data import boxfolders, conll, folders, maskfolders, records, squad, tables
from zoo.training.data.cells import display
from zoo.training.data.choose import FORMS, OnError, Request, by_columns, by_roles, make_request, open_columns
from zoo.training.data.objects import is_hub, open_object
from zoo.training.data.pairs import open_rows
from zoo.training.data.rows import Dataset, Rows, Source
from zoo.training.data.table import Cells, Indexed, Table, in_memory

_SHOWN = 5
_LONGEST_PATH = 4096

_log = logging.getLogger(__name__)


def read(
    data: Any,
    *,
    tasks: Sequence[str],
    task: str | None = None,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "raise",
    problem_type: ProblemType | None = None,
) -> Dataset:
    """Read labelled data, recognised by what it is.

    data: one of the forms of docs/data.md. What was already read passes through.
    tasks: what the model is for. The one meant follows from the data's columns and types, unless `task` says it.
    columns: the data's own names of columns by role: {"text": "review", "label": "stars"}.
    on_error: "raise" at rows that can't be used (an empty cell, a file that is not there, tokens and tags of unequal
        number), naming them; "skip" (or "return") leaves them out and lists them in `Rows.skipped`. A torch Dataset is
        gone through once for that.
    problem_type: of a classification, by transformers' names; when not given, targets that are lists are several
        labels, and numbers of which one is not whole are values to be estimated.
    Texts and references are held in memory, media are not decoded. A torch Dataset of the map style and a Hugging
    Face Dataset are read row by row when rows are needed; a stream is read once, here.
    Raises DataError and, for the options, ConfigError.
    """
    request = make_request(tasks, task, columns, on_error, problem_type)
    if isinstance(data, (Dataset, Rows)):
        return _already_read(data, request)
    splits, name = _splits(data, request)
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
        task, read_splits[split] = _read_one(given, inner, request, later=split == "test")
        request = request.settled(task, read_splits[split].target_role)
    return Dataset(task, read_splits)


def _splits(data: Any, request: Request) -> tuple[dict[str, Any], str]:
    """The data's own splits by their names here, if it has any, and what to call it."""
    if isinstance(data, (str, os.PathLike)):
        path = os.fsdecode(data)
        boxes = boxfolders.box_splits(path, request)
        return boxes or (folders.split_folders(path) if os.path.isdir(path) else {}), display(path)
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


def _read_one(data: Any, name: str, request: Request, *, later: bool = False) -> tuple[str, Rows]:
    """later: a test split beside others, which public data sets often leave without labels. It is no fault of what is
    trained on, so its rows say what is wrong when they are asked for."""
    if isinstance(data, Rows):
        return data.task, _already_read(data, request).splits["train"]
    task, source = _open(data, name, request)
    if not len(source):
        raise DataError(f"{name} has no rows.")
    if later and (request.on_error == "raise" or _all_bad(source)):
        return task, Rows(source, task)
    return task, _usable(source, task, request, name)


def _open(data: Any, name: str, request: Request) -> tuple[str, Source]:
    if records.wants_records(request):
        return records.open_records(data, name, request)
    if isinstance(data, (str, os.PathLike)):
        return _open_path(os.fsdecode(data), request)
    if isinstance(data, boxfolders.BoxSplit):
        return boxfolders.open_boxes(data, name, request)
    table = open_object(data, name)
    if table is not None:
        return _from_table(table, request)
    if isinstance(data, Mapping):
        return _from_table(_mapping(data, name), request)
    return open_rows(data, name, request)


def _open_path(path: str, request: Request) -> tuple[str, Source]:
    boxes = boxfolders.box_splits(path, request)
    if boxes:
        return boxfolders.open_boxes(boxfolders.only(boxes, path), display(path), request)
    if os.path.isdir(path):
        boxfolders.refuse_unread(path, request)
        mask = maskfolders.is_mask_folder(path, request)
        return (maskfolders.read_mask_folder if mask else folders.read_class_folder)(path, request)
    if not os.path.exists(path):
        raise _not_there(path)
    ending = os.path.splitext(path)[1].lower()
    if ending in tables.SUFFIXES:
        return _from_table(tables.open_table(path), request)
    if ending == ".json" and "question-answering" in request.candidates:
        return _from_table(squad.open_squad(path), request.settled("question-answering", None))
    if not conll.looks_like_conll(path):
        near = suggest(ending, tables.SUFFIXES)
        raise DataError(f"{display(path)}: a file that ends in {ending!r} is no form of data.{near} {FORMS}")
    task = by_roles(request, ("tokens", "tags"), f"{display(path)} is read as a CoNLL file")
    return task, open_columns(task, {"tokens": "tokens", "tags": "tags"}, conll.open_conll(path))


def _not_there(path: str) -> DataError:
    if len(path) > _LONGEST_PATH:
        return DataError(f"A text alone is no data: {path[:60]!r}... {FORMS}")
    if glob.has_magic(path):
        return DataError(
            f"{display(path)!r} is a pattern of files, and files alone have no labels. Give the folder above them, "
            "with one folder a class, or a table with the columns of the task."
        )
    parent, name = os.path.split(path)
    near = suggest(name, os.listdir(parent or ".")) if os.path.isdir(parent or ".") else ""
    hub = " A dataset of the hub is given as datasets.load_dataset(name)." if not os.path.splitext(name)[1] else ""
    return DataError(f"There is no file or folder {display(path)!r}.{near}{hub}")


def _from_table(table: Table, request: Request) -> tuple[str, Source]:
    task, names = by_columns(request, table)
    return task, open_columns(task, names, table, problem_type=request.problem_type)


def _mapping(data: Mapping[Any, Any], name: str) -> Table:
    """Columns by name, as in {"text": [...], "label": [...]}."""
    lengths = {str(key): len(value) if hasattr(value, "__len__") else -1 for key, value in data.items()}
    if len(set(lengths.values())) != 1 or -1 in lengths.values() or any(isinstance(v, str) for v in data.values()):
        raise DataError(f"{name} is neither splits (train, val, test) nor columns of equal length. {FORMS}")
    return in_memory(name, {key: list(value) for key, value in data.items()}, Indexed(name))


def _all_bad(source: Source) -> bool:
    return isinstance(source, (Cells, records.Records)) and sum(1 for _ in source.faults()) == len(source)


def _usable(source: Source, task: str, request: Request, name: str) -> Rows:
    """The rows without those that can't be used, or DataError that names them."""
    # Looking at every item of a user's object may mean decoding it, which is done only where some may be left out.
    early = isinstance(source, (Cells, records.Records)) or request.on_error != "raise"
    faults = list(source.faults()) if early else []
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
