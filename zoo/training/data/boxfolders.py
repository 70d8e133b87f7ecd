"""Folders of images with boxes around their objects, in the forms that annotation tools write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from zoo.errors import DataError
from zoo.training.data import coco, voc, yolo
from zoo.training.data.annotated import Annotated
from zoo.training.data.cells import Cell, display
from zoo.training.data.choose import Request, by_roles
from zoo.training.data.table import Cells, Listed, Part, Paths

Found = Mapping[str, Callable[[], Annotated]]


@dataclass(frozen=True)
class BoxSplit:
    """One split that is not read yet."""

    read: Callable[[], Annotated]


def box_splits(path: str, request: Request) -> dict[str, BoxSplit]:
    """The splits of images with boxes at a path, "train" alone where there is one; nothing where it is none.

    Known by what is there: a YOLO `data.yaml`, or folders `images` and `labels` of texts; COCO's JSON in the folder or
    in its `annotations`; Pascal VOC's `Annotations` of XML. Raises DataError for one of these that is wholly broken.
    """
    if "object-detection" not in request.candidates:
        return {}
    for form in (yolo, coco, voc):
        found: Found = form.find(path, request.on_error)
        if found:
            return {name: BoxSplit(read) for name, read in found.items()}
    return {}


def only(splits: Mapping[str, BoxSplit], path: str) -> BoxSplit:
    """The one split of a folder that is itself a split."""
    if len(splits) > 1:
        raise DataError(f"{display(path)} has splits of its own: {', '.join(splits)}. Give that folder itself.")
    return next(iter(splits.values()))


def open_boxes(split: BoxSplit, name: str, request: Request) -> tuple[str, Cells]:
    """The task, and one row for each image."""
    found = split.read()
    task = by_roles(request, ("image", "objects"), f"{name} holds images with boxes")
    given = Part("image", Listed(found.images), Cell("image"))
    target = Part("objects", Listed(found.objects), Cell("objects"))
    return task, Cells(("image", "objects"), (given,), (target,), Paths(found.images))


def refuse_unread(folder: str, request: Request) -> None:
    """Raises DataError that says which forms are known, for a folder that is none of them."""
    if request.candidates == ("object-detection",):
        raise DataError(
            f"{display(folder)} holds no annotations of objects that are known: COCO's JSON (instances.json, "
            "_annotations.coco.json, annotations/instances_train.json), YOLO's (data.yaml, or images/ and labels/), or "
            "Pascal VOC's (Annotations/*.xml) (docs/data.md)."
        )


__all__ = ["BoxSplit", "box_splits", "only", "open_boxes", "refuse_unread"]
