"""Variation of an image and its mask together, in training alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch

from zoo.modalities.base import Example
from zoo.training.augment import seeded


@final
class MaskAugment:
    """torchvision's v2 transforms on uint8 `pixel_values [3, H, W]` and int64 `labels [H, W]`, moved alike.

    Light: a crop of at least half the area, brightness and contrast. Strong: a crop of at least a tenth, mirror images
    and colours.
    """

    def __init__(self, size: tuple[int, int], *, strong: bool, seed: int) -> None:
        self._size = size
        self._strong = strong
        self._seed = seed
        self._transform: Callable[..., Any] | None = None

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        from torchvision import tv_tensors  # type: ignore[import-untyped]

        if self._transform is None:
            self._transform = _transform(self._size, self._strong)
        pixels = tv_tensors.Image(torch.from_numpy(np.ascontiguousarray(example.inputs["pixel_values"])))
        mask = tv_tensors.Mask(torch.from_numpy(example.targets["labels"])[None])
        with seeded(self._seed, epoch, item):
            varied, moved = self._transform(pixels, mask)
        return replace(
            example,
            inputs={**example.inputs, "pixel_values": varied.contiguous().numpy()},
            targets={"labels": moved[0].contiguous().numpy()},
        )

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transform": None}


def _transform(size: tuple[int, int], strong: bool) -> Callable[..., Any]:
    from torchvision.transforms import v2  # type: ignore[import-untyped]

    ratio = size[1] / size[0]
    area, squeeze = (0.1, 0.75) if strong else (0.5, 0.85)
    crop = v2.RandomResizedCrop(size, scale=(area, 1.0), ratio=(squeeze * ratio, ratio / squeeze), antialias=True)
    if strong:
        colours = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)
    else:
        colours = v2.ColorJitter(brightness=0.15, contrast=0.15)
    composed: Callable[..., Any] = v2.Compose([crop, v2.RandomHorizontalFlip() if strong else v2.Identity(), colours])
    return composed
