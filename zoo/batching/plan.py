"""What is to be answered, in parts: files, or ranges of the rows of tables."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import final

from zoo.errors import ConfigError, DataError, suggest
from zoo.index import files
from zoo.modalities.towers import TEXT
from zoo.tasks.base import Task
from zoo.training.data.tables import SUFFIXES, open_table

_MAGIC = frozenset("*?[")
_SHOWN = 8  # columns of a table in a message


@final
@dataclass(frozen=True, slots=True)
class Part:
    """One file of the output. paths: files, an input each; or table: rows `start` to `stop` of it.

    broken: why the table can't be read, which is then all that there is to say about it.
    """

    paths: tuple[str, ...] = ()
    table: str | None = None
    start: int = 0
    stop: int = 0
    broken: str | None = None

    @property
    def rows(self) -> int:
        return len(self.paths) if self.table is None else 1 if self.broken else self.stop - self.start

    def inputs(self) -> list[tuple[str, int | None]]:
        """(file, row of a table or None) of each input."""
        if self.table is None:
            return [(path, None) for path in self.paths]
        return [(self.table, row) for row in range(self.start, self.stop)]

    def dump(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> Part:
        found = json.loads(text)
        return cls(**{**found, "paths": tuple(found["paths"])})


@final
@dataclass(frozen=True, slots=True)
class Roles:
    """The columns of a table that an input is made of. needed, optional: a role and its column; whole: all of a row."""

    needed: Mapping[str, str]
    optional: Mapping[str, str]
    whole: bool = False

    @classmethod
    def of(cls, task: Task, columns: Mapping[str, str] | None) -> Roles:
        """columns: as for finetune(), {"text": "review"}. Raises ConfigError for a role that the task has not."""
        given = dict(columns or {})
        if task.spec.input.kind == "tabular":
            if given:
                raise ConfigError("columns= renames none of a tabular model's: its table must have them by name.")
            return cls({column.name: column.name for column in task.spec.input.columns}, {}, whole=True)
        # Words with tags are for training; what is to be answered is more often a text.
        first = TEXT if task.columns[0] == "tokens" and "tokens" not in given else task.columns[0]
        needed, optional = (first, *task.more_inputs), task.optional_inputs
        for role in given:
            if role not in (*needed, *optional):
                raise ConfigError(
                    f"columns= names {role!r}, and an input of this model has: {', '.join((*needed, *optional))}."
                )
        return cls({role: given.get(role, role) for role in needed}, {role: given.get(role, role) for role in optional})

    def found(self, table: str, there: Sequence[str]) -> dict[str, str]:
        """Those that a table has. Raises DataError for one that is needed and not there."""
        for role, column in self.needed.items():
            if column not in there and not self.whole:
                known = ", ".join(map(repr, there[:_SHOWN])) + (", ..." if len(there) > _SHOWN else "")
                raise DataError(
                    f"{table} has no column {column!r}.{suggest(column, there)} It has: {known}. Say which one it is: "
                    f"columns={{{role!r}: '...'}}",
                    column=column,
                )
        return {role: column for role, column in {**self.needed, **self.optional}.items() if column in there}


def sources(inputs: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], kind: str) -> list[str]:
    """Every file that is meant, in the order given; those of a folder or of a pattern by name. Raises DataError."""
    given = [inputs] if isinstance(inputs, (str, os.PathLike)) else list(inputs)
    found = [path for item in given for path in _expanded(os.fspath(item), kind)]
    if not found:
        raise DataError("There is nothing to answer: the list of inputs is empty.")
    return found


def _expanded(given: str, kind: str) -> list[str]:
    if os.path.isdir(given):
        return _of_folder(Path(given), kind)
    if os.path.exists(given) or not _MAGIC & set(given):
        # What is not there has its line in the output, as every other input that can't be read.
        return [given]
    matched = sorted(path for path in glob.glob(given, recursive=True) if os.path.isfile(path))
    if not matched:
        raise DataError(f"No file fits {given!r}.")
    return matched


def _of_folder(folder: Path, kind: str) -> list[str]:
    """Media of a model of media; else tables, or where there are none a text a file."""
    if kind in ("text", "tabular"):
        tables = sorted(str(path) for path in folder.rglob("*") if is_table(str(path)) and path.is_file())
        if tables or kind == "tabular":
            return tables
    return [str(path) for path in files(folder, kind)]


def is_table(path: str) -> bool:
    return path.lower().endswith(SUFFIXES)


def parts(paths: Sequence[str], roles: Roles, *, size: int) -> Iterator[Part]:
    """The work, in the order of the inputs. size: inputs in a part."""
    waiting: list[str] = []
    for path in paths:
        if not is_table(path):
            waiting.append(path)
            if len(waiting) < size:
                continue
        if waiting:
            yield Part(paths=tuple(waiting))
            waiting = []
        if is_table(path):
            yield from _of_table(path, roles, size)
    if waiting:
        yield Part(paths=tuple(waiting))


def _of_table(path: str, roles: Roles, size: int) -> Iterator[Part]:
    try:
        table = open_table(path)
    except DataError as error:
        yield Part(table=path, broken=str(error))
        return
    columns = roles.found(table.name, table.columns)
    if not columns:
        raise DataError(f"{table.name} has none of the model's columns: {', '.join(roles.needed)}.")
    try:
        loaded, _ = table.load(list(columns.values()))
    except DataError as error:
        yield Part(table=path, broken=str(error))
        return
    rows = len(next(iter(loaded.values())))
    for start in range(0, rows, size):
        yield Part(table=path, start=start, stop=min(start + size, rows))
