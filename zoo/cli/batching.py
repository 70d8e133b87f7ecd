"""`zoo batch`: a bundle over many inputs, on this machine's cores or on a Ray cluster."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.shared import AsJson, emit, number_or, pairs, readable
from zoo.plain import load_json

if TYPE_CHECKING:
    from zoo.batching import BatchRun


@readable
def batch(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="An exported bundle.", show_default=False)],
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help="Folders, files, patterns in quotation marks, or tables (.csv, .tsv, .jsonl, .parquet).",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FOLDER",
            help="Folder of Parquet files, or of JSON lines where its name ends in .jsonl.",
            show_default=False,
        ),
    ],
    columns: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN=NAME", help="What a table calls a column, as in text=review; may be repeated."),
    ] = None,
    cluster: Annotated[str, typer.Option(metavar="ADDRESS", help="Of a Ray cluster; local starts one here.")] = "local",
    workers: Annotated[
        int | None, typer.Option(help="Processes with a copy of the bundle; as many as fit if not given.")
    ] = None,
    threads: Annotated[int, typer.Option(help="Cores of each.")] = 1,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="cuda gives each worker a GPU.")] = "cpu",
    part_rows: Annotated[int, typer.Option(help="Inputs in one file of the output.")] = 500,
    batch_size: Annotated[str, typer.Option(metavar="NUMBER|auto", help="Inputs in one batch.")] = "auto",
    option: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Of predict(), as in top_k=3; may be repeated."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Answer many inputs on the processes of a Ray cluster. A run that was killed goes on where it was."""
    import zoo

    run = zoo.batch(
        bundle,
        inputs,
        output,
        columns=pairs(columns, "--columns"),
        workers=workers,
        threads=threads,
        device=device,  # type: ignore[arg-type]  # batch() checks it
        cluster=cluster,
        part_rows=part_rows,
        batch_size=number_or(batch_size, ["auto"], "--batch-size"),
        on_part=None if as_json else _show,
        **{name: _value(text) for name, text in (pairs(option, "--option") or {}).items()},
    )
    if as_json:
        emit(run)
        return
    kept = f", {run.kept} of {run.parts} files kept of an earlier run" if run.kept else ""
    typer.echo(f"Wrote {output}: {_rows(run)}{kept}.")


def _show(run: BatchRun) -> None:
    """How far it is: one line that is written over, where a person looks."""
    if sys.stderr.isatty():
        end = "\n" if run.parts == run.of else ""
        sys.stderr.write(f"\r{run.parts} of {run.of} files, {_rows(run)}{end}")
        sys.stderr.flush()


def _rows(run: BatchRun) -> str:
    failed = f", {run.errors:,} of them an error" if run.errors else ""
    return f"{run.rows:,} input{'s' * (run.rows != 1)}{failed}"


def _value(text: str) -> Any:
    """JSON where it is that: 3, true, ["a", "b"]; else the text."""
    try:
        return load_json(text)
    except ValueError:
        return text
