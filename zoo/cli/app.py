"""All commands in one place. A command's file is read when that command is asked for, or all are, for their help."""

from __future__ import annotations

import importlib
import inspect
import os
import sys
from collections.abc import Iterator, MutableMapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

import zoo
from zoo.blas import WAITING

if TYPE_CHECKING:
    from typer.core import TyperCommand

# In the order of the help: where each is, as module and function.
_COMMANDS = {
    "list": ("finding", "list_"),
    "info": ("finding", "info"),
    "schema": ("finding", "schema"),
    "pull": ("finding", "pull"),
    "predict": ("predicting", "predict"),
    "finetune": ("learning", "finetune"),
    "evaluate": ("learning", "evaluate"),
    "lint": ("learning", "lint"),
    "export": ("bundles", "export"),
    "verify": ("bundles", "verify"),
    "bench": ("benching", "bench"),
    "batch": ("batching", "batch"),
    "serve": ("serving", "serve"),
    "index": ("searching", "index"),
    "search": ("searching", "search"),
    "doctor": ("checking", "doctor"),
}


def _flowing(text: str) -> str:
    """Paragraphs without line breaks: typer keeps those of all but the first."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


class _Commands(MutableMapping[str, "TyperCommand"]):
    """By name. Each is made when it is looked at first: the options of some are classes that take a while to import."""

    def __init__(self) -> None:
        self._made: dict[str, Any] = dict.fromkeys(_COMMANDS)

    def __getitem__(self, name: str) -> TyperCommand:
        if self._made[name] is None:
            module, function = _COMMANDS[name]
            alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
            command = getattr(importlib.import_module(f"zoo.cli.{module}"), function)
            alone.command(name, help=_flowing(command.__doc__ or ""))(command)
            self._made[name] = typer.main.get_command(alone)
        return self._made[name]  # type: ignore[no-any-return]

    def __setitem__(self, name: str, command: TyperCommand) -> None:
        self._made[name] = command

    def __delitem__(self, name: str) -> None:
        del self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)


class _Group(TyperGroup):
    def __init__(self, **given: Any) -> None:
        super().__init__(**given)
        self.commands = _Commands()  # type: ignore[assignment]  # of the click that typer has within

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)


app = typer.Typer(
    name="zoo",
    cls=_Group,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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
    # This process is ours, and so are the workers that it starts.
    os.environ.setdefault(*WAITING)
    app(prog_name="zoo")
