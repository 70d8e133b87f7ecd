"""What every command needs: errors as one message, output for people or machines, options that come in several."""

from __future__ import annotations

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, ParamSpec, TypeVar

import typer

from zoo.cli.wording import as_typed
from zoo.errors import ConfigError, ZooError
from zoo.plain import load_json

P = ParamSpec("P")
R = TypeVar("R")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]


def readable(command: Callable[P, R]) -> Callable[P, R]:
    """A command whose every error is one message on stderr and exit code 1; 130 when it was interrupted.

    A message names a call's options; here they are written as the command takes them.

    ZOO_TRACEBACK=1 lets the traceback through.
    """

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except (typer.Exit, typer.Abort, BrokenPipeError):
            raise
        except KeyboardInterrupt as error:
            _fail(as_typed(str(error), run) or "Interrupted.", 130)
        except Exception as error:
            if os.environ.get("ZOO_TRACEBACK", "0") not in ("", "0"):
                raise
            _fail(as_typed(str(error), run) if isinstance(error, ZooError) else _message(error), 1)

    return run


def _message(error: Exception) -> str:
    name, text = type(error).__name__, str(error).strip() or "no message"
    if name == "OutOfMemoryError" or isinstance(error, MemoryError):
        return f"Memory ran out ({text.splitlines()[0]}). A smaller --batch-size needs less."
    if isinstance(error, ImportError):
        return f"{text}\nAn installed package can't be imported; `zoo doctor` looks for the reason."
    if isinstance(error, OSError):
        return text
    return f"{name}: {text}\nThis is a defect of polyzoo. ZOO_TRACEBACK=1 before the command shows where it is."


def _fail(message: str, code: int) -> NoReturn:
    typer.echo(f"zoo: {message}", err=True)
    raise typer.Exit(code)


def note(message: str) -> None:
    """Something for a person to know, away from the output."""
    typer.echo(message, err=True)


def emit(value: Any, *, indent: int | None = 2) -> None:
    """JSON on stdout, in ASCII so that no terminal's encoding can spoil it."""
    typer.echo(json.dumps(plain(value), indent=indent, allow_nan=False))
    sys.stdout.flush()


def plain(value: Any) -> Any:
    """JSON types: results by their `to_dict`, arrays as lists, a figure that is not finite as null."""
    if hasattr(value, "to_dict"):
        return plain(value.to_dict())
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value


def pairs(texts: Sequence[str] | None, option: str) -> dict[str, str] | None:
    """`["text=review"]` as a dict; None for none. Raises ConfigError for what is no pair."""
    found = {}
    for text in texts or ():
        name, _, value = text.partition("=")
        if not (name and value):
            raise ConfigError(f"{option} takes NAME=VALUE, not {text!r}.")
        found[name] = value
    return found or None


def names(text: str | None, option: str) -> list[str] | None:
    """`O,B-PER,I-PER`, or a JSON list where a name has a comma, as a list."""
    if text is None:
        return None
    if not text.lstrip().startswith("["):
        return [name.strip() for name in text.split(",")]
    try:
        found = load_json(text)
    except ValueError as error:
        raise ConfigError(f"{option} is neither a list with commas nor readable JSON: {error}") from error
    return [str(name) for name in found]


def number_or(text: str, words: Sequence[str], option: str) -> Any:
    """A whole number, or one of these words."""
    if text in words:
        return text
    try:
        return int(text)
    except ValueError:
        raise ConfigError(f"{option} is {text!r}; give a whole number or: {', '.join(words)}.") from None
