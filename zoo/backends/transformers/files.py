"""The small files of a checkpoint, as data."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from zoo.errors import SpecError
from zoo.plain import load_json

# A small file of the checkpoint as data, by its name; an empty mapping when it is not there.
Read = Callable[[str], dict[str, Any]]


def read_file(path: Path) -> dict[str, Any]:
    """A JSON file; empty where there is none. Raises SpecError for one that can't be read."""
    if not path.is_file():
        return {}
    try:
        data = load_json(path.read_text("utf-8"))
    except ValueError as error:
        raise SpecError(f"{path} is not readable JSON: {error}") from error
    # modules.json is a list; wrapped, so that every file is a mapping.
    return data if isinstance(data, dict) else {"items": data}
