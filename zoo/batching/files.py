"""The files of an output: Parquet, or JSON lines, each there whole or not at all."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

from zoo.errors import ConfigError, missing

Written = Literal["parquet", "jsonl"]
_ENDINGS = {".parquet": "parquet", ".jsonl": "jsonl"}


class Answered(NamedTuple):
    """A line of the output. input: the file; row: of a table, from 0; result: JSON types; error: why there is none."""

    input: str
    row: int | None
    result: Any
    error: str | None


def written_as(output: Path) -> Written:
    """What the folder's name says: out.jsonl holds JSON lines, out.parquet and any other name Parquet."""
    if output.suffix.lower() in (".csv", ".tsv", ".json"):
        raise ConfigError(
            f"The output {output} would be {output.suffix}; it is a folder of Parquet files, or of JSON lines where "
            "its name ends in .jsonl."
        )
    return _ENDINGS.get(output.suffix.lower(), "parquet")  # type: ignore[return-value]


def name_of(number: int, kind: Written) -> str:
    return f"part-{number:06d}.{kind}"


@contextmanager
def counting(target: Path) -> Iterator[int]:
    """How often a part was begun, this time with it: what is left of a process that died in the block."""
    begun = target.with_name(f".{target.name}.begun")
    with begun.open("a") as file:
        file.write("x")
    yield begun.stat().st_size
    begun.unlink(missing_ok=True)


def write(rows: Sequence[Answered], target: Path, *, vectors: bool) -> None:
    """vectors: results are vectors, which Parquet holds as float32; all others are JSON, whose form is each task's."""
    # A leading dot hides it from whatever reads the folder.
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    try:
        if target.suffix == ".jsonl":
            lines = [json.dumps(row._asdict(), ensure_ascii=False, allow_nan=False) for row in rows]
            temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", errors="backslashreplace")
        else:
            _write_parquet(rows, temporary, vectors=vectors)
        os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def _write_parquet(rows: Sequence[Answered], target: Path, *, vectors: bool) -> None:
    arrow = import_arrow()
    import pyarrow.parquet as parquet

    results = [
        row.result if vectors or row.result is None else json.dumps(row.result, ensure_ascii=False, allow_nan=False)
        for row in rows
    ]
    table = arrow.table(
        {
            "input": arrow.array([_utf8(row.input) for row in rows], arrow.string()),
            "row": arrow.array([row.row for row in rows], arrow.int64()),
            "result": arrow.array(results, arrow.list_(arrow.float32()) if vectors else arrow.large_string()),
            "error": arrow.array([row.error and _utf8(row.error) for row in rows], arrow.string()),
        }
    )
    parquet.write_table(table, target)


def errors_in(path: Path) -> int:
    """The rows of a finished part that have an error."""
    if path.suffix == ".jsonl":
        with path.open(encoding="utf-8") as file:
            return sum(json.loads(line)["error"] is not None for line in file)
    import_arrow()
    import pyarrow.parquet as parquet

    column = parquet.read_table(path, columns=["error"]).column("error")
    return len(column) - int(column.null_count)


def import_arrow() -> Any:
    try:
        import pyarrow
    except ImportError as error:
        raise missing("pyarrow", "ray", "Writing Parquet") from error
    return pyarrow


def _utf8(text: str) -> str:
    """A file's name may hold bytes that are no UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
