"""Which files are pictures, and what a file beside them says of the classes in them."""

from __future__ import annotations

import os

from zoo.errors import DataError
from zoo.training.data.cells import display

IMAGES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".gif", ".bmp", ".dib", ".webp", ".tif", ".tiff",
    ".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".ico", ".avif", ".jp2", ".j2k",
})  # fmt: skip
_CLASSES = ("labels.txt", "classes.txt")


def class_names(folder: str) -> tuple[str, ...] | None:
    """The classes that a file in a folder, or in the one above it, lists: one a line, the first is id 0."""
    for place in (folder, os.path.dirname(os.path.abspath(folder))):
        for name in _CLASSES:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                return _lines(path)
    return None


def _lines(path: str) -> tuple[str, ...]:
    try:
        with open(path, encoding="utf-8-sig") as file:
            found = tuple(line.strip() for line in file.read().rstrip("\n").split("\n"))
    except UnicodeDecodeError as error:
        raise DataError(f"{display(path)} is not UTF-8: byte {error.start}.") from error
    if len(set(found)) != len(found) or not all(found):
        raise DataError(f"{display(path)} names the classes, one a line: no line may be empty or come twice.")
    return found
