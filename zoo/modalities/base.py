"""The one preprocessing of the project: raw input to NumPy, and examples to a batch."""

from __future__ import annotations

import math
import os
import re
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zoo.errors import ConfigError, InputError

Array = npt.NDArray[Any]
_ADDRESS = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://|data:")


@dataclass(frozen=True, slots=True)
class Example:
    """One window of one raw input, without a batch axis.

    inputs: the module's inputs by name: text int64 `input_ids [T]`, `attention_mask [T]` (and `token_type_ids [T]`
        where the model tells the texts of a pair apart by them); image uint8
        `pixel_values [3, H, W]`; audio float32 `input_values [S]` and int64 `attention_mask [S]`.
    length: what the batch is padded to and what it costs: tokens, samples, or 1 for an image.
    source: what decoding needs of the raw input (a `TextSource` for text).
    targets: what `Task.attach` adds, by name.
    row, window, windows: which raw input of the call this is, and which window of how many.
    """

    inputs: Mapping[str, Array]
    length: int
    source: Any = None
    targets: Mapping[str, Array] = field(default_factory=dict)
    row: int = 0
    window: int = 0
    windows: int = 1

    def at(self, row: int) -> Example:
        return replace(self, row=row)


class Encoder(ABC):
    """A modality. Abstract or final: `TextEncoder`, `ImageEncoder`, `AudioEncoder`, `TabularEncoder`.

    ragged: names of the inputs whose second axis, behind the batch's, differs from batch to batch.
    """

    ragged: frozenset[str] = frozenset()

    @abstractmethod
    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One raw input as one or more windows, in order.

        overlap: the share of a window, in [0, 0.9], that it repeats of the one before it.
        Raises InputError that says what came and what is accepted.
        """

    def several(self, inputs: Any) -> list[Any] | None:
        """What was given to predict() as the raw inputs that it is, or None for one input."""
        return inputs if isinstance(inputs, list) else None

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """Examples as arrays `[B, ...]`, padded to the longest."""

    @abstractmethod
    def describe(self, raw: Any) -> str:
        """A short name of a raw input for messages: the path, or the first words."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `spec.input` does not say (a tokenizer) beside it."""


def pad(rows: Sequence[Array], value: float, *, left: bool = False) -> Array:
    """One-dimensional (or `[T, ...]`) rows as one array `[B, max T, ...]`, padded with `value`."""
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), longest, *rows[0].shape[1:]), value, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        out[index, longest - len(row) if left else 0 :][: len(row)] = row
    return out


def window_starts(total: int, size: int, overlap: float) -> list[int]:
    """Where windows of `size` begin so that they cover `total` and neighbours share `overlap` of a window.

    All are full but the last. Raises ConfigError for an overlap outside [0, 0.9].
    """
    if not 0 <= overlap <= 0.9:
        raise ConfigError(f"overlap is {overlap!r}; it is a share of a window, from 0 to 0.9.")
    if total <= size:
        return [0]
    step = max(1, size - int(size * overlap))
    return [index * step for index in range(math.ceil((total - size) / step) + 1)]


def respelled(path: str) -> str:
    """The path in the form of Unicode in which there is a file; as it came where there is none.

    A table and a disk may write one name in two ways, as after a copy from a Mac.
    """
    if path.isascii() or os.path.lexists(path):
        return path
    forms = (unicodedata.normalize(form, path) for form in ("NFC", "NFD"))
    return next((form for form in forms if os.path.lexists(form)), path)


def local_file(path: str | os.PathLike[str], what: str) -> Path:
    """The file at a path. what: "an image", for messages.

    Raises InputError for an address of the web (nothing is ever fetched), and where there is no regular file.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise InputError(f"A path is a text, not {type(text).__name__}: give {what} as bytes(...) or as a path.")
    if _ADDRESS.match(text):
        raise InputError(
            f"{shorten(text, 300)!r} is an address, and nothing is fetched from the network. "
            f"Download it first, and give {what} as a path or as bytes."
        )
    try:
        found = Path(respelled(os.path.expanduser(text)))
        if found.is_file():
            return found
        what_is_there = "a folder" if found.is_dir() else "no file" if not found.exists() else "not a regular file"
    # A NUL, a surrogate, or a name longer than the system allows.
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(
            f"{shorten(text, 300)!r} is not a path to {what}: {getattr(error, 'strerror', error)}."
        ) from error
    raise InputError(f"{shorten(text, 300)!r} should be {what}, and there is {what_is_there} at that path.")


def read_all(file: Any) -> bytes:
    """The bytes of an open file, from its beginning where it can be rewound. Raises InputError for one open as text."""
    try:
        if getattr(file, "seekable", bool)():
            file.seek(0)
        data = file.read()
    except (OSError, ValueError) as error:
        raise InputError(f"The open file can't be read: {error}.") from error
    if not isinstance(data, bytes):
        raise InputError("The file is open as text; open it with mode 'rb'.")
    return data


def path_name(path: str | os.PathLike[str]) -> str:
    """A path for messages: whole as far as sensible, and printable whatever bytes it has."""
    return shorten(os.fsdecode(path).encode("utf-8", "backslashreplace").decode("utf-8"), 300)


def shorten(text: str, longest: int = 80) -> str:
    """The text, or its first characters and three dots."""
    return text if len(text) <= longest else text[: longest - 3] + "..."
