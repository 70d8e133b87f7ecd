"""Folders of images and of masks beside them: `images/a.jpg` and `masks/a.png`."""

from __future__ import annotations

import os

from zoo.errors import DataError
from zoo.training.data.cells import Cell, display
from zoo.training.data.choose import Request, by_roles
from zoo.training.data.pictures import IMAGES, class_names
from zoo.training.data.table import Cells, Listed, Part, Paths

_IMAGES = ("images", "image", "imgs", "img", "jpegimages")
_MASKS = ("masks", "mask", "annotations", "labels", "segmentation", "segmentationclass", "gtfine")


def is_mask_folder(folder: str, request: Request) -> bool:
    """Whether a folder holds one of images and one of masks, and a task for them is asked for."""
    wanted = any(task == "image-segmentation" for task in request.candidates)
    return wanted and all(_inner(folder, names) is not None for names in (_IMAGES, _MASKS))


def read_mask_folder(folder: str, request: Request) -> tuple[str, Cells]:
    """The task, and one row for each image; its mask has the same name but for the ending.

    Names of classes: the lines of labels.txt or classes.txt in the folder or the one above it, in the order of ids.
    Raises DataError for an image without a mask, or a mask without an image.
    """
    task = by_roles(request, ("image", "mask"), f"{display(folder)} holds folders of images and masks")
    images, masks = (_stems(str(_inner(folder, names))) for names in (_IMAGES, _MASKS))
    alone = sorted(images.keys() ^ masks.keys())
    if alone or not images:
        raise DataError(_unmatched(folder, images, masks, alone))
    names = sorted(images)
    given = Part("image", Listed([images[name] for name in names]), Cell("image"))
    target = Part("mask", Listed([masks[name] for name in names]), Cell("mask", names=class_names(folder)))
    return task, Cells(("image", "mask"), (given,), (target,), Paths([images[name] for name in names]))


def _inner(folder: str, names: tuple[str, ...]) -> str | None:
    found = {name.lower(): name for name in os.listdir(folder) if os.path.isdir(os.path.join(folder, name))}
    return next((os.path.join(folder, found[name]) for name in names if name in found), None)


def _stems(folder: str) -> dict[str, str]:
    """Path by the place below the folder without the ending."""
    found: dict[str, str] = {}
    for parent, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            stem, ending = os.path.splitext(os.path.relpath(os.path.join(parent, name), folder))
            if name.startswith(".") or ending.lower() not in IMAGES:
                continue
            if stem in found:
                raise DataError(f"{display(folder)} has two files called {display(stem)!r}; keep one.")
            found[stem] = os.path.join(parent, name)
    return found


def _unmatched(folder: str, images: dict[str, str], masks: dict[str, str], alone: list[str]) -> str:
    if not alone:
        return f"{display(folder)} holds no images."
    first = images.get(alone[0]) or masks[alone[0]]
    lacks = "mask" if alone[0] in images else "image"
    return (
        f"{display(first)} has no {lacks} of the same name; {len(alone)} of {len(images)} images and "
        f"{len(masks)} masks are alone."
    )
