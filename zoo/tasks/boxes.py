"""Objects in an image, as people annotate them, and the arithmetic of boxes. NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

import numpy as np

from zoo.errors import DataError
from zoo.modalities.base import Array
from zoo.tasks.labels import label_text

_LABELS = ("category", "label", "labels", "category_id", "category_name", "class", "classes", "categories", "name")
_BOXES = ("bbox", "bboxes", "box", "boxes")
_CROWD = ("iscrowd", "is_crowd", "crowd")
_CORNERS = ("box", "boxes")  # as our own results have them; `bbox` is COCO's


@final
@dataclass(frozen=True, slots=True, eq=False)
class Objects:
    """The objects of one image.

    boxes: float64 `[N, 4]`, x0, y0, x1, y1 in pixels of the upright image, or as shares of it where `relative`.
    labels: N of them. crowd: bool `[N]`, regions of uncounted objects: nothing to learn from, and no fault to answer.
    """

    boxes: Array
    labels: tuple[str, ...]
    crowd: Array
    relative: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        rows = zip(self.labels, self.boxes.tolist(), self.crowd.tolist(), strict=True)
        return f"Objects({[(label, tuple(box), *(['crowd'] if crowd else [])) for label, box, crowd in rows]!r})"


def make_objects(
    boxes: Any, labels: Sequence[str], crowd: Any = None, *, corners: bool = False, relative: bool = False
) -> Objects:
    """Check and take. boxes: N of x, y, width, height, or of x0, y0, x1, y1 with `corners`.

    Raises DataError that names the object for a box that is not finite or has no area.
    """
    found = _numbers(boxes, len(labels))
    if not corners:
        found[:, 2:] += found[:, :2]
    flags = np.zeros(len(found), dtype=bool) if crowd is None else np.asarray(crowd).astype(bool)
    if flags.shape != (len(found),):
        raise DataError(f"there are {len(found)} boxes and {flags.size} marks of crowds; give one for each")
    for number, (label, box) in enumerate(zip(labels, found, strict=True)):
        fault = _fault(box)
        if fault:
            given = ", ".join(f"{value:g}" for value in (box if corners else [*box[:2], *(box[2:] - box[:2])]))
            form = "x0, y0, x1, y1" if corners else "x, y, width, height"
            raise DataError(f"object {number} ({label!r}) has a box {fault}: {form} = {given}")
    return Objects(found, tuple(labels), flags, relative)


def _numbers(boxes: Any, count: int) -> Array:
    try:
        found = np.array(boxes, dtype=np.float64) if count or len(boxes) else np.zeros((0, 4))
    except (TypeError, ValueError) as error:
        raise DataError(f"each box is four numbers, and {_shown(boxes)} is not") from error
    if found.shape != (count, 4):
        if found.ndim == 2 and found.shape[1] == 4:
            raise DataError(f"there are {len(found)} boxes and {count} labels; give one label for each box")
        raise DataError(f"each box is four numbers, and {_shown(boxes)} is not")
    return found


def _fault(box: Array) -> str:
    if not np.isfinite(box).all():
        return "that is not finite"
    if np.abs(box).max() > 1e9:
        return "that is larger than any image"
    return "without an area" if box[2] <= box[0] or box[3] <= box[1] else ""


def objects_of(value: Any, names: Sequence[str] | None = None) -> Objects:
    """Objects of any accepted form. Raises DataError.

    value: `Objects`; `{"bbox": [[x, y, w, h], ...], "category": [...]}` as data sets of the hub have; or a list of
        `{"bbox": [x, y, w, h], "category": ...}` or `{"box": [x0, y0, x1, y1], "label": ...}`, as `Detection.to_dict()`
        gives. An empty list is an image without objects.
    names: the labels behind whole numbers.
    """
    if isinstance(value, Objects):
        return value
    if isinstance(value, Mapping):
        return _of_columns(value, names)
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise DataError(f"objects are a list of dicts with a bbox and a category, not {_shown(value)}")
    items = [item.to_dict() if hasattr(item, "to_dict") else item for item in value]
    for number, item in enumerate(items):
        if not isinstance(item, Mapping):
            raise DataError(f"object {number} is a dict with a bbox and a category, not {_shown(item)}")
    if not items:
        return make_objects([], ())
    return _joined([_item(number, item, names) for number, item in enumerate(items)])


def _item(number: int, item: Mapping[str, Any], names: Sequence[str] | None) -> Objects:
    """One object, numbered as the user would."""
    try:
        return _of_columns({key: [value] for key, value in item.items() if value is not None}, names)
    except DataError as error:
        message = str(error).removeprefix("object 0 ").removeprefix("object 0: ")
        raise DataError(f"object {number}: {message}") from error


def _joined(parts: Sequence[Objects]) -> Objects:
    labels = tuple(label for part in parts for label in part.labels)
    return Objects(np.concatenate([part.boxes for part in parts]), labels, np.concatenate([p.crowd for p in parts]))


def _of_columns(columns: Mapping[str, Any], names: Sequence[str] | None) -> Objects:
    box_key = _key(columns, _BOXES, "boxes")
    label_key = _key(columns, _LABELS, "categories")
    labels = [_label(number, value, names) for number, value in enumerate(_list(columns[label_key], label_key))]
    crowd_key = next((key for key in _CROWD if columns.get(key) is not None), None)
    crowd = None if crowd_key is None else [bool(value) for value in _list(columns[crowd_key], crowd_key)]
    return make_objects(_list(columns[box_key], box_key), labels, crowd, corners=box_key in _CORNERS)


def _key(columns: Mapping[str, Any], allowed: Sequence[str], what: str) -> str:
    for key in allowed:
        if columns.get(key) is not None:
            return key
    there = ", ".join(map(repr, columns)) or "nothing"
    raise DataError(f"the objects have no {what} ({' or '.join(allowed[:2])}); they have {there}")


def _list(value: Any, key: str) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if not isinstance(value, (list, tuple)):
        raise DataError(f"{key!r} is a list with one entry for each object, not {_shown(value)}")
    return list(value)


def _label(number: int, value: Any, names: Sequence[str] | None) -> str:
    try:
        text = label_text(value)
    except DataError as error:
        raise DataError(f"object {number}: {error}") from error
    if names is None or isinstance(value, str):
        return text
    if not text.isdecimal() or int(text) >= len(names):
        raise DataError(f"object {number}: the label {text} stands for none of the {len(names)} names")
    return names[int(text)]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


# ------------------------------------------------------------------------------------------------------ arithmetic


def within(objects: Objects, height: int, width: int) -> Array:
    """Boxes as pixels, float64 `[N, 4]`, cut at the borders of an image. Raises DataError for one wholly outside."""
    scale = np.array([width, height, width, height], dtype=np.float64)
    boxes = objects.boxes * scale if objects.relative else objects.boxes
    cut = np.clip(boxes, 0.0, scale)
    outside = np.flatnonzero((cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1]))
    if len(outside):
        first = int(outside[0])
        x0, y0, x1, y1 = boxes[first].tolist()
        raise DataError(
            f"object {first} ({objects.labels[first]!r}) lies outside of the image of {width} x {height} pixels: it "
            f"goes from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g}). Are the boxes those of this image, unturned and unscaled?"
        )
    return np.asarray(cut)


def to_corners(boxes: Array) -> Array:
    """Centre, width, height `[..., 4]` as x0, y0, x1, y1."""
    half = boxes[..., 2:] / 2
    return np.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def to_centres(boxes: Array) -> Array:
    """x0, y0, x1, y1 `[..., 4]` as centre, width, height."""
    return np.concatenate([(boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]], axis=-1)


def area(boxes: Array) -> Array:
    """`[...]` of corners `[..., 4]`."""
    return np.asarray(np.prod(np.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1))


def overlap(a: Array, b: Array) -> Array:
    """Intersection over union `[N, M]` of corners `[N, 4]` and `[M, 4]`."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.prod(np.maximum(high - low, 0.0), axis=-1)
    union = area(a)[:, None] + area(b)[None, :] - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def suppress(boxes: Array, labels: Array, limit: float) -> list[int]:
    """Non-maximum suppression within each label: which of the boxes `[N, 4]`, best first, are kept."""
    kept: list[int] = []
    same = overlap(boxes, boxes) * (labels[:, None] == labels[None, :])
    for index in range(len(boxes)):
        if not kept or same[index, kept].max() <= limit:
            kept.append(index)
    return kept
