"""Class folders of images or recordings, with or without splits."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from zoo.errors import DataError
from zoo.tasks.labels import composed
from zoo.training.data.cells import Cell, display
from zoo.training.data.choose import Request, by_roles
from zoo.training.data.pictures import IMAGES
from zoo.training.data.table import Cells, Listed, Part, Paths

AUDIO = frozenset({
    ".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".snd",
    ".caf", ".w64", ".rf64",
})  # fmt: skip
# Media that neither Pillow nor soundfile reads: left out silently, a part of the data would be missing.
_UNREADABLE = frozenset({
    ".heic", ".heif", ".svg", ".psd", ".raw", ".cr2", ".nef", ".dng", ".arw", ".m4a", ".aac", ".wma", ".amr",
    ".mp4", ".avi", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".npy", ".zip", ".tar", ".gz", ".7z", ".rar",
})  # fmt: skip
_NOT_DATA = frozenset({"__macosx", "thumbs.db", "desktop.ini", "lost+found"})
SPLITS = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip

_log = logging.getLogger(__name__)


@dataclass
class _Found:
    """Files below a class folder by what they are."""

    images: list[str] = field(default_factory=list)
    audio: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    def add(self, path: str) -> None:
        ending = os.path.splitext(path)[1].lower()
        kind = self.images if ending in IMAGES else self.audio if ending in AUDIO else self.others
        kind.append(path)

    def extend(self, other: _Found) -> None:
        self.images += other.images
        self.audio += other.audio
        self.others += other.others


def split_folders(folder: str) -> dict[str, str]:
    """Split by its folder, when all that `folder` holds are splits; else nothing. Raises DataError for two of one."""
    names = [name for name in _entries(folder) if os.path.isdir(os.path.join(folder, name))]
    if not names or any(name.lower() not in SPLITS for name in names):
        return {}
    return named_splits({name: os.path.join(folder, name) for name in names}, display(folder))


def named_splits(given: dict[str, str], name: str) -> dict[str, str]:
    """train, val and test by any of the names they go by."""
    found: dict[str, str] = {}
    first: dict[str, str] = {}
    for key, value in given.items():
        split = SPLITS[key.lower()]
        if split in found:
            raise DataError(f"{name} has both {first[split]!r} and {key!r}, which mean the same split; keep one.")
        found[split], first[split] = value, key
    return found


def read_class_folder(folder: str, request: Request) -> tuple[str, Cells]:
    """The task, and one row for each file; its label is the name of the topmost folder it is in.

    Hidden files are left out. Raises DataError for files of both kinds, for media that can't be read, and where there
    are no class folders.
    """
    classes = {name: _walk(os.path.join(folder, name)) for name in _class_names(folder)}
    everything = _Found()
    for found in classes.values():
        everything.extend(found)
    kind = _kind(folder, everything)
    _wrapped(folder, classes)
    task = by_roles(request, (kind, "label"), f"{display(folder)} holds class folders of {_plural(kind)}")
    paths, labels = _rows(folder, classes, kind)
    given, target = Part(kind, Listed(paths), Cell(kind)), Part("label", Listed(labels), Cell("label"))
    return task, Cells((kind, "label"), given, target, Paths(paths))


def _rows(folder: str, classes: dict[str, _Found], kind: str) -> tuple[list[str], list[str]]:
    paths: list[str] = []
    labels: list[str] = []
    names: dict[str, str] = {}
    for name, found in classes.items():
        files = found.images if kind == "image" else found.audio
        label = label_of(name)
        if not files:
            _log.warning("%s has no %s; the class is left out.", display(os.path.join(folder, name)), _plural(kind))
            continue
        if names.setdefault(label, name) != name:
            raise DataError(f"{display(folder)} has two folders that both read {label!r}; rename one.")
        paths += files
        labels += [label] * len(files)
    return paths, labels


def label_of(name: str) -> str:
    """The label that a folder's name says, in one Unicode form whatever system wrote it."""
    raw = os.fsencode(name)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")  # a name from before UTF-8; a label must be text to be saved
    return composed(text)


def _kind(folder: str, found: _Found) -> str:
    bad = [path for path in found.others if os.path.splitext(path)[1].lower() in _UNREADABLE]
    if found.images and found.audio:
        raise DataError(
            f"{display(folder)} mixes {len(found.images)} images (such as {display(found.images[0])}) and "
            f"{len(found.audio)} recordings (such as {display(found.audio[0])}). Give a folder of one kind."
        )
    if bad or not (found.images or found.audio):
        listed = _listed(bad or found.others)
        readable = f"Images: {' '.join(sorted(IMAGES))}. Audio: {' '.join(sorted(AUDIO))}."
        what = f"has files of types that can't be read: {listed}" if listed else "has class folders without any files"
        raise DataError(f"{display(folder)} {what}. Convert or remove them. Types that are read: {readable}")
    if found.others:
        _log.warning("%s: left out what is neither image nor audio: %s.", display(folder), _listed(found.others))
    return "image" if found.images else "audio"


def _listed(paths: list[str]) -> str:
    types = Counter(os.path.splitext(path)[1].lower() or "no ending" for path in paths)
    shown = ", ".join(f"{name} ({count})" for name, count in types.most_common(10))
    return f"{shown}, such as {display(paths[0])}" if paths else ""


def _class_names(folder: str) -> list[str]:
    entries = _entries(folder)
    names = [name for name in entries if os.path.isdir(os.path.join(folder, name))]
    if names:
        return names
    tables = [name for name in entries if name.lower().endswith((".csv", ".tsv", ".jsonl", ".parquet"))]
    if tables:
        advice = f"Give the table itself: {display(os.path.join(folder, tables[0]))!r}."
    elif "dataset_info.json" in entries or "dataset_dict.json" in entries:
        advice = "It was written by save_to_disk: give datasets.load_from_disk(folder)."
    else:
        advice = "Put the files of each class into a folder with the class's name."
    holds = f"{len(entries)} files" if entries else "nothing"
    raise DataError(f"{display(folder)} holds {holds} and no class folders. {advice}")


def _wrapped(folder: str, classes: dict[str, _Found]) -> None:
    """An archive often unpacks into a folder of the same name; its classes are one level deeper."""
    if len(classes) != 1:
        return
    inner = os.path.join(folder, next(iter(classes)))
    entries = _entries(inner)
    below = [name for name in entries if os.path.isdir(os.path.join(inner, name))]
    if len(below) > 1 and len(below) == len(entries):
        raise DataError(
            f"{display(folder)} holds one folder, which holds {len(below)} more ({', '.join(map(display, below[:5]))}"
            f"{', ...' if len(below) > 5 else ''}). If those are the classes, give {display(inner)!r}."
        )


def _entries(folder: str) -> list[str]:
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise DataError(f"{display(folder)} can't be read: {error.strerror}.") from error
    return [name for name in names if not _ignored(name)]


def _walk(folder: str) -> _Found:
    found = _Found()
    for path in _files(folder):
        found.add(path)
    return found


def _files(folder: str) -> Iterator[str]:
    # Data sets are often trees of links; a link to a folder above would never end.
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not _ignored(name))
        yield from (os.path.join(parent, name) for name in sorted(files) if not _ignored(name))


def _ignored(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_DATA


def _plural(kind: str) -> str:
    return "images" if kind == "image" else "recordings"
