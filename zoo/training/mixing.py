"""Mixup and CutMix: an image and another one as one, and so their labels; torchvision's, on pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Example
from zoo.tasks.base import Task
from zoo.tasks.problems import REGRESSION
from zoo.training.augment import seeded
from zoo.training.config import TrainConfig
from zoo.training.encoding import Items


def mixed(items: Items, task: Task, config: TrainConfig) -> Items:
    """The same items, mixed as the options say. Raises ConfigError for a task whose targets can't be."""
    if not config.mixup and not config.cutmix:
        return items
    if task.name != "image-classification" or task.spec.problem_type == REGRESSION:
        what = "mixup" if config.mixup else "cutmix"
        raise ConfigError(f"{what} goes with image-classification by labels, and this is {task.name}: leave it out.")
    return MixedItems(items, len(task.labels), config)


@final
class MixedItems(Items):
    """Each image with another one out of all of them: a function of (seed, epoch, item), like other augmentation, so
    that it does not matter how a step is cut into passes or processes.

    Targets: float32 `label [C]`, the share of each label; of several labels an image, a mark between 0 and 1.
    """

    def __init__(self, items: Items, classes: int, config: TrainConfig) -> None:
        self.lengths, self.rows = items.lengths, items.rows
        self._items, self._classes, self._seed = items, classes, config.seed
        self._alphas = (config.mixup, config.cutmix)
        self._probability = config.mix_probability

    def targets(self) -> Iterator[dict[str, Array]]:
        return self._items.targets()

    def load(self, epoch: int, item: int) -> list[Example]:
        example = self._soft(self._items.load(epoch, item)[0])
        random = np.random.default_rng([self._seed, epoch, item])
        if random.random() >= self._probability:
            return [example]
        try:
            other = self._soft(self._items.load(epoch, int(random.integers(len(self))))[0])
        except DataError:  # It is reported when its own turn comes.
            return [example]
        mixup, cutmix = self._alphas
        by_cut = bool(cutmix) and (not mixup or random.random() < 0.5)
        with seeded(int(random.integers(2**32)), epoch, item):
            return [_mix(example, other, cutmix if by_cut else mixup, by_cut=by_cut)]

    def _soft(self, example: Example) -> Example:
        label = example.targets["label"]
        if label.ndim == 0:
            label = np.eye(self._classes, dtype=np.float32)[label]
        return replace(example, targets={**example.targets, "label": label})


def _mix(one: Example, other: Example, alpha: float, *, by_cut: bool) -> Example:
    from torchvision.transforms import v2  # type: ignore[import-untyped]

    transform: Any = (v2.CutMix if by_cut else v2.MixUp)(alpha=alpha, num_classes=2)
    pixels = torch.from_numpy(np.stack([one.inputs["pixel_values"], other.inputs["pixel_values"]])).float()
    # The labels stand for the two images: what comes back is the share of each in the first result.
    images, shares = transform(pixels, torch.arange(2))
    share = float(shares[0, 0])
    label = share * one.targets["label"] + (1 - share) * other.targets["label"]
    pixel_values = images[0].round().to(torch.uint8).numpy()
    return replace(
        one,
        inputs={**one.inputs, "pixel_values": pixel_values},
        targets={**one.targets, "label": label.astype(np.float32)},
    )
