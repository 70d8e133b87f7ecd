"""CLAP's log-mel spectrogram, as transformers' ClapFeatureExtractor has it, but for its draws of chance."""

from __future__ import annotations

import numpy as np

from zoo.modalities.base import Array
from zoo.modalities.mel import Scale, hann, mel_filters, power_frames, through
from zoo.spec import MelInput

_FFT = 1024
_FLOOR = 1e-10  # of the power, before it becomes decibels


def clap_features(wave: Array, input: MelInput) -> Array:
    """float32 `[1, frames, bins]` of no more than one window; a shorter wave is repeated whole as often as it fits
    ("repeatpad"), and silence follows."""
    return _levels(_filled(wave, input), input, "slaney")[None]


def fused_features(wave: Array, input: MelInput) -> Array:
    """float32 `[4, frames, bins]`: all of the recording, squeezed to `frames`, and a part of its beginning, of its
    middle and of its end. Of no more than one window: four times the same.

    Where upstream draws the three parts by chance, each is the middle one of those that it draws from.
    """
    if len(wave) <= longest(input):
        return np.repeat(_levels(_filled(wave, input), input, "htk")[None], 4, axis=0)
    mel = _levels(wave, input, "htk")
    spare = len(mel) - input.frames + 1
    if spare == 1:
        return np.repeat(mel[None], 4, axis=0)
    thirds = np.array_split(np.arange(spare), 3)
    starts = [int(third[len(third) // 2]) if len(third) else 0 for third in thirds]
    parts = [mel[start : start + input.frames] for start in starts]
    return np.ascontiguousarray(np.stack([_squeezed(mel, input.frames), *parts]), dtype=np.float32)


def longest(input: MelInput) -> int:
    """A window in samples: 10 s of 1,001 frames."""
    return (input.frames - 1) * (input.sampling_rate // 100)


def is_longer(wave: Array, input: MelInput) -> bool:
    """Whether a fused recording has more than one window's frames."""
    return len(wave) // (input.sampling_rate // 100) + 1 > input.frames


def _filled(wave: Array, input: MelInput) -> Array:
    size = longest(input)
    repeated = np.tile(wave, max(size // len(wave), 1))
    return np.pad(repeated, (0, max(size - len(repeated), 0)))


def _levels(wave: Array, input: MelInput, scale: Scale) -> Array:
    """Decibels, float32 `[F, bins]`."""
    power = power_frames(wave, hann(_FFT), input.sampling_rate // 100)
    filters = mel_filters(
        _FFT // 2 + 1, input.bins, rate=input.sampling_rate, low=input.low, high=input.high or input.sampling_rate / 2,
        scale=scale, slaney_norm=scale == "slaney",
    )  # fmt: skip
    return np.asarray(10.0 * np.log10(np.maximum(through(power, filters), _FLOOR)), dtype=np.float32)


def _squeezed(mel: Array, frames: int) -> Array:
    """`[F, bins]` as `[frames, bins]`: linear between neighbours, as torch's interpolate without align_corners."""
    place = np.clip((np.arange(frames) + 0.5) * (len(mel) / frames) - 0.5, 0, len(mel) - 1)
    before = np.floor(place).astype(np.int64)
    after = np.minimum(before + 1, len(mel) - 1)
    share = (place - before)[:, None]
    return np.asarray(mel[before] * (1 - share) + mel[after] * share, dtype=np.float32)
