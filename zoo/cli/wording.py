"""What a message says of a call's options, as one types them at the command line."""

from __future__ import annotations

import ast
import inspect
import json
import re
import shlex
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple, get_args, get_origin

from typer.models import OptionInfo

_VALUE = r""""[^"]*"|'[^']*'|\{[^{}]*\}|\[[^\[\]]*\]|[\w.-]*\w"""
_OPTION = re.compile(rf"""(?<![\w.'"/?&-])(?P<name>[a-z]\w*)=(?P<value>{_VALUE})?(?![\w"'])""")
_CALL = re.compile(r"\b[\w.]+\((?:[^()]|\([^()]*\))*\)")


class _Typed(NamedTuple):
    """How an option is typed. no: what turns a switch off, where anything does."""

    yes: str
    no: str | None
    switch: bool
    repeated: bool
    text: bool
    example: str


def as_typed(message: str, command: Callable[..., Any]) -> str:
    """A message in which `on_error="skip"` is `--on-error skip`, for each option that the command has.

    Calls in Python, and options that the command has not, stay as they are.
    """
    options = dict(_typed(command))
    calls = [found.span() for found in _CALL.finditer(message)]

    def told(found: re.Match[str]) -> str:
        if any(start <= found.start() < end for start, end in calls):
            return found[0]
        return _told(options, found["name"], found["value"]) or found[0]

    return _OPTION.sub(told, message)


def _told(options: Mapping[str, _Typed], name: str, value: str | None) -> str | None:
    """None where it can't be typed so."""
    option = options.get(name)
    if option is None:
        return None
    if value is None:
        return option.yes
    meant = _meant(value, option)
    if option.switch:
        return {True: option.yes, False: option.no}.get(meant) if isinstance(meant, bool) else None
    if option.repeated and isinstance(meant, Mapping):
        return " ".join(f"{option.yes} {shlex.quote(f'{key}={item}')}" for key, item in meant.items())
    written = _written(meant, option)
    return None if written is None else f"{option.yes} {written}"


def _meant(value: str, option: _Typed) -> Any:
    """A value in Python that JSON has, too; of another list or mapping the option's example."""
    try:
        with warnings.catch_warnings():
            # Of a backslash, as in a path that a message quotes.
            warnings.simplefilter("ignore")
            meant = ast.literal_eval(value)
        json.dumps(meant)
    # What a message quotes may be anything, and it must come out.
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return option.example if value[0] in "{[" else value
    return meant


def _written(meant: Any, option: _Typed) -> str | None:
    if meant is None:
        return "none" if option.text else None
    if isinstance(meant, list) and "," in option.example:
        return shlex.quote(",".join(map(str, meant)))
    if isinstance(meant, str):
        return meant if meant in ("...", option.example) else shlex.quote(meant)
    return str(meant) if isinstance(meant, float) else shlex.quote(json.dumps(meant))


def _typed(command: Callable[..., Any]) -> Iterator[tuple[str, _Typed]]:
    for name, parameter in inspect.signature(command, eval_str=True).parameters.items():
        kind, *told = get_args(parameter.annotation) or (parameter.annotation,)
        info = next((item for item in told if isinstance(item, OptionInfo)), None)
        if info is None:
            continue
        kinds = {kind, *get_args(kind)}
        switch = bool in kinds
        plain = f"--{name.replace('_', '-')}"
        # Within Annotated the first flag is what `typer.Option` takes for the default.
        given = (info.default, *(info.param_decls or ()))
        flags = [flag for flag in given if isinstance(flag, str) and flag.startswith("--")]
        yes, _, no = (flags[0] if flags else f"{plain}/--no-{plain[2:]}" if switch else plain).partition("/")
        repeated = any(get_origin(item) is list for item in kinds)
        yield name, _Typed(yes, no or None, switch, repeated, str in kinds, info.metavar or "...")
