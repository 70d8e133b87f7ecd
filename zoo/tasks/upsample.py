"""Logits of a coarse grid, at the size of the image."""

from __future__ import annotations

import numpy as np

from zoo.modalities.base import Array

_BAND = 4_000_000  # values at once: a whole image of 150 classes would take gigabytes


def best_classes(logits: Array, height: int, width: int) -> Array:
    """The class with the highest logit at each pixel, int64 `[height, width]`.

    logits: float32 `[C, h, w]`, interpolated linearly between the centres of their cells, as torch's
    `interpolate(mode="bilinear", align_corners=False)` does in upstream's `post_process_semantic_segmentation`.
    """
    classes, rows, columns = logits.shape
    if (rows, columns) == (height, width):
        return np.asarray(logits.argmax(axis=0))
    top, bottom, down = _between(rows, height)
    left, right, across = _between(columns, width)
    found = np.empty((height, width), dtype=np.int64)
    band = max(1, _BAND // (classes * width))
    for start in range(0, height, band):
        part = slice(start, start + band)
        share = down[part, None]
        lines = logits[:, top[part]] * (1 - share) + logits[:, bottom[part]] * share
        found[part] = (lines[:, :, left] * (1 - across) + lines[:, :, right] * across).argmax(axis=0)
    return found


def _between(given: int, wanted: int) -> tuple[Array, Array, Array]:
    """For each of `wanted` places: the two of `given` that it lies between, and the share of the second."""
    place = np.maximum((np.arange(wanted, dtype=np.float64) + 0.5) * (given / wanted) - 0.5, 0)
    before = np.minimum(place.astype(np.int64), given - 1)
    return before, np.minimum(before + 1, given - 1), (place - before).astype(np.float32)
