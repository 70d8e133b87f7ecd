"""COCO's JSON of boxes beside folders of images: one file a split, as COCO itself and annotation tools write it."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from zoo.errors import DataError
from zoo.tasks.boxes import Objects, make_objects
from zoo.training.data import annotated
from zoo.training.data.annotated import Annotated
from zoo.training.data.cells import Broken, display
from zoo.training.data.folders import SPLITS

_ALONE = (
    "_annotations.coco.json", "instances.json", "annotations.json", "annotations.coco.json", "instances_default.json",
)  # fmt: skip
# What COCO's own archive has beside boxes, of the same images.
_OTHERS = re.compile(r"(captions|person_keypoints|panoptic|stuff|image_info)_")
_PROBED = 50


def find(path: str, on_error: str) -> dict[str, Callable[[], Annotated]]:
    """A file's or folder's splits, each with how it is read."""
    if not os.path.isdir(path):
        return {"train": partial(read, path, on_error)} if _is_coco_file(path) else {}
    there = annotated.entries(path)
    alone = next((there[name] for name in _ALONE if name in there), None)
    if alone is not None:
        return {"train": partial(read, os.path.join(path, alone), on_error)}
    files = {_split(name): file for name, file in _listed(annotated.inner(path, "annotations") or path).items()}
    if len(files) == 1:
        files = {"train": next(iter(files.values()))}
    return {split: partial(read, file, on_error) for split, file in files.items() if split}


def _listed(folder: str) -> dict[str, str]:
    """The COCO files of boxes in a folder, by name without ending."""
    names = [name for name in annotated.entries(folder).values() if name.lower().endswith(".json")]
    chosen = [name for name in names if not _OTHERS.match(name.lower())]
    paths = {os.path.splitext(name)[0]: os.path.join(folder, name) for name in chosen}
    found = {name: path for name, path in paths.items() if _split(name) or len(paths) == 1}
    splits = [split for name in found if (split := _split(name))]
    if len(set(splits)) < len(splits):
        twice = next(split for split in splits if splits.count(split) > 1)
        both = " and ".join(repr(f"{name}.json") for name in found if _split(name) == twice)
        raise DataError(f"{display(folder)} has {both}, which are both of the split {twice!r}; keep one.")
    return {name: path for name, path in found.items() if _is_coco_file(path)}


def _split(name: str) -> str:
    """ "train" of instances_train2017; "" where the name says none."""
    words = re.findall(r"[a-z]+", name.lower())
    return next((SPLITS[word] for word in words if word in SPLITS), "")


def _is_coco_file(path: str) -> bool:
    """By its name, or by its keys, which may stand anywhere in the file."""
    name = os.path.basename(path).lower()
    if name in _ALONE or (name.startswith("instances_") and name.endswith(".json")):
        return True
    if not name.endswith(".json"):
        return False
    return _is_coco(annotated.json_file(path))


def _is_coco(data: Any) -> bool:
    return isinstance(data, dict) and all(isinstance(data.get(key), list) for key in ("images", "annotations"))


def read(path: str, on_error: str) -> Annotated:
    """One row for each image, also for those without boxes. Raises DataError for a file that is broken as a whole."""
    data, name = annotated.json_file(path), display(path)
    if not _is_coco(data):
        raise DataError(f"{name} is not of COCO's form: it has no lists 'images' and 'annotations'.")
    names = _categories(data.get("categories"), name)
    images = _by_id(data, name)
    boxes: dict[Any, list[tuple[str, Mapping[str, Any]]]] = defaultdict(list)
    faults = []
    for number, item in enumerate(data["annotations"]):
        where = f"{name} annotation {item.get('id', number) if isinstance(item, dict) else number}"
        if not isinstance(item, dict) or item.get("image_id") not in images:
            of = repr(item.get("image_id")) if isinstance(item, dict) else "none"
            faults.append(f"{where} is of the image {of}, which the file does not list.")
        else:
            boxes[item["image_id"]].append((where, item))
    annotated.complain(faults, on_error)
    root = _root(path, [str(image.get("file_name")) for image in images.values()])
    paths = [os.path.join(root, str(image.get("file_name"))) for image in images.values()]
    return Annotated(paths, [_objects(boxes[key], names) for key in images])


def _categories(given: Any, name: str) -> dict[Any, str]:
    if not isinstance(given, list) or not all(isinstance(item, dict) and {"id", "name"} <= set(item) for item in given):
        raise DataError(f"{name} has no list 'categories' of ids and names.")
    found = {item["id"]: str(item["name"]) for item in given if isinstance(item["id"], (int, str))}
    if len(found) < len(given):
        raise DataError(f"{name} has two categories of one id.")
    return found


def _by_id(data: Mapping[str, Any], name: str) -> dict[Any, Mapping[str, Any]]:
    found: dict[Any, Mapping[str, Any]] = {}
    for number, image in enumerate(data["images"]):
        good = isinstance(image, dict) and isinstance(image.get("id"), (int, str)) and image.get("file_name")
        if not good:
            raise DataError(f"{name} image {number} has no 'id' or no 'file_name'.")
        if image["id"] in found:
            raise DataError(f"{name} has two images of the id {image['id']!r}.")
        found[image["id"]] = image
    return found


def _objects(items: list[tuple[str, Mapping[str, Any]]], names: Mapping[Any, str]) -> Objects | Broken:
    labels = []
    for where, item in items:
        label = names.get(item.get("category_id")) if isinstance(item.get("category_id"), (int, str)) else None
        if label is None:
            return Broken(f"{where} is of the category {item.get('category_id')!r}, which the file does not list.")
        try:
            make_objects([item.get("bbox")], [label])
        except DataError as error:
            return Broken(f"{where}: {str(error).removeprefix('object 0 ')}")
        labels.append(label)
    crowd = [bool(item.get("iscrowd")) for _, item in items]
    return make_objects([item["bbox"] for _, item in items], labels, crowd)


def _root(path: str, files: list[str]) -> str:
    """The folder, of those where the images of such a file usually are, that has the most of them."""
    folder = os.path.dirname(os.path.abspath(path))
    stem = os.path.splitext(os.path.basename(path))[0]
    places = [folder]
    for base in (folder, os.path.dirname(folder)):
        words = [stem.removeprefix("instances_"), *re.findall(r"[A-Za-z]+\d*", stem), _split(stem)]
        splits = [os.path.join(base, word) for word in words if word]
        images = os.path.join(base, "images")
        inside = [os.path.join(images, word) for word in words if word]
        places += [images, *splits, *inside, *(os.path.join(place, "images") for place in splits), base]
        places += [os.path.join(base, place) for place in ("data", "JPEGImages")]
    probed = files[:: max(1, len(files) // _PROBED)]
    counts = {place: sum(os.path.isfile(os.path.join(place, file)) for file in probed) for place in places}
    best = max(counts, key=lambda place: counts[place])
    return best if counts[best] else folder


__all__ = ["find", "read"]
