"""What every form of annotated images becomes: paths, and the objects of each."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError
from zoo.tasks.boxes import Objects
from zoo.training.data.cells import Broken, display
from zoo.training.data.pictures import IMAGES

_MOST_BYTES = 1 << 30
_SHOWN = 5

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Annotated:
    """Images by their paths, and as many objects, or what is wrong with them."""

    images: Sequence[str]
    objects: Sequence[Objects | Broken]


def pictures(folder: str) -> list[str]:
    """The images in a folder and below it, in order; hidden ones are left out."""
    return sorted(_pictures(folder))


def _pictures(folder: str) -> Iterator[str]:
    for parent, folders, files in os.walk(folder, followlinks=False):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in IMAGES:
                yield os.path.join(parent, name)


def entries(folder: str) -> dict[str, str]:
    """Names in a folder by their lower case, hidden ones left out; nothing where it can't be read."""
    try:
        return {name.lower(): name for name in sorted(os.listdir(folder)) if not name.startswith(".")}
    except OSError:
        return {}


def inner(folder: str, *names: str) -> str | None:
    """The first folder in a folder that goes by one of these names, whatever their case."""
    there = entries(folder)
    paths = (os.path.join(folder, there[name]) for name in names if name in there)
    return next((path for path in paths if os.path.isdir(path)), None)


def content(path: str, most: int = _MOST_BYTES) -> bytes:
    """A file's bytes. Raises DataError for one that can't be read, or is larger than any annotation."""
    try:
        if os.path.getsize(path) > most:
            raise DataError(f"{display(path)} has more than {most:,} bytes.")
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{display(path)} can't be read: {error.strerror}.") from error


def text(path: str, most: int = _MOST_BYTES) -> str:
    """The same as UTF-8. Raises DataError."""
    try:
        return content(path, most).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{display(path)} is not UTF-8: byte {error.start}.") from error


def json_file(path: str) -> Any:
    try:
        return json.loads(text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{display(path)} is not valid JSON ({error}).") from error


def complain(faults: Sequence[str], on_error: str) -> None:
    """Faults that belong to no image. Raises DataError with the first, unless they are to be left out, which is
    logged."""
    if not faults:
        return
    if on_error == "raise":
        more = f" {len(faults) - 1} more like it." if len(faults) > 1 else ""
        raise DataError(f"{faults[0]}{more} on_error='skip' leaves such out.")
    for message in faults[:_SHOWN]:
        _log.warning("Left out: %s", message)
    if len(faults) > _SHOWN:
        _log.warning("Left out: %d more.", len(faults) - _SHOWN)
