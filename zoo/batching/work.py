"""A worker: one bundle in one process of the cluster, and the parts that it is given."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from zoo.batching import files
from zoo.batching.files import Answered, Written
from zoo.batching.plan import Part, Roles
from zoo.errors import BundleError, ConfigError, DataError, DeviceError
from zoo.results import RowError, to_json
from zoo.runtime.opening import load
from zoo.training.data.cells import Broken, Cell
from zoo.training.data.records import written
from zoo.training.data.tables import open_table

if TYPE_CHECKING:
    from zoo.inference import BatchSize
    from zoo.runtime.session import Device
    from zoo.training.data.table import Column

_STARTS = 3  # of a part, before its inputs are given up


@final
@dataclass(frozen=True, slots=True)
class Job:
    """What is the same for all parts. Every path must lead to the same file on every machine."""

    bundle: str
    output: str
    written: Written
    columns: dict[str, str] | None
    device: Device
    threads: int | None
    batch_size: BatchSize
    options: dict[str, Any]


@final
class Worker:
    """What Ray Data makes once a process. Called with parts as they are, it writes their files."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.model = load(job.bundle, device=job.device, threads=job.threads, packed=True)
        self.roles = Roles.of(self.model.task, job.columns)
        self._open: tuple[str, _Rows] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[Any]]:
        errors = [self.answer(int(number), Part.parse(str(text))) for number, text in _pairs(batch)]
        return {"part": list(batch["part"]), "errors": errors}

    def answer(self, number: int, part: Part) -> int:
        """Write a part's file. Returns how many of its rows have an error."""
        target = Path(self.job.output) / files.name_of(number, self.job.written)
        with files.counting(target) as starts:
            rows = list(self._answers(part) if starts <= _STARTS else _given_up(part))
            files.write(rows, target, vectors=self.model.task.name == "feature-extraction")
        return sum(row.error is not None for row in rows)

    def _answers(self, part: Part) -> Iterator[Answered]:
        if part.broken is not None:
            yield Answered(str(part.table), None, None, part.broken)
            return
        keys = part.inputs()
        raws = [self._raw(path, row) for path, row in keys]
        good = [raw for raw in raws if not isinstance(raw, Broken)]
        results = iter(self._predict(good))
        for (path, row), raw in zip(keys, raws, strict=True):
            found = RowError(0, "", "DataError", raw.message) if isinstance(raw, Broken) else next(results)
            failed = f"{found.error}: {found.message}" if isinstance(found, RowError) else None
            yield Answered(path, row, None if failed else to_json(found), failed)

    def _predict(self, raws: Sequence[Any]) -> list[Any]:
        """What is wrong with one input is said in its place, whatever it is; what is wrong with all is raised."""
        try:
            given = self.model.predict_iter(raws, batch_size=self.job.batch_size, on_error="return", **self.job.options)
            return list(given)
        except (BundleError, ConfigError, DeviceError):
            raise
        except Exception as error:
            if len(raws) == 1:
                return [RowError(0, "", type(error).__name__, str(error))]
            return [result for raw in raws for result in self._predict([raw])]

    def _raw(self, path: str, row: int | None) -> Any:
        """An input as predict() takes it, or Broken."""
        try:
            if row is not None:
                return self._table(path).raw(row)
            if self.model.spec.input.kind == "text":
                return Path(path).read_text(encoding="utf-8-sig")
        except (DataError, OSError, UnicodeDecodeError) as error:
            return Broken(str(error))
        return path

    def _table(self, path: str) -> _Rows:
        # Parts of one table come one after the other.
        if self._open is None or self._open[0] != path:
            self._open = (path, _Rows(path, self.roles))
        return self._open[1]


@final
class _Rows:
    """The inputs that stand in a table."""

    def __init__(self, path: str, roles: Roles) -> None:
        table = open_table(path)
        found = roles.found(table.name, table.columns)
        columns, self._naming = table.load(list(found.values()))
        self._columns: dict[str, Column] = {role: columns[name] for role, name in found.items()}
        self._cells = {role: Cell(role, folder=table.folder, written=table.written) for role in found}
        self._names = found
        self._needed = roles.needed
        self._whole = roles.whole
        self._written = table.written

    def raw(self, row: int) -> Any:
        """Raises DataError that names the row as a spreadsheet counts it."""
        try:
            return self._record(row) if self._whole else self._input(row)
        except DataError as error:
            where = self._naming.where(row) + (f", column {error.column!r}" if error.column else "")
            raise DataError(f"{where}: {error}", row=self._naming.number(row), column=error.column) from error

    def _record(self, row: int) -> Mapping[str, Any]:
        cells = {name: column[row] for name, column in self._columns.items()}
        broken = next((cell for cell in cells.values() if isinstance(cell, Broken)), None)
        if broken is not None:
            raise DataError(broken.message)
        return {name: written(cell) for name, cell in cells.items()} if self._written else cells

    def _input(self, row: int) -> Any:
        """The one text or file, or several as a dict by role; an optional cell may be empty."""
        read = {}
        for role, column in self._columns.items():
            value = column[row]
            if role not in self._needed and (value is None or value == ""):
                continue
            try:
                read[role] = self._cells[role].read(value)
            except DataError as error:
                named = None if isinstance(value, Broken) else self._names[role]
                raise DataError(str(error), column=named) from error
        return read if len(read) > 1 else next(iter(read.values()))


def _given_up(part: Part) -> Iterator[Answered]:
    """Ray starts a process that died again and again, and with it the part that killed it."""
    error = f"WorkerDied: the process that answered this part ended {_STARTS} times; one of its inputs may be why."
    return (Answered(path, row, None, error) for path, row in part.inputs())


def _pairs(batch: Mapping[str, Any]) -> Iterator[tuple[Any, Any]]:
    return zip(batch["part"], batch["work"], strict=True)
