"""What is drawn on images says: boxes of objects, and masks of classes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from zoo.modalities.base import Array
from zoo.modalities.image import header
from zoo.tasks.boxes import Objects, objects_of
from zoo.tasks.masks import IGNORED, IGNORED_WIDE, Mask, highest, read_mask
from zoo.training.data.rows import Rows
from zoo.training.lint.inputs import Place, refused, unreadable
from zoo.training.lint.report import Finding, Level, weight_of
from zoo.training.lint.tables import SHOWN


@dataclass(frozen=True, slots=True)
class _Boxes:
    """The boxes of one image, in pixels where they are; numbers of the objects at fault."""

    outside: tuple[int, ...]
    beyond: tuple[int, ...]
    tiny: tuple[int, ...]
    twice: tuple[int, ...]
    count: int


def check_objects(places: Sequence[Place], *, skip: bool) -> Iterator[Finding]:
    """Boxes outside of their image or over its border, of less than a pixel, or given twice; images without any."""
    read, bad = unreadable(places, _boxes)
    yield from refused(bad, skip=skip)
    error: Level = "warning" if skip else "error"
    kinds: tuple[tuple[str, Level, str, str, str], ...] = (
        ("outside", error, "boxes-outside", "lie outside of their image",
         "Are the boxes those of these images, unturned and unscaled? Correct them, or leave those rows out."),
        ("beyond", "warning", "boxes-beyond-the-border", "reach over the border of their image",
         "They are cut there. Are width and height meant, or the right and lower edge?"),
        ("tiny", "warning", "tiny-boxes", "are less than a pixel wide or high",
         "There is nothing to be seen in them. Are they shares of the image, given as pixels?"),
        ("twice", "warning", "duplicate-boxes", "repeat a box of the same label in their image",
         "One object can be found once: the other counts as missed."),
    )  # fmt: skip
    for name, level, kind, what, advice in kinds:
        found = [(place, numbers) for place, boxes in read if (numbers := getattr(boxes, name))]
        if found:
            total = sum(len(numbers) for _, numbers in found)
            yield Finding(
                level, kind, f"{total:,} boxes of {len(found):,} images {what}.", advice, total,
                tuple(f"{place.where}, object {numbers[0]}" for place, numbers in found[:SHOWN]),
            )  # fmt: skip
    bare = [place for place, boxes in read if not boxes.count]
    if bare:
        yield Finding(
            "note", "images-without-objects", f"{len(bare):,} of {len(read):,} images have no object.",
            "They teach what is none, which may be wanted.", len(bare), tuple(place.where for place in bare[:SHOWN]),
        )  # fmt: skip


def _boxes(place: Place) -> _Boxes:
    row = place.row
    objects = objects_of(row.target)
    if not len(objects):
        return _Boxes((), (), (), (), 0)
    width, height = header(row.input)
    scale = np.array([width, height, width, height], dtype=np.float64)
    boxes = objects.boxes * scale if objects.relative else objects.boxes
    cut = np.clip(boxes, 0.0, scale)
    outside = (cut[:, 2] <= cut[:, 0]) | (cut[:, 3] <= cut[:, 1])
    # Annotations are often a pixel off, by rounding.
    beyond = ~outside & (np.abs(cut - boxes).max(axis=1) > 1.0)
    tiny = ~outside & ((boxes[:, 2:] - boxes[:, :2]).min(axis=1) < 1.0)
    return _Boxes(_numbers(outside), _numbers(beyond), _numbers(tiny), _repeated(objects), len(objects))


def _numbers(which: Array) -> tuple[int, ...]:
    return tuple(np.flatnonzero(which).tolist())


def _repeated(objects: Objects) -> tuple[int, ...]:
    seen, found = set(), []
    for number, (label, box) in enumerate(zip(objects.labels, objects.boxes.round(3).tolist(), strict=True)):
        key = (label, *box)
        if key in seen:
            found.append(number)
        seen.add(key)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Classes:
    """One mask: its size and its image's (width, height), its highest class, and its classes that count."""

    size: tuple[int, int]
    image: tuple[int, int]
    top: int
    found: tuple[int, ...]


def check_masks(places: Sequence[Place], train: Rows, labels: Sequence[str], *, skip: bool) -> Iterator[Finding]:
    """Masks of other sizes than their images, of classes that are unknown, of nothing, or of one class alone.

    labels: of the model to be; else those that the masks' files name, or up to the highest class of train.
    """
    read, bad = unreadable(places, _classes)
    yield from refused(bad, skip=skip)
    error: Level = "warning" if skip else "error"
    sizes = [(place, mask) for place, mask in read if mask.size != mask.image]
    if sizes:
        yield Finding(
            error, "mask-sizes",
            f"{len(sizes):,} masks are not of their image's size.",
            "Each pixel of an image has a class. Are these the right masks? Export them at the image's own size.",
            len(sizes), tuple(f"{place.where}: {mask.image[0]} x {mask.image[1]}, and its mask {mask.size[0]} x "
                              f"{mask.size[1]}" for place, mask in sizes[:SHOWN]),
        )  # fmt: skip
    known = len(labels) or _named(train) or 1 + max((m.top for place, m in read if place.rows is train), default=-1)
    unseen = [(place, mask) for place, mask in read if mask.top >= known]
    if unseen:
        yield Finding(
            error, "unseen-classes",
            f"{len(unseen):,} masks have classes beyond the {known} labels, 0 to {known - 1}.",
            "Name all classes: labels=[...], or a file labels.txt beside the images; 255 is for what does not count.",
            len(unseen), tuple(f"{place.where}: class {mask.top}" for place, mask in unseen[:SHOWN]),
        )  # fmt: skip
    empty = [place for place, mask in read if not mask.found]
    if empty:
        yield Finding(
            weight_of(len(empty), len(read)), "empty-masks",
            f"{len(empty):,} of {len(read):,} masks have no pixel that counts.",
            "Nothing can be learned from them. Leave them out.", len(empty), tuple(p.where for p in empty[:SHOWN]),
        )  # fmt: skip
    alone = [place for place, mask in read if len(mask.found) == 1]
    if alone:
        yield Finding(
            "note", "masks-of-one-class", f"{len(alone):,} of {len(read):,} masks are of one class alone.",
            "They may be right, where nothing is to be found.", len(alone), tuple(p.where for p in alone[:SHOWN]),
        )  # fmt: skip


def _classes(place: Place) -> _Classes:
    row = place.row
    ids = read_mask(row.target.raw if isinstance(row.target, Mask) else row.target)
    ignored = IGNORED if int(ids.max()) <= IGNORED else IGNORED_WIDE
    found = tuple(value for value in np.unique(ids).tolist() if value != ignored)
    return _Classes((ids.shape[1], ids.shape[0]), header(row.input), highest(ids), found)


def _named(rows: Rows) -> int:
    """How many classes the data names; 0 for none."""
    target = rows[0].target
    return len(target.classes) if isinstance(target, Mask) else 0
