"""Pascal VOC's folders: an XML file for each image."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from functools import partial
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from zoo.errors import DataError
from zoo.tasks.boxes import Objects, make_objects
from zoo.training.data import annotated
from zoo.training.data.annotated import Annotated
from zoo.training.data.cells import Broken, display
from zoo.training.data.folders import SPLITS

_IMAGES = ("jpegimages", "images", "image", "img", "imgs")
_MOST_BYTES = 1 << 24
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def find(path: str, on_error: str) -> dict[str, Callable[[], Annotated]]:
    """The splits that ImageSets/Main lists, or all files as one."""
    if not os.path.isdir(path):
        return {}
    files = annotated.inner(path, "annotations") or path
    found = {os.path.splitext(name)[0]: name for name in annotated.entries(files).values() if _is_xml(name)}
    if not found:
        return {}
    stems = {stem: os.path.join(files, name) for stem, name in found.items()}
    images = _images(path)
    splits = _listed(path)
    if not splits:
        return {"train": partial(_read, path, [*stems], stems, images, on_error)}
    return {name: partial(_read, path, given, stems, images, on_error) for name, given in splits.items()}


def _is_xml(name: str) -> bool:
    return name.lower().endswith(".xml")


def _images(path: str) -> dict[str, str]:
    folder = annotated.inner(path, *_IMAGES) or path
    return {os.path.splitext(os.path.relpath(file, folder))[0]: file for file in annotated.pictures(folder)}


def _listed(path: str) -> dict[str, list[str]]:
    """Names of images by split. trainval stands for train where that is not there."""
    sets = annotated.inner(path, "imagesets")
    main = (annotated.inner(sets, "main") or sets) if sets else None
    names = annotated.entries(main) if main else {}
    found: dict[str, list[str]] = {}
    for ending in ("trainval", "train", "training", "val", "valid", "validation", "test", "testing"):
        if main is not None and f"{ending}.txt" in names:
            split = SPLITS.get(ending, "train")
            lines = annotated.text(os.path.join(main, names[f"{ending}.txt"])).splitlines()
            found[split] = [line.strip() for line in lines if line.strip()]
    if "train.txt" not in names and "train" in found:
        found["train"] = [name for name in found["train"] if name not in set(found.get("val", ()))]
    return found


def _read(path: str, names: Sequence[str], files: dict[str, str], images: dict[str, str], on_error: str) -> Annotated:
    paths: list[str] = []
    objects: list[Objects | Broken] = []
    faults = []
    for line in names:
        # Lists of one class have a second column; the images are the first.
        name = line if line in files else line.split()[0]
        if name not in files:
            faults.append(f"{display(path)}: the image {name!r} has no XML file in Annotations.")
            continue
        paths.append(images.get(name) or os.path.join(annotated.inner(path, *_IMAGES) or path, f"{name}.jpg"))
        objects.append(_objects(files[name]))
    annotated.complain(faults, on_error)
    return Annotated(paths, objects)


def _objects(file: str) -> Objects | Broken:
    try:
        root = parse(annotated.content(file, _MOST_BYTES))
        boxes, labels, difficult = [], [], []
        for number, item in enumerate(root.findall("object")):
            box = _box(item)
            label = (item.findtext("name") or "").strip()
            if box is None or not label:
                raise DataError(f"object {number} has no {'name' if box else 'bndbox of xmin, ymin, xmax, ymax'}")
            boxes.append(box)
            labels.append(label)
            difficult.append((item.findtext("difficult") or "").strip() == "1")
        return make_objects(boxes, labels, difficult, corners=True)
    except DataError as error:
        return Broken(f"{display(file)}: {error}")


def _box(item: Element) -> tuple[float, ...] | None:
    """x0, y0, x1, y1. In the file pixels count from 1, and the last ones belong to the object."""
    try:
        x0, y0, x1, y1 = (float(item.findtext(f"bndbox/{name}") or "") for name in _CORNERS)
    except ValueError:
        return None
    return (x0 - 1, y0 - 1, x1, y1) if all(map(math.isfinite, (x0, y0, x1, y1))) else None


def parse(data: bytes) -> Element:
    """XML without a document type: its entities could grow without bounds, or read other files. Raises DataError."""
    builder = TreeBuilder()
    parser = expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise DataError("it declares a document type (DOCTYPE), which is not read: remove that line")

    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = lambda name, attributes: builder.start(name, attributes)
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, ValueError, LookupError) as error:
        raise DataError(f"it is no XML that can be read ({error})") from error
    root: Element = builder.close()
    return root


__all__ = ["find", "parse"]
