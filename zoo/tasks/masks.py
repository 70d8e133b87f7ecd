"""Masks: which class each pixel of an image is of, in the forms that data sets have them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from zoo.errors import DataError
from zoo.modalities.base import Array
from zoo.modalities.image import decoded
from zoo.tasks.base import IGNORE

# What data sets write where a pixel counts for nothing; with 255 classes or more, the highest number of 16 bits.
IGNORED, IGNORED_WIDE = 255, 65_535


@dataclass(frozen=True, slots=True)
class Mask:
    """A mask as it came, and the names of its classes in the order of their ids, where the data states them."""

    raw: Any
    classes: tuple[str, ...] = ()


def read_mask(raw: Any) -> Array:
    """Class ids, int32 `[H, W]`.

    raw: a path, bytes, an open file, a PIL image (grey, palette, 16 bits or black and white), or an integer array
        `[H, W]`. The colours of a palette mean nothing: its indices are the ids.
    Raises DataError for what has colours instead of ids, and InputError for what can't be read.
    """
    if hasattr(raw, "__array__") and not isinstance(raw, Image.Image):
        return _checked(np.asarray(raw))
    with decoded(raw) as image:
        if image.mode in ("RGB", "RGBA"):
            red, green, blue = (np.asarray(image)[..., channel] for channel in range(3))
            if (red != green).any() or (red != blue).any():
                raise DataError(
                    "The mask has colours, and a mask holds class ids: one channel, or a palette image whose indices "
                    "are the ids. Convert it once: look each colour up, and save the ids as a grey PNG."
                )
            return _checked(red)
        if image.mode not in ("1", "L", "P", "I", "I;16", "I;16B", "I;16L"):
            raise DataError(f"The mask is an image of mode {image.mode}; ids are in grey, palette or 16-bit ones.")
        return _checked(np.asarray(image))


def _checked(values: Array) -> Array:
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[-1]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2 or not values.size:
        raise DataError(f"A mask is an array [H, W] of class ids, not {list(values.shape)}.")
    if values.dtype.kind not in "biu":
        raise DataError(f"A mask holds whole numbers, class ids, not {values.dtype}.")
    if int(values.min()) < 0 or int(values.max()) > IGNORED_WIDE:
        raise DataError(f"A mask's ids go from 0 to {IGNORED_WIDE}, and these from {values.min()} to {values.max()}.")
    return values.astype(np.int32)


def highest(ids: Array) -> int:
    """The highest id that counts; -1 for none. 255 counts only beside higher ones."""
    top = int(ids.max())
    if top <= IGNORED:
        return int(ids[ids != IGNORED].max(initial=-1))
    return int(ids[ids != IGNORED_WIDE].max(initial=-1))


def indices(mask: Mask, index: Mapping[str, int]) -> Array:
    """The label of each pixel by its place in the head, int32 `[H, W]`, -100 where it counts for nothing.

    index: label -> place. Ids are places already, unless the mask names its classes.
    Raises DataError for an id without a label.
    """
    ids = read_mask(mask.raw)
    table = np.array([_place(name, index) for name in mask.classes] or range(len(index)), dtype=np.int32)
    ignored = IGNORED if len(table) <= IGNORED else IGNORED_WIDE
    counts = ids != ignored
    top = int(ids[counts].max(initial=0))
    if top >= len(table):
        raise DataError(
            f"The mask has the class {top}, and there are {len(table)} labels, 0 to {len(table) - 1}; {ignored} is for "
            "pixels that count for nothing. Name all classes: labels=[...], or a file labels.txt beside the images."
        )
    found = np.full(ids.shape, IGNORE, dtype=np.int32)
    found[counts] = table[ids[counts]]
    return found


def _place(name: str, index: Mapping[str, int]) -> int:
    if name not in index:
        raise DataError(f"The data's class {name!r} is none of the model's {len(index)} labels.")
    return index[name]


def resized(mask: Array, size: tuple[int, int]) -> Array:
    """The nearest pixel of an int32 mask `[H, W]`, as int64 `size`: upstream's "nearest exact"."""
    image = Image.fromarray(mask).resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(image).astype(np.int64)
