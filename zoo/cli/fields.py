"""Options of a command made from the fields of `zoo.TrainConfig`, so that each is said once."""

from __future__ import annotations

import inspect
import json
import types
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

_PANEL = "Training (each is a field of zoo.TrainConfig)"
_NAMES = {int: "INTEGER", float: "NUMBER", str: "TEXT", Path: "PATH"}


def with_fields(model: type[BaseModel]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command with an option for each field of `model`, in place of its `**` parameter.

    Every value is None until it is given.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        shown = inspect.signature(command, eval_str=True)
        own = [p for p in shown.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
        made = [_parameter(name, field) for name, field in model.model_fields.items()]
        command.__signature__ = shown.replace(parameters=[*own, *made])  # type: ignore[attr-defined]
        return command

    return decorate


def parsed(model: type[BaseModel], given: Mapping[str, Any]) -> dict[str, Any]:
    """The values that were given, as JSON types: `3`, `1e-5`, `true`, `none`, `{"a": 2}`, or else a text."""
    return {name: _value(model.model_fields[name], text) for name, text in given.items() if text is not None}


def _parameter(name: str, field: FieldInfo) -> inspect.Parameter:
    flag = name.replace("_", "-")
    help_ = f"{field.description} (default: {_shown(field.default)})".replace("[", "\\[")
    kind: Any
    if field.annotation is bool:
        kind, option = bool | None, typer.Option(f"--{flag}/--no-{flag}", help=help_, rich_help_panel=_PANEL)
    else:
        metavar = "|".join(_kinds(field.annotation))
        kind, option = str | None, typer.Option(f"--{flag}", help=help_, metavar=metavar, rich_help_panel=_PANEL)
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
        return json.loads(text)
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
