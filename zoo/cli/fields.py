"""Options of a command made from the fields of `zoo.TrainConfig`, so that each is said once."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from zoo.options import Options
from zoo.plain import load_json

_PANEL = "Training"
_WIDE = 12  # columns of 80 that a value's kinds may take in the help
_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def with_fields(
    model: type[Options], *, panel: str | None = None
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with an option for each field of `model`, in place of its `**` parameter.

    Every value is None until it is given. panel: of the help, for all of them; else one for each part of the model.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shown = inspect.signature(command, eval_str=True)
        own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        made = [_parameter(name, field, panel or _panel(model, name)) for name, field in model.model_fields.items()]
        command.__signature__ = shown.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
        return command

    return decorate


def parsed(model: type[Options], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given, as JSON types: `3`, `1e-5`, `true`, `none`, `{"a": 2}`, or else a text."""
    return {name: _value(model.model_fields[name], text) for name, text in given.items() if text is not None}


def _panel(model: type[Options], name: str) -> str:
    """A panel for each part that the model is made of: each has columns of its own, as wide as its names need."""
    if model.model_fields[name].annotation is bool:
        return f"{_PANEL}: yes or no"
    part = next(kind for kind in reversed(model.__mro__) if name in getattr(kind, "__annotations__", {}))
    theme = "the run" if part is model else (part.__doc__ or "").removeprefix("Abstract: ").rstrip(".")
    return f"{_PANEL}: {theme}"


def _parameter(name: str, field: FieldInfo, panel: str) -> inspect.Parameter:
    flag = name.replace("_", "-")
    metavar = "|".join(_kinds(field.annotation))
    choices = f"one of {metavar.replace('|', ', ')}; " if len(metavar) > _WIDE else ""
    help_ = f"{field.description} ({choices}default: {_shown(field.default)})".replace("[", "\\[")
    kind: Any
    if field.annotation is bool:
        kind, option = bool | None, typer.Option(f"--{flag}/--no-{flag}", help=help_, rich_help_panel=panel)
    else:
        shown = "CHOICE" if choices else metavar
        kind, option = str | None, typer.Option(f"--{flag}", help=help_, metavar=shown, rich_help_panel=panel)
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind, option])


def _value(field: FieldInfo, text: Any) -> Any:
    if isinstance(text, bool):
        return text
    # "none" may also be a choice of its own, and is a text then.
    if text.lower() == "none" and type(None) in get_args(field.annotation):
        return None
    if {"TEXT", "PATH"} & set(_kinds(field.annotation)):
        return text
    try:
        return load_json(text)
    except ValueError:
        return text


def _kinds(annotation: Any) -> list[str]:
    """What a value may be, for people: ["INTEGER", "auto"]."""
    origin = get_origin(annotation)
    if annotation is type(None):
        return ["none"]
    if origin is Literal:
        return [str(choice) for choice in get_args(annotation)]
    if origin in (Union, types.UnionType, tuple):
        return [kind for part in get_args(annotation) if part is not ... for kind in _kinds(part)]
    if origin is Annotated:
        return _kinds(get_args(annotation)[0])
    return [_NAMES.get(annotation, "JSON")]


def _shown(default: Any) -> str:
    if isinstance(default, (list, tuple)):
        return ", ".join(map(str, default)) or "none"
    return str(default).lower() if isinstance(default, bool) or default is None else str(default)
