"""SpecAugment (arXiv:1904.08779): stretches of time and bands of frequency hidden, in training alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, final

import numpy as np
import torch
from torch import nn

from zoo.errors import ConfigError
from zoo.modalities.base import Example
from zoo.spec import AudioInput, MelInput
from zoo.tasks.base import Task
from zoo.training.augment import seeded
from zoo.training.config import TrainConfig

_PROBABILITIES = ("mask_time_prob", "mask_feature_prob")
_TIME = 0.05  # upstream's own, for a model whose configuration hides nothing
_MASKS = 2  # of each kind in a spectrogram
_BANDS = 0.2  # of all bins, the widest
_STRETCH = 0.1  # of the recording's frames, the longest
_SHORTEST = 20  # frames: a fifth of a second


def check(task: Task, config: TrainConfig) -> None:
    """Raises ConfigError where there is no sound, or where a probability means nothing."""
    given = [name for name in _PROBABILITIES if getattr(config, name) is not None]
    asked = "spec_augment" if config.spec_augment else given[0] if given else None
    if asked is not None and not isinstance(task.spec.input, AudioInput | MelInput):
        raise ConfigError(f"{asked} is for sound, and {task.spec.name} takes none: leave it out.")
    if given and isinstance(task.spec.input, MelInput):
        raise ConfigError(f"{given[0]} is of models over the waveform; of a spectrogram give spec_augment=True alone.")


@contextmanager
def in_module(module: nn.Module, config: TrainConfig) -> Iterator[None]:
    """For a model over the waveform, which hides its own frames: as the options say, and as it was afterwards.

    Where a batch is shorter than one mask nothing is hidden (see `zoo.backends`).
    """
    net: Any = getattr(module, "net", module)
    own: Any = getattr(net, "config", None)
    if not hasattr(module, "augment") or not hasattr(own, "mask_time_prob"):
        yield
        return
    # Data2VecAudio's configuration does not say it, and its network takes that for yes.
    said = getattr(own, "apply_spec_augment", True)
    before = (module.augment, said, *(getattr(own, name) for name in _PROBABILITIES))
    _set(module, own, config)
    try:
        yield
    finally:
        module.augment, own.apply_spec_augment = before[:2]
        for name, value in zip(_PROBABILITIES, before[2:], strict=True):
            setattr(own, name, value)


def _set(module: Any, own: Any, config: TrainConfig) -> None:
    for name in _PROBABILITIES:
        if getattr(config, name) is not None:
            setattr(own, name, getattr(config, name))
    if config.spec_augment is not None:
        module.augment = own.apply_spec_augment = config.spec_augment
    if config.spec_augment and not own.mask_time_prob and not own.mask_feature_prob:
        own.mask_time_prob = _TIME
    embedded = any(name.endswith("masked_spec_embed") for name, _ in module.net.named_parameters())
    if module.augment and own.mask_time_prob and not embedded:
        raise ConfigError(
            f"{type(module.net).__name__} was made without the vector that stands for hidden frames. Give "
            "mask_time_prob=0 with a mask_feature_prob, or spec_augment=False."
        )


@final
class SpectrogramMasks:
    """Bands and stretches of float32 `input_features` replaced by their mean: torchaudio's `mask_along_axis`.

    Time is hidden within the recording alone, not in the silence after it, and not of one shorter than a fifth of a
    second.
    """

    def __init__(self, input: MelInput, seed: int) -> None:
        self._input, self._seed = input, seed

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        from torchaudio.functional import mask_along_axis  # type: ignore[import-untyped]

        features = torch.from_numpy(example.inputs["input_features"].copy())
        bins_first = features if self._input.layout == "whisper" else features.T
        hop = self._input.sampling_rate // 100
        frames = min(example.length // hop, bins_first.shape[1])
        if frames < _SHORTEST:
            return example
        real, mean = bins_first[:, :frames], float(bins_first[:, :frames].mean())
        with seeded(self._seed, epoch, item):
            for axis, widest in ((0, _BANDS * bins_first.shape[0]), (1, _STRETCH * frames)):
                for _ in range(_MASKS):
                    real = mask_along_axis(real, round(widest), mean, axis)
        bins_first[:, :frames] = real
        return replace(example, inputs={**example.inputs, "input_features": np.ascontiguousarray(features.numpy())})
