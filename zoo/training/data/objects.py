"""Data in memory: data frames, Hugging Face and torch datasets, lists. No library is imported to recognise its own."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from zoo.errors import DataError
from zoo.training.data.cells import Cell, Whole, agree, missing
from zoo.training.data.features import feature_kind, feature_names
from zoo.training.data.rows import Index, Row, Source
from zoo.training.data.table import Column, Indexed, Listed, Naming, Table
from zoo.training.data.tables import arrow_column, arrow_table


def is_a(data: Any, module: str, name: str) -> bool:
    """Whether `data` is an instance of a class of a library that may not be imported, or not be installed."""
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return isinstance(found, type) and isinstance(data, found)


def is_hub(data: Any, *names: str) -> bool:
    return any(is_a(data, "datasets", name) for name in names)


def open_object(data: Any, name: str) -> Table | None:
    """A table for whatever has named columns, or None. name: what the object is called in messages."""
    if is_a(data, "pandas", "DataFrame"):
        return _pandas(data, name)
    if is_a(data, "polars", "LazyFrame"):
        return _polars(data.collect(), name)
    if is_a(data, "polars", "DataFrame"):
        return _polars(data, name)
    if is_a(data, "pyarrow", "Table"):
        return arrow_table(name, data.schema, _loader(lambda column: arrow_column(data.column(column)), name))
    if is_hub(data, "Dataset") and _format(data) != "custom":
        return _hub(data, name)
    return _hub_stream(data, name) if is_hub(data, "IterableDataset") else None


def _loader(column: Any, name: str) -> Any:
    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        return {key: column(key) for key in wanted}, Indexed(name)

    return load


def _pandas(frame: Any, name: str) -> Table:
    columns = list(frame.columns)
    names = tuple(map(str, columns))

    def column(key: str) -> Column:
        return Listed(frame.iloc[:, names.index(key)].tolist())

    return Table(name, names, _loader(column, f"{name}.iloc"))


def _polars(frame: Any, name: str) -> Table:
    return Table(name, tuple(frame.columns), _loader(lambda key: Listed(frame.get_column(key).to_list()), name))


# ------------------------------------------------------------------------------------------- Hugging Face datasets


@final
class HubColumn(Column):
    """Media of a Hugging Face Dataset, read from its files when asked for."""

    light = False

    def __init__(self, data: Any, name: str) -> None:
        self._data = data
        self._name = name

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return self._data[index][self._name]

    def __iter__(self) -> Iterator[Any]:
        for batch in self._data.iter(batch_size=100):
            yield from batch[self._name]


def _format(data: Any) -> str | None:
    return (getattr(data, "format", None) or {}).get("type")


def _hub(data: Any, name: str) -> Table:
    features = dict(data.features)

    def column(key: str) -> Column:
        alone = data.select_columns([key])
        if feature_kind(features[key]) is None and _small(features[key]):
            # Stays in the dataset's own mapped files, and is some fifty times quicker than its rows one by one.
            return arrow_column(alone.with_format("arrow")[:].column(key))
        return HubColumn(_undecoded(alone.with_format(None), features, [key]), key)

    return _hub_table(tuple(data.column_names), features, _loader(column, name), name)


def _hub_stream(data: Any, name: str) -> Table:
    """A stream is read once, and the columns that are needed stay in memory."""
    features = dict(data.features or {})
    columns = tuple(data.column_names or _first_keys(data, name))

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        stream = _undecoded(data.with_format(None), features, wanted)
        read: dict[str, list[Any]] = {key: [] for key in wanted}
        for row in stream:
            for key, values in read.items():
                values.append(row.get(key))
        return {key: Listed(values) for key, values in read.items()}, Indexed(name)

    return _hub_table(columns, features, load, name)


def _hub_table(columns: tuple[str, ...], features: Mapping[str, Any], load: Any, name: str) -> Table:
    names = {key: found for key, item in features.items() if (found := feature_names(item))}
    kinds = {key: kind for key, item in features.items() if (kind := feature_kind(item))}
    return Table(name, columns, load, names=names, kinds=kinds)


def _undecoded(data: Any, features: Mapping[str, Any], columns: Iterable[str]) -> Any:
    """Images and sound as bytes or paths: our encoders read them, as they will in production."""
    import datasets

    kinds = {"image": datasets.Image, "audio": datasets.Audio}
    for column in columns:
        kind = feature_kind(features.get(column))
        if kind is not None:
            data = data.cast_column(column, kinds[kind](decode=False))
    return data


def _small(feature: Any) -> bool:
    return "binary" not in str(getattr(feature, "dtype", ""))


def _first_keys(data: Any, name: str) -> tuple[str, ...]:
    for row in data:
        return tuple(row)
    raise DataError(f"{name} is empty.")


# ------------------------------------------------------------------------------------------- torch and other items


@final
@dataclass(frozen=True, slots=True)
class Field:
    """A role in an item: what stands at `key` of a dict, or at its place in an (input, target) pair."""

    key: str | None
    cell: Cell | Whole


@final
class Items(Source):
    """Rows of an object that gives them one by one: a torch Dataset of the map style.

    The object may decode when it is indexed, so rows are asked for only when needed, and targets once seen are kept.
    """

    def __init__(self, items: Any, inputs: tuple[Field, ...], targets: tuple[Field, ...], name: str) -> None:
        self._items = items
        self._fields = (inputs, targets)
        self.target_role = targets[0].cell.role if targets else None
        self._name = name
        self._seen: dict[int, Any] = {}
        keys = [field.key for field in (*inputs, *targets) if field.key is not None]
        self.columns = tuple(keys) or ("input", "target")

    def __len__(self) -> int:
        return len(self._items)

    def where(self, index: int) -> str:
        return f"{self._name}[{index}]"

    def row(self, index: int) -> Row:
        try:
            item = self._item(index)
            found, answer = (self._read(item, fields, place) for place, fields in enumerate(self._fields))
            if [field.cell.role for field in self._fields[1]] == ["tags"]:
                agree(found, answer)
        except DataError as error:
            raise DataError(f"{self.where(index)}: {error}", row=index) from error
        self._seen[index] = answer
        return Row(found, answer, self.where(index))

    def targets(self, places: Index | None = None) -> list[Any]:
        wanted = range(len(self)) if places is None else places.tolist()
        return [self._seen[i] if i in self._seen else self.row(i).target for i in wanted]

    def faults(self) -> Iterator[tuple[int, DataError]]:
        for index in range(len(self)):
            try:
                self.row(index)
            except DataError as error:
                yield index, error

    def _item(self, index: int) -> Any:
        try:
            return self._items[index]
        except Exception as error:  # a user's own code: whatever it raises, the row must be named
            raise DataError(f"{type(error).__name__}: {error}") from error

    def _read(self, item: Any, fields: tuple[Field, ...], place: int) -> Any:
        """The one cell of these fields, or several as a dict by role. place: in a pair."""
        found = {
            field.cell.role: field.cell.read(pair_of(item)[place] if field.key is None else value_of(item, field.key))
            for field in fields
        }
        return found if len(found) > 1 else next(iter(found.values()), None)


def value_of(item: Any, key: str) -> Any:
    """What stands at a key of one item. Raises DataError."""
    if not isinstance(item, Mapping):
        raise DataError(f"a dict is expected, as in the first row, not {type(item).__name__}")
    if key not in item:
        raise DataError(f"the row has no {key!r}; it has {', '.join(map(repr, item))}")
    return item[key]


def pair_of(item: Any) -> tuple[Any, Any]:
    """(input, target) of one item that is a pair. Raises DataError."""
    if isinstance(item, Row):
        return item.input, item.target
    if isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    raise DataError(f"an (input, target) pair is expected, not {shape_of(item)}")


def shape_of(item: Any) -> str:
    if isinstance(item, (tuple, list)):
        return f"a {type(item).__name__} of {len(item)}"
    return "nothing" if missing(item) else f"{type(item).__name__} {str(item)[:40]!r}"


def class_names(data: Any) -> tuple[str, ...] | None:
    """The names behind a torchvision-like dataset's whole numbers, where it states the mapping itself."""
    while is_a(data, "torch.utils.data", "Subset"):
        data = data.dataset
    classes, index = getattr(data, "classes", None), getattr(data, "class_to_idx", None)
    if getattr(data, "target_transform", None) is not None or not isinstance(classes, (list, tuple)):
        return None
    if not isinstance(index, Mapping) or [index.get(name) for name in classes] != list(range(len(classes))):
        return None
    return tuple(map(str, classes))
