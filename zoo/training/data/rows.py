"""Rows: what every form of data becomes. They hold texts and references, never decoded images or sound."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, final, overload

import numpy as np
import numpy.typing as npt

from zoo.errors import DataError

Index = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Row:
    """One labelled input.

    input: what the model's encoder takes: a text or list of words, a path, bytes, an image, a sound, ...
    target: a label, the tags of the words, a transcript, or None where the text is its own target.
    where: the row's place for messages: "reviews.csv row 7312", "flowers/rose/17.jpg", "list[3]".
    """

    input: Any
    target: Any
    where: str


class Source(ABC):
    """Where rows come from, in the data's own order. Picklable, for the workers of a loader.

    columns: the names of all columns of the data, whether a task uses them or not.
    target_role: what the targets are: "label", "labels" (a list), "value" (a number), "tags", ...; None for none.
    """

    columns: tuple[str, ...]
    target_role: str | None = None

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def where(self, index: int) -> str:
        """The place of row `index`, as a person would look for it."""

    @abstractmethod
    def row(self, index: int) -> Row:
        """Row `index`. Raises DataError that names the row and the column."""

    @abstractmethod
    def targets(self, places: Index | None = None) -> list[Any]:
        """The targets of these rows, or of all, without the inputs where the source can tell them apart."""

    @abstractmethod
    def faults(self) -> Iterator[tuple[int, DataError]]:
        """What is wrong with rows, as far as it is seen without decoding what `row` would not: (index, error)."""


@final
class Rows(Sequence[Row]):
    """Rows of one task, built when they are asked for: `rows[7]` is a `Row`, `rows[:100]` are `Rows`.

    task: what they are rows of. skipped: what was left out when reading, one message a row.
    """

    def __init__(
        self, source: Source, task: str, indices: Index | None = None, *, skipped: tuple[str, ...] = ()
    ) -> None:
        self._source = source
        self._indices = indices
        self.task = task
        self.skipped = skipped

    @property
    def columns(self) -> tuple[str, ...]:
        return self._source.columns

    @property
    def target_role(self) -> str | None:
        """What the targets are: "label", "labels" (a list), "value" (a number), "tags", ...; None for none."""
        return self._source.target_role

    def __len__(self) -> int:
        return len(self._source) if self._indices is None else len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> Rows: ...
    def __getitem__(self, index: int | slice) -> Row | Rows:
        if isinstance(index, slice):
            return self.select(range(*index.indices(len(self))))
        return self._source.row(self._place(index))

    def select(self, indices: Sequence[int] | Index) -> Rows:
        """Some of the rows, in the order given; `indices` count the rows of this object."""
        chosen = np.asarray(indices, dtype=np.int64).reshape(-1)
        if len(chosen) and (chosen.min() < 0 or chosen.max() >= len(self)):
            raise IndexError(f"select() was given indices outside 0..{len(self) - 1}")
        places = chosen if self._indices is None else self._indices[chosen]
        return Rows(self._source, self.task, places, skipped=self.skipped)

    def inputs(self) -> Inputs:
        """The inputs alone, as a lazy sequence."""
        return Inputs(self)

    def targets(self) -> list[Any]:
        """The targets alone; quicker than going through the rows. Raises DataError that names the row."""
        return self._source.targets(self._indices)

    def where(self, index: int) -> str:
        """The place of row `index`, without reading it."""
        return self._source.where(self._place(index))

    def _place(self, index: int) -> int:
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"row {index} of {len(self)}")
        return number if self._indices is None else int(self._indices[number])

    def __repr__(self) -> str:
        return f"<{len(self)} rows of {self.task}>"


@final
class Inputs(Sequence[Any]):
    """The inputs of rows, one by one as they are asked for."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Inputs: ...
    def __getitem__(self, index: int | slice) -> Any:
        return Inputs(self._rows[index]) if isinstance(index, slice) else self._rows[index].input

    def __iter__(self) -> Iterator[Any]:
        return (row.input for row in self._rows)


@dataclass(frozen=True)
class Dataset:
    """What `read` gives: the task, and its rows by split: "train" always, "val" and "test" when the data has them."""

    task: str
    splits: dict[str, Rows] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "train" not in self.splits:
            raise DataError(f"A Dataset needs a split 'train'; it has {', '.join(self.splits) or 'none'}.")
