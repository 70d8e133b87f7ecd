"""Variation of encoded images and sound in training alone: a function of (seed, epoch, item), whoever runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch

from zoo.errors import ConfigError
from zoo.modalities.base import Array, Example
from zoo.spec import AudioInput, ImageInput, ModelSpec
from zoo.training.augment_boxes import BoxAugment


def make_augment(spec: ModelSpec, task: str, strength: str, seed: int) -> Callable[[Example, int, int], Example] | None:
    """The augmentation for a model and a task, or None: for text, and for strength "none". Raises ConfigError."""
    if strength == "none":
        return None
    if strength == "randaugment" and task != "image-classification":
        raise ConfigError(f"augment='randaugment' is for image-classification; give 'light' or 'strong' for {task}.")
    if isinstance(spec.input, ImageInput) and task == "image-segmentation":
        from zoo.training.augment_masks import MaskAugment

        return MaskAugment(spec.input.size, strong=strength == "strong", seed=seed)
    if task == "object-detection":
        assert isinstance(spec.input, ImageInput)
        return BoxAugment(spec.input, strong=strength == "strong", seed=seed)
    if isinstance(spec.input, ImageInput):
        return ImageAugment(spec.input.size, strength, seed=seed)
    if isinstance(spec.input, AudioInput):
        # A shift cuts words off whose letters are still in the transcript.
        shift = 0.0 if task == "automatic-speech-recognition" else 0.1
        return AudioAugment(shift, strong=strength == "strong", normalized=spec.input.normalize, seed=seed)
    return None


@final
class ImageAugment:
    """torchvision's v2 transforms on uint8 `pixel_values [3, H, W]`.

    Light: a crop of at least 70 % of the area, brightness and contrast. Strong: a crop of at least 25 %, mirror
    images, colours, and a part erased. Randaugment: the same with RandAugment in place of colours.
    """

    def __init__(self, size: tuple[int, int], strength: str, *, seed: int) -> None:
        self._size = size
        self._strength = strength
        self._seed = seed
        self._transform: Callable[[torch.Tensor], torch.Tensor] | None = None

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        if self._transform is None:
            self._transform = _image_transform(self._size, self._strength)
        pixels = torch.from_numpy(np.ascontiguousarray(example.inputs["pixel_values"]))
        with _torch_seed(_seed(self._seed, epoch, item)):
            varied = self._transform(pixels)
        return _with(example, pixel_values=varied.contiguous().numpy())

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_transform": None}


def _image_transform(size: tuple[int, int], strength: str) -> Callable[[torch.Tensor], torch.Tensor]:
    from torchvision.transforms import v2  # type: ignore[import-untyped]

    height, width = size
    ratio = width / height

    def crop(area: float, squeeze: float) -> Any:
        shape = (squeeze * ratio, ratio / squeeze)
        return v2.RandomResizedCrop((height, width), scale=(area, 1.0), ratio=shape, antialias=True)

    if strength == "light":
        steps = [crop(0.7, 0.9), v2.ColorJitter(brightness=0.15, contrast=0.15)]
    else:
        colours = v2.RandAugment()
        if strength == "strong":
            colours = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.05)
        steps = [crop(0.25, 0.75), v2.RandomHorizontalFlip(), colours, v2.RandomErasing(p=0.25)]
    composed: Callable[[torch.Tensor], torch.Tensor] = v2.Compose(steps)
    return composed


@final
class AudioAugment:
    """Gain, a shift in time, and white noise, on float32 `input_values [S]`.

    shift: the largest, as a share of the recording; what is shifted in is silence. normalized: zero mean and unit
    variance are restored, as the model expects them.
    """

    def __init__(self, shift: float, *, strong: bool, normalized: bool, seed: int) -> None:
        self._shift = shift * (2.0 if strong else 1.0)
        self._gain_db = 12.0 if strong else 6.0
        self._noise_db = (10.0, 30.0) if strong else (25.0, 50.0)
        self._normalized = normalized
        self._seed = seed

    def __call__(self, example: Example, epoch: int, item: int) -> Example:
        random = np.random.default_rng(_seed(self._seed, epoch, item))
        wave = example.inputs["input_values"].astype(np.float32)
        most = int(self._shift * len(wave))
        wave = _shifted(wave, int(random.integers(-most, most + 1)))
        level = float(np.sqrt(np.mean(np.square(wave), dtype=np.float64)))
        ratio = 10.0 ** (-random.uniform(*self._noise_db) / 20.0)
        wave = wave + random.standard_normal(len(wave), dtype=np.float32) * np.float32(level * ratio)
        if self._normalized:
            wave = (wave - wave.mean()) / np.sqrt(wave.var() + 1e-7)
        else:
            wave = np.clip(wave * 10.0 ** (random.uniform(-self._gain_db, self._gain_db) / 20.0), -1.0, 1.0)
        return _with(example, input_values=wave.astype(np.float32))


def _shifted(wave: Array, by: int) -> Array:
    out = np.zeros_like(wave)
    if by > 0:
        out[by:] = wave[:-by]
    elif by < 0:
        out[:by] = wave[-by:]
    else:
        out[:] = wave
    return out


def _with(example: Example, **inputs: Array) -> Example:
    changed: Mapping[str, Array] = {**example.inputs, **inputs}
    return replace(example, inputs=changed)


def _seed(seed: int, epoch: int, item: int) -> int:
    return int(np.random.SeedSequence([seed, epoch, item]).generate_state(1, np.uint64)[0])


def seeded(seed: int, epoch: int, item: int) -> _torch_seed:
    """The CPU's generator as it is for this item of this epoch, for a while."""
    return _torch_seed(_seed(seed, epoch, item))


@dataclass
class _torch_seed:
    """Seed the CPU's generator alone, for a while: torch.manual_seed would reseed the GPU's too."""

    seed: int

    def __enter__(self) -> None:
        self._before = torch.get_rng_state()
        torch.default_generator.manual_seed(self.seed % 2**63)

    def __exit__(self, *_: object) -> None:
        torch.set_rng_state(self._before)
