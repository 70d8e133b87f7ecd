"""What `zoo predict --output` writes, a picture with the answer drawn over it or the sound of a speech.

And what `--stream` prints.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import terminal
from zoo.cli.inputs import as_raw
from zoo.errors import ConfigError
from zoo.results import RowError, Speech

if TYPE_CHECKING:
    from zoo.predictor import Predictor

_LONGEST = 40  # of a file's name that is made of a text


def written(answered: Iterable[tuple[Any, str]], output: Path, *, several: bool) -> Iterator[tuple[Any, str]]:
    """The same answers, each written on the way: to a file, or into a folder under the input's name."""
    names: set[str] = set()
    for result, text in answered:
        if not isinstance(result, RowError):
            target = output / _unused(*_name(result, text), names) if several else output
            target.parent.mkdir(parents=True, exist_ok=True)
            _write(result, text, target)
        yield result, text


def print_stream(predictor: Predictor, texts: Iterable[str], options: Mapping[str, Any]) -> None:
    """Each input and what is written about it, in pieces as they are generated."""
    for text in texts:
        pieces = predictor.stream(as_raw(text, predictor), **options)
        sys.stdout.write(f"{terminal.fit(text, 80)}\n  ")
        for piece in pieces:
            sys.stdout.write(piece.replace("\n", "\n  "))
            sys.stdout.flush()
        sys.stdout.write("\n")


def _name(result: Any, text: str) -> tuple[str, str]:
    """Stem and ending of a file in a folder."""
    if isinstance(result, Speech):
        return re.sub(r"[^\w-]+", "-", text)[:_LONGEST].strip("-") or "speech", ".wav"
    return Path(text).stem, ".png"


def _unused(stem: str, ending: str, names: set[str]) -> str:
    name, number = f"{stem}{ending}", 1
    while name in names:
        number += 1
        name = f"{stem}-{number}{ending}"
    names.add(name)
    return name


def _write(result: Any, text: str, target: Path) -> None:
    if isinstance(result, Speech):
        result.save(target)
        return
    if not hasattr(result, "overlay"):
        raise ConfigError(f"--output writes pictures and speech, and a {type(result).__name__} has none.")
    try:
        result.overlay(text).save(target)
    except ValueError as error:
        raise ConfigError(f"--output {target}: {error}. Name a picture, as in out.png.") from error
