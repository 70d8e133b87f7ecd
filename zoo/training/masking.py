"""Other words hidden in every epoch, in training alone: a function of (seed, epoch, item), whoever runs it."""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import numpy as np

from zoo.modalities.base import Example
from zoo.tasks.base import Task
from zoo.tasks.masking import masked
from zoo.training.config import TrainConfig

# Tasks that learn from hidden words.
MASKED = ("fill-mask", "pretraining")


def make_masking(task: Task, config: TrainConfig) -> Callable[[Example, int, int], Example] | None:
    """How a task hides words in training, or None for one that hides none."""
    return Masking(config) if task.name in MASKED else None


@final
class Masking:
    """`zoo.tasks.masking.masked`, with the probability and the unit that the options say."""

    def __init__(self, config: TrainConfig) -> None:
        self._probability = config.mask_probability
        self._whole_words = config.whole_word_masking
        self._seed = config.seed

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        random = np.random.default_rng([self._seed, epoch, item])
        return masked(example, random, probability=self._probability, whole_words=self._whole_words)
