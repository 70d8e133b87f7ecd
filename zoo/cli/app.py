"""All commands in one place. Importing this imports neither torch nor NumPy: a command imports what it needs."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

import zoo
from zoo.cli import batching, benching, bundles, checking, finding, learning, predicting, searching, serving

app = typer.Typer(
    name="zoo",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for command in (
    finding.list_,
    finding.info,
    finding.schema,
    finding.pull,
    predicting.predict,
    learning.finetune,
    learning.evaluate,
    learning.lint,
    bundles.export,
    bundles.verify,
    benching.bench,
    batching.batch,
    serving.serve,
    searching.index,
    searching.search,
    checking.doctor,
):
    app.command(command.__name__.rstrip("_"))(command)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"polyzoo {zoo.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """One interface over text, vision and audio models: load, fine-tune, predict, evaluate, export."""


def main() -> None:
    """What the command `zoo` runs."""
    # A file name that is not UTF-8, or a terminal that is not, must not end in a UnicodeError.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=errors)
    app(prog_name="zoo")
