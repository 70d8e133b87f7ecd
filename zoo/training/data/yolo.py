"""YOLO's folders: images, and for each a text of one object a line: class, centre, width and height as shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from zoo.errors import DataError, SpecError
from zoo.plain import load_yaml
from zoo.tasks.boxes import Objects, make_objects
from zoo.training.data import annotated
from zoo.training.data.annotated import Annotated
from zoo.training.data.cells import Broken, display
from zoo.training.data.folders import SPLITS, named_splits
from zoo.training.data.pictures import class_names

_YAMLS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_CLASSES = ("classes.txt", "labels.txt", "obj.names", "predefined_classes.txt")
_MOST_CLASSES = 100_000
_BEYOND = 1e-3  # what writers round may pass the border

Names = tuple[str, ...] | None


def find(path: str, on_error: str) -> dict[str, Callable[[], Annotated]]:
    """The splits that data.yaml names, or those of the folders."""
    if not os.path.isdir(path):
        return _of_yaml(path) if path.lower().endswith((".yaml", ".yml")) and os.path.isfile(path) else {}
    there = annotated.entries(path)
    file = next((there[name] for name in _YAMLS if name in there), None)
    if file is not None:
        return _of_yaml(os.path.join(path, file))
    images, labels = annotated.inner(path, "images"), annotated.inner(path, "labels")
    if images and labels and _has_texts(labels):
        names = class_names(path)
        splits = {name: os.path.join(images, name) for name in os.listdir(images) if name.lower() in SPLITS}
        splits = {name: folder for name, folder in splits.items() if os.path.isdir(folder)}
        places = named_splits(splits, display(images)) if splits else {"train": images}
        return {split: partial(_read, (place,), names) for split, place in places.items()}
    named = next((there[name] for name in _CLASSES if name in there), None)
    if named is not None and any(name.endswith(".txt") and name not in _CLASSES for name in there):
        return {"train": partial(_read, (path,), class_names(path))}
    return {}


def _has_texts(folder: str) -> bool:
    return any(name.lower().endswith(".txt") for _, _, files in os.walk(folder) for name in files)


def _of_yaml(path: str) -> dict[str, Callable[[], Annotated]]:
    try:
        data = load_yaml(annotated.text(path, 1 << 20), where=display(path))
    except SpecError as error:
        raise DataError(str(error)) from error
    if not isinstance(data, Mapping) or "names" not in data:
        return {}
    names = _names(data, display(path))
    given = {key: value for key, value in data.items() if isinstance(key, str) and key.lower() in SPLITS and value}
    if not given:
        raise DataError(f"{display(path)} names no folder of images: train, val or test.")
    splits: dict[str, tuple[str, ...]] = {}
    for key, value in given.items():
        places = value if isinstance(value, list) else [value]
        split = SPLITS[key.lower()]
        if split in splits:
            raise DataError(f"{display(path)} names the split {split!r} twice; keep one.")
        splits[split] = tuple(_place(path, data.get("path"), place, key) for place in places)
    return {split: partial(_read, places, names) for split, places in splits.items()}


def _names(data: Mapping[str, Any], where: str) -> tuple[str, ...]:
    names = data["names"]
    if isinstance(names, Mapping):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise DataError(f"{where}: the keys of 'names' are not the numbers from 0 to {len(names) - 1}.")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names:
        raise DataError(f"{where}: 'names' is a list of the classes' names, or a dict of them by number.")
    found = tuple(str(name) for name in names)
    if len(set(found)) < len(found):
        raise DataError(f"{where}: 'names' has a name twice.")
    if data.get("nc", len(found)) != len(found):
        raise DataError(f"{where}: nc is {data['nc']!r}, and there are {len(found)} names.")
    return found


def _place(file: str, base: Any, given: Any, key: str) -> str:
    """A folder of images, or a text that lists them. Tools often write paths as from a folder that is not there."""
    if not isinstance(given, str):
        raise DataError(f"{display(file)}: {key!r} is a folder, not {given!r}.")
    here = os.path.dirname(os.path.abspath(file))
    inside = os.path.normpath(given).lstrip(os.sep)
    while inside.startswith(f"..{os.sep}"):
        inside = inside[3:]
    bases = [os.path.join(here, base)] if isinstance(base, str) else []
    tried = [*(os.path.join(place, given) for place in (*bases, here)), os.path.join(here, inside)]
    for place in tried:
        if os.path.exists(place):
            return place
    raise DataError(f"{display(file)}: {key!r} is {given!r}, and there is no such folder: {display(tried[-1])!r}.")


def _read(places: Sequence[str], names: Names) -> Annotated:
    images = [image for place in places for image in _images(place)]
    texts = [_text_of(image) for image in images]
    if images and not any(texts):
        raise DataError(
            f"{display(places[0])}: none of the {len(images)} images has a text of its boxes: such as "
            f"{display(_beside(images[0])[0])!r}."
        )
    return Annotated(images, [_objects(file, names) if file else make_objects([], ()) for file in texts])


def _images(place: str) -> list[str]:
    if os.path.isdir(place):
        found = annotated.pictures(place)
        if not found:
            raise DataError(f"{display(place)} holds no images.")
        return found
    folder = os.path.dirname(place)
    lines = (line.strip() for line in annotated.text(place).splitlines())
    return [os.path.normpath(os.path.join(folder, line)) for line in lines if line]


def _beside(image: str) -> tuple[str, str]:
    """Where the text of an image may be: in `labels` as the image is in `images`, or beside it."""
    stem = os.path.splitext(image)[0]
    head, found, tail = stem.rpartition(f"{os.sep}images{os.sep}")
    moved = f"{head}{os.sep}labels{os.sep}{tail}" if found else stem
    return f"{moved}.txt", f"{stem}.txt"


def _text_of(image: str) -> str | None:
    return next((file for file in _beside(image) if os.path.isfile(file)), None)


def _objects(file: str, names: Names) -> Objects | Broken:
    boxes, labels = [], []
    try:
        for number, line in enumerate(annotated.text(file, 1 << 24).splitlines(), start=1):
            if line.strip():
                label, box = _numbered(number, line, names)
                boxes.append(box)
                labels.append(label)
    except DataError as error:
        return Broken(f"{display(file)}{error}" if str(error).startswith(" line") else str(error))
    return make_objects(boxes, labels, corners=True, relative=True)


def _numbered(number: int, line: str, names: Names) -> tuple[str, list[float]]:
    try:
        return _line(line.split(), names)
    except DataError as error:
        raise DataError(f" line {number}: {error}") from error


def _line(cells: list[str], names: Names) -> tuple[str, list[float]]:
    """A label, and x0, y0, x1, y1 as shares of the image."""
    try:
        kind, *values = (float(cell) for cell in cells)
    except ValueError as error:
        raise DataError(f"{' '.join(cells)[:60]!r} is not: class, and four numbers") from error
    if not 0 <= kind < (len(names) if names else _MOST_CLASSES) or kind != int(kind):
        allowed = f"a whole number from 0 to {(len(names) if names else _MOST_CLASSES) - 1}"
        raise DataError(f"the class {cells[0]} is not {allowed}")
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise DataError(f"there are {len(values)} numbers after the class; a box has four, an outline pairs of x, y")
    if not all(-_BEYOND <= value <= 1 + _BEYOND for value in values):
        raise DataError(f"{' '.join(cells)[:60]!r} is not in shares of the image, from 0 to 1")
    box = _around(values)
    if box[2] <= box[0] or box[3] <= box[1]:
        raise DataError(f"the box {' '.join(cells)[:60]!r} has no area")
    return (names[int(kind)] if names is not None else str(int(kind))), box


def _around(values: list[float]) -> list[float]:
    if len(values) == 4:
        x, y, width, height = values
        return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
    points = np.array(values).reshape(-1, 2)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()]


__all__ = ["find"]
