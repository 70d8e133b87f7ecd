"""Variation of images together with the boxes of their objects, in training alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import final

import numpy as np
from PIL import Image, ImageEnhance

from zoo.modalities.base import Array, Example
from zoo.spec import ImageInput
from zoo.tasks.boxes import to_centres, to_corners

_TRIES = 8


@dataclass(frozen=True, slots=True)
class _Strength:
    """crop: the least share of the area that is kept. scale: the least share of the canvas's room that is used.

    stretch: of the crop's aspect ratio. mirror: how often. colour: the change of brightness, contrast and saturation.
    """

    crop: float
    scale: float
    stretch: float
    mirror: float
    colour: float


_LIGHT = _Strength(crop=0.7, scale=0.8, stretch=1.1, mirror=0.0, colour=0.15)
_STRONG = _Strength(crop=0.3, scale=0.5, stretch=1.4, mirror=0.5, colour=0.4)


@final
class BoxAugment:
    """A crop, a change of scale and of colours, and with `strong` mirror images, on the encoded image and its boxes.

    An object goes when its centre is cut off; what is left of it is cut at the border. A crop never leaves an image
    that had objects without any.
    """

    def __init__(self, input: ImageInput, *, strong: bool, seed: int) -> None:
        self._input = input
        self._strength = _STRONG if strong else _LIGHT
        self._seed = seed

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        random = np.random.default_rng([self._seed, epoch, item])
        height, width = example.source.shown
        picture = Image.fromarray(example.inputs["pixel_values"][:, :height, :width].transpose(1, 2, 0))
        corners = to_corners(example.targets["boxes"].astype(np.float64)) * ([width, height] * 2)
        crop = self._crop(random, height, width, corners)
        targets = _cut(example.targets, corners, crop)
        inputs, shown = self._place(random, picture, crop)
        if random.random() < self._strength.mirror:
            shown_part = inputs["pixel_values"][:, : shown[0], : shown[1]]
            shown_part[:] = shown_part[:, :, ::-1].copy()
            targets["boxes"][:, 0] = 1 - targets["boxes"][:, 0]
        return replace(example, inputs=inputs, targets=targets, source=replace(example.source, shown=shown))

    def _crop(self, random: np.random.Generator, height: int, width: int, boxes: Array) -> tuple[float, ...]:
        """x0, y0, x1, y1 of what is kept."""
        for _ in range(_TRIES):
            share = random.uniform(self._strength.crop, 1.0)
            stretch = self._strength.stretch ** random.uniform(-0.5, 0.5)
            across, down = (min(1.0, share**0.5 * stretch), min(1.0, share**0.5 / stretch))
            x0, y0 = random.uniform(0, width * (1 - across)), random.uniform(0, height * (1 - down))
            crop = (x0, y0, x0 + width * across, y0 + height * down)
            if not len(boxes) or _inside(boxes, crop).any():
                return crop
        return (0.0, 0.0, float(width), float(height))

    def _place(
        self, random: np.random.Generator, picture: Image.Image, crop: tuple[float, ...]
    ) -> tuple[dict[str, Array], tuple[int, int]]:
        canvas = self._input.size
        down, across = crop[3] - crop[1], crop[2] - crop[0]
        if self._input.crop_mode == "pad":
            room = min(canvas[0] / down, canvas[1] / across)
            # As large as it was at the most, give or take, so that objects keep the sizes that they will have.
            scale = min(room, 1.0 / self._strength.crop**0.5) * random.uniform(self._strength.scale, 1.0)
            shown = max(1, min(canvas[0], round(down * scale))), max(1, min(canvas[1], round(across * scale)))
        else:
            shown = canvas
        part = picture.resize(shown[::-1], Image.Resampling.BILINEAR, box=crop)  # type: ignore[arg-type]
        pixels = np.zeros((3, *canvas), dtype=np.uint8)
        pixels[:, : shown[0], : shown[1]] = np.asarray(self._coloured(random, part)).transpose(2, 0, 1)
        if self._input.crop_mode != "pad":
            return {"pixel_values": pixels}, shown
        mask = np.zeros(canvas, dtype=np.uint8)
        mask[: shown[0], : shown[1]] = 1
        return {"pixel_values": pixels, "pixel_mask": mask}, shown

    def _coloured(self, random: np.random.Generator, picture: Image.Image) -> Image.Image:
        for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
            picture = change(picture).enhance(1 + random.uniform(-1, 1) * self._strength.colour)
        return picture


def _inside(boxes: Array, crop: tuple[float, ...]) -> Array:
    """bool `[N]`: whose centre, and some of its area, is in the crop."""
    middle = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.asarray(((middle > crop[:2]) & (middle < crop[2:])).all(axis=1))


def _cut(targets: Mapping[str, Array], boxes: Array, crop: tuple[float, ...]) -> dict[str, Array]:
    kept = _inside(boxes, crop)
    offset = np.array([crop[0], crop[1]] * 2)
    size = np.array([crop[2] - crop[0], crop[3] - crop[1]] * 2)
    moved = np.clip((boxes[kept] - offset) / size, 0.0, 1.0)
    return {**{name: rows[kept] for name, rows in targets.items()}, "boxes": to_centres(moved).astype(np.float32)}
