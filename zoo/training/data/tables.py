"""Tables in files: .csv, .tsv, .jsonl and .parquet."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, final

import numpy as np

from zoo.errors import DataError, missing
from zoo.plain import load_json
from zoo.training.data.cells import Broken, display
from zoo.training.data.features import feature_kind, feature_names
from zoo.training.data.table import Column, Listed, Naming, Numbered, Table

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".pq")
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_table(path: str) -> Table:
    """A table by the file's ending. Raises DataError."""
    suffix = os.path.splitext(path)[1].lower()
    try:
        if suffix in (".csv", ".tsv"):
            return _open_csv(path, "," if suffix == ".csv" else "\t")
        return _open_jsonl(path) if suffix in (".jsonl", ".ndjson") else _open_parquet(path)
    except OSError as error:
        raise DataError(f"{display(path)} can't be read: {error.strerror or error}.") from error


def _folder(path: str) -> str:
    return os.path.dirname(path)


@contextmanager
def reading_text(path: str, delimiter: str | None = None) -> Iterator[io.TextIOWrapper]:
    """A file as UTF-8 text with or without a byte order mark, line ends as they are.

    delimiter: of a csv file, where a bad byte is searched by record and not by line.
    Raises DataError naming the row and the byte that is not UTF-8.
    """
    try:
        with open(path, encoding="utf-8-sig", newline="" if delimiter else None) as file:
            yield file
    except UnicodeDecodeError as error:
        raise _not_utf8(path, delimiter) from error


def _not_utf8(path: str, delimiter: str | None) -> DataError:
    data = Path(path).read_bytes()
    try:
        data.decode("utf-8")
        offset = len(data)
    except UnicodeDecodeError as error:
        offset = error.start
    # The character after the good ones stands for the bad one, so that its own row is counted too.
    before = data[:offset].decode("utf-8-sig", "replace") + "x"
    with _wide_cells():
        lines = io.StringIO(before, newline="" if delimiter else None)
        row = sum(1 for _ in (csv.reader(lines, delimiter=delimiter) if delimiter else lines))
    kind = "It looks like UTF-16. " if data.startswith(_UTF16) else ""
    return DataError(
        f"{display(path)} row {row}: byte {offset} (0x{data[offset]:02X}) is not UTF-8. {kind}"
        "Save the file as UTF-8 (a spreadsheet calls it 'CSV UTF-8'), or convert it: "
        f"iconv -f {'UTF-16' if kind else 'WINDOWS-1252'} -t UTF-8",
        row=row,
    )


@contextmanager
def _wide_cells() -> Iterator[None]:
    """Python's csv refuses cells over 128 KiB; whole documents are longer."""
    before = csv.field_size_limit(sys.maxsize)
    try:
        yield
    finally:
        csv.field_size_limit(before)


# ---------------------------------------------------------------------------------------------------- csv and tsv


def _open_csv(path: str, delimiter: str) -> Table:
    with reading_text(path, delimiter) as file:
        first = file.readline()
    if delimiter == "," and "," not in first:
        delimiter = next((other for other in (";", "\t") if other in first), ",")
    strict = delimiter != "\t" or _quotes_close(path, delimiter)
    records = partial(_records, path, delimiter, strict)
    header = next((cells for _, _, cells in records() if cells), None)
    if header is None:
        raise DataError(f"{display(path)} is empty. Its first row must have the names of the columns.")
    columns = tuple(name.strip() for name in header)

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        return _load_csv(path, records(), columns, wanted)

    return Table(display(path), columns, load, folder=_folder(path), written=True)


def _records(path: str, delimiter: str, quoted: bool) -> Iterator[tuple[int, int, list[str]]]:
    """(row, line, cells) of each record, both counted from 1 with the header and empty rows."""
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    with _wide_cells(), reading_text(path, delimiter) as file:
        reader = csv.reader(file, delimiter=delimiter, quoting=quoting, strict=True)
        row, line = 0, 1
        try:
            for row, cells in enumerate(reader, start=1):
                yield row, line, cells
                line = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{display(path)} row {row + 1} (line {line}): {error}. A quotation mark inside a quoted cell is "
                'written twice (""), and one that opens a cell must close it.',
                row=row + 1,
            ) from error


def _quotes_close(path: str, delimiter: str) -> bool:
    """Whether a .tsv quotes its cells. Many write them bare, and then a mark at a cell's start is only a mark."""
    try:
        return all("\t" not in cell for _, _, cells in _records(path, delimiter, True) for cell in cells)
    except DataError as error:
        if isinstance(error.__cause__, csv.Error):
            return False
        raise


def _load_csv(
    path: str, records: Iterator[tuple[int, int, list[str]]], columns: tuple[str, ...], wanted: Sequence[str]
) -> tuple[dict[str, Column], Naming]:
    places = [columns.index(name) for name in wanted]
    values: list[list[Any]] = [[] for _ in wanted]
    rows: list[int] = []
    lines: list[int] = []
    next(record for record in records if record[2])
    for row, line, cells in records:
        if not cells:
            continue
        broken = _ragged(cells, len(columns)) if len(cells) != len(columns) else None
        for column, place in zip(values, places, strict=True):
            column.append(broken or cells[place])
        rows.append(row)
        lines.append(line)
    loaded: dict[str, Column] = {name: Listed(column) for name, column in zip(wanted, values, strict=True)}
    return loaded, Numbered(path, np.array(rows, dtype=np.int64), np.array(lines, dtype=np.int64))


def _ragged(cells: list[str], width: int) -> Broken:
    advice = "; quote a text that has the separator in it" if len(cells) > width else ""
    return Broken(f"the row has {len(cells)} cells and the header {width}{advice}")


# ---------------------------------------------------------------------------------------------------------- jsonl


def _open_jsonl(path: str) -> Table:
    records: list[dict[str, Any] | Broken] = []
    lines: list[int] = []
    with reading_text(path) as file:
        for line, text in enumerate(file, start=1):
            if text.strip():
                records.append(_object(text))
                lines.append(line)
    columns = tuple(dict.fromkeys(key for record in records if isinstance(record, dict) for key in record))
    if not columns:
        first = f": {records[0].message}" if records and isinstance(records[0], Broken) else ""
        raise DataError(f"{display(path)} has no rows; each line is one JSON object{first}.")
    rows = np.array(lines, dtype=np.int64)

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        loaded: dict[str, Column] = {
            name: Listed([record.get(name) if isinstance(record, dict) else record for record in records])
            for name in wanted
        }
        return loaded, Numbered(path, rows, rows)

    return Table(display(path), columns, load, folder=_folder(path))


def _object(text: str) -> dict[str, Any] | Broken:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return Broken(f"the line is not valid JSON ({error})")
    return found if isinstance(found, dict) else Broken(f"the line is a JSON {type(found).__name__}, not an object")


# -------------------------------------------------------------------------------------------------------- parquet


@final
class ArrowColumn(Column):
    """A column that stays in Arrow's memory; a cell becomes a Python object when it is asked for."""

    def __init__(self, values: Any, *, light: bool) -> None:
        self._values = values
        self.light = light

    def __len__(self) -> int:
        return len(self._values)

    def __getitem__(self, index: int) -> Any:
        return self._values[index].as_py()

    def __iter__(self) -> Iterator[Any]:
        return (value.as_py() for value in self._values)


def _open_parquet(path: str) -> Table:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise missing("pyarrow", "measure", "Reading a .parquet file") from error
    import pyarrow

    try:
        schema = parquet.read_schema(path)
    except pyarrow.ArrowException as error:
        raise DataError(f"{display(path)} is not a readable Parquet file: {error}") from error

    def load(wanted: Sequence[str]) -> tuple[dict[str, Column], Naming]:
        try:
            table = parquet.read_table(path, columns=list(wanted))
        except (pyarrow.ArrowException, OSError) as error:
            raise DataError(f"{display(path)} is damaged: {error}") from error
        rows = np.arange(1, table.num_rows + 1)
        return {name: arrow_column(table.column(name)) for name in wanted}, Numbered(path, rows, rows)

    return arrow_table(display(path), schema, load, folder=_folder(path))


def arrow_column(values: Any) -> ArrowColumn:
    """A pyarrow ChunkedArray as a column; bytes and structs (media) are heavy."""
    import pyarrow.types as types

    heavy = (types.is_struct, types.is_binary, types.is_large_binary, types.is_fixed_size_binary)
    return ArrowColumn(values, light=not any(test(values.type) for test in heavy))


def arrow_table(name: str, schema: Any, load: Any, *, folder: str | None = None) -> Table:
    """A table by its pyarrow schema. The Hugging Face library leaves the names of labels in the metadata."""
    features = _features(schema)
    return Table(
        name,
        tuple(schema.names),
        load,
        folder=folder,
        names={column: found for column, item in features.items() if (found := feature_names(item))},
        kinds={column: kind for column, item in features.items() if (kind := feature_kind(item))},
    )


def _features(schema: Any) -> dict[str, Any]:
    try:
        found = load_json((schema.metadata or {})[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError):
        return {}
    return found if isinstance(found, dict) else {}
