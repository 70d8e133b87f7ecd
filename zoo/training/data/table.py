"""Data in columns: what files, frames and lists have in common once they are open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

from zoo.errors import DataError
from zoo.training.data.cells import Broken, Cell, Whole, agree, display
from zoo.training.data.rows import Index, Row, Source


class Column(ABC):
    """The raw cells of one column.

    light: a cell costs little to read, so that all may be looked at before training begins.
    """

    light: bool = True

    @abstractmethod
    def __len__(self) -> int: ...
    @abstractmethod
    def __getitem__(self, index: int) -> Any: ...
    @abstractmethod
    def __iter__(self) -> Iterator[Any]: ...


@final
class Listed(Column):
    """A column in memory."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Any:
        return self._values[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._values)


class Naming(ABC):
    """How rows are named in messages."""

    @abstractmethod
    def where(self, index: int) -> str: ...

    def number(self, index: int) -> int:
        """What `DataError.row` says."""
        return index


@final
@dataclass(frozen=True)
class Indexed(Naming):
    """Rows of an object in memory, as Python would index them: `list[3]`, `DataFrame.iloc[3]`."""

    name: str

    def where(self, index: int) -> str:
        return f"{self.name}[{index}]"


@final
@dataclass(frozen=True)
class Numbered(Naming):
    """Rows of a file: `rows` as a spreadsheet counts them, `lines` as an editor does, both int64 [N] from 1."""

    path: str
    rows: Index
    lines: Index
    word: str = "row"

    def where(self, index: int) -> str:
        row, line = int(self.rows[index]), int(self.lines[index])
        beside = f" (line {line})" if line != row else ""
        return f"{display(self.path)} {self.word} {row}{beside}"

    def number(self, index: int) -> int:
        return int(self.rows[index])


@final
@dataclass(frozen=True)
class Paths(Naming):
    """Rows that are files."""

    paths: Sequence[str]

    def where(self, index: int) -> str:
        return display(self.paths[index])


@dataclass(frozen=True)
class Table:
    """An open table, of which only the columns that a task needs are then loaded.

    name: for messages. load: the columns asked for, and how rows are named.
    folder: what paths in it are relative to. names: the labels behind the whole numbers of a column.
    kinds: "image" or "audio" for a column that says of itself to hold such.
    written: cells are texts out of a file.
    """

    name: str
    columns: tuple[str, ...]
    load: Callable[[Sequence[str]], tuple[dict[str, Column], Naming]]
    folder: str | None = None
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    written: bool = False


def in_memory(name: str, columns: Mapping[Any, Sequence[Any]], naming: Naming) -> Table:
    """A table of what is already there; columns whose name is no text can't be asked for."""

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        return {key: Listed(columns[key]) for key in wanted}, naming

    return Table(name, tuple(key for key in columns if isinstance(key, str)), load)


@final
@dataclass(frozen=True)
class Part:
    """A column in its role."""

    name: str
    column: Column
    cell: Cell | Whole


Parts = tuple[Part, ...]


@final
class Cells(Source):
    """Rows out of columns. inputs, targets: one part, or several, whose cells are then a dict by role."""

    def __init__(self, columns: tuple[str, ...], inputs: Part | Parts, targets: Part | Parts | None, naming: Naming):
        self.columns = columns
        self._inputs = _several(inputs)
        self._targets = _several(targets)
        self.target_role = self._targets[0].cell.role if self._targets else None
        self._naming = naming

    def __len__(self) -> int:
        return len(self._inputs[0].column)

    def where(self, index: int) -> str:
        return self._naming.where(index)

    def row(self, index: int) -> Row:
        given = [self._read(part, index) for part in self._inputs]
        target = [self._read(part, index) for part in self._targets]
        self._agree(index, (*self._inputs, *self._targets), (*given, *target))
        return Row(_joined(self._inputs, given), _joined(self._targets, target), self.where(index))

    def targets(self, places: Index | None = None) -> list[Any]:
        columns = [self._cells(part, places) for part in self._targets]
        if not columns:
            return [None] * (len(self) if places is None else len(places))
        return [_joined(self._targets, cells) for cells in zip(*columns, strict=True)]

    def _cells(self, part: Part, places: Index | None) -> list[Any]:
        if places is not None and len(places) * 4 < len(self):
            return [self._read(part, int(place)) for place in places]
        # Going through a whole column is quicker than asking for many of its cells.
        wanted = None if places is None else set(places.tolist())
        cells = ((i, value) for i, value in enumerate(part.column) if wanted is None or i in wanted)
        found = {i: self._named(part, i, part.cell.read, value) for i, value in cells}
        return list(found.values()) if places is None else [found[place] for place in places.tolist()]

    def faults(self) -> Iterator[tuple[int, DataError]]:
        parts = tuple(part for part in (*self._inputs, *self._targets) if part.column.light)
        for index, values in enumerate(zip(*(part.column for part in parts), strict=True)):
            if all(p.cell.plainly_good(v) for p, v in zip(parts, values, strict=True)):
                continue
            try:
                found = [self._named(p, index, p.cell.check, v) for p, v in zip(parts, values, strict=True)]
                self._agree(index, parts, found)
            except DataError as error:
                yield index, error

    def _read(self, part: Part, index: int) -> Any:
        return self._named(part, index, part.cell.read, part.column[index])

    def _named(self, part: Part, index: int, read: Callable[[Any], Any], value: Any) -> Any:
        try:
            return read(value)
        except DataError as error:
            where = self.where(index) if isinstance(value, Broken) else f"{self.where(index)}, column {part.name!r}"
            message = f"{where}: {_sentence(str(error))}"
            raise DataError(message, row=self._naming.number(index), column=part.name) from error

    def _agree(self, index: int, parts: Parts, found: Sequence[Any]) -> None:
        places = {part.cell.role: place for place, part in enumerate(parts)}
        if not {"tokens", "tags"} <= set(places):
            return
        try:
            agree(found[places["tokens"]], found[places["tags"]])
        except DataError as error:
            number, name = self._naming.number(index), parts[places["tags"]].name
            raise DataError(f"{self.where(index)}: {error}.", row=number, column=name) from error


def _several(parts: Part | Parts | None) -> Parts:
    if parts is None:
        return ()
    return (parts,) if isinstance(parts, Part) else parts


def _joined(parts: Parts, cells: Sequence[Any]) -> Any:
    """The one cell, several as a dict by role, or None for none."""
    if len(parts) > 1:
        return {part.cell.role: cell for part, cell in zip(parts, cells, strict=True)}
    return cells[0] if parts else None


def _sentence(text: str) -> str:
    return text if text.endswith((".", "?", "!")) else f"{text}."
