"""Sound, in whatever form it comes, as one channel at the model's own sampling rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np

from zoo.errors import InputError, SpecError, missing
from zoo.modalities import recordings
from zoo.modalities.base import Array, Encoder, Example, pad, window_starts
from zoo.spec import AudioInput

# One frame of the feature encoder of wav2vec2 and its kin: 400 samples at 16 kHz.
MIN_SECONDS = 0.025
# transformers' Wav2Vec2FeatureExtractor has the same.
_EPSILON = 1e-7


@dataclass(frozen=True, slots=True)
class AudioSource:
    """samples: of the whole recording at `sampling_rate` Hz, the model's own; start: where this window begins."""

    samples: int
    sampling_rate: int
    start: int = 0


@final
class AudioEncoder(Encoder):
    """Sound as float32 `input_values [S]`, mono, at `input.sampling_rate` Hz, and int64 `attention_mask [S]`.

    Channels are averaged, another rate is resampled (soxr, HQ), and with `input.normalize` the recording gets zero
    mean and unit variance; else values are in [-1, 1]. A recording longer than `input.max_seconds` is cut into
    windows of equal length, so that none is a short rest.

    Raises SpecError when max_seconds is too short for any model.
    """

    ragged = frozenset({"input_values", "attention_mask"})

    def __init__(self, input: AudioInput) -> None:
        self.input = input
        self._longest = round(input.max_seconds * input.sampling_rate)
        self._shortest = math.ceil(MIN_SECONDS * input.sampling_rate)
        if self._longest < 2 * self._shortest:
            raise SpecError(f"max_seconds is {input.max_seconds:g}; windows have at least {2 * MIN_SECONDS:g} s.")

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One recording as windows.

        raw: a path; the bytes of a file, or an open file; a one-dimensional array at the model's rate;
            `(array, sampling_rate)`, where the array may also be `[S, channels]` or `[channels, S]`; a dict with
            "array" and "sampling_rate", or with "bytes" or "path". Integers are scaled to [-1, 1].
        Raises InputError for what is none of these, can't be decoded, is not finite, shorter than MIN_SECONDS or
        longer than recordings.MAX_HOURS.
        """
        wave = read_wave(raw, self.input.sampling_rate, self._shortest)
        wave = _normalized(wave) if self.input.normalize else wave
        size, starts = windows_of(len(wave), self._longest, overlap)
        return [
            self._window(wave[start : start + size], AudioSource(len(wave), self.input.sampling_rate, start), i, starts)
            for i, start in enumerate(starts)
        ]

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """float32 `input_values` and int64 `attention_mask`, both `[B, S]`, padded with 0 on the right."""
        return {
            name: pad([example.inputs[name] for example in examples], 0) for name in ("input_values", "attention_mask")
        }

    def seconds(self, raw: Any) -> float:
        """How long a recording is, from its header alone where it has one. Raises InputError as `encode` does."""
        return recordings.seconds(raw, self.input.sampling_rate)

    def describe(self, raw: Any) -> str:
        return recordings.describe(raw)

    def save(self, folder: Path) -> None:
        """Nothing: `spec.input` says it all."""

    def _window(self, wave: Array, source: AudioSource, index: int, starts: Sequence[int]) -> Example:
        inputs = {"input_values": np.ascontiguousarray(wave), "attention_mask": np.ones(len(wave), dtype=np.int64)}
        return Example(inputs, len(wave), source, window=index, windows=len(starts))


def read_wave(raw: Any, rate: int, shortest: int) -> Array:
    """A whole recording in any form: float32 `[S]`, mono, at `rate` Hz, in [-1, 1].

    Raises InputError for one of fewer than `shortest` samples, and as `recordings.read` does.
    """
    wave = _resample(recordings.read(raw, rate), rate)
    if len(wave) < shortest:
        raise InputError(
            f"{recordings.describe(raw)} is {len(wave) / rate * 1000:.1f} ms long"
            f"{': it is empty' if not len(wave) else ''}. At least {MIN_SECONDS * 1000:g} ms are needed."
        )
    return wave


def windows_of(total: int, longest: int, overlap: float) -> tuple[int, list[int]]:
    """The size of the windows and where they begin: as few as `longest` allows, all of one size."""
    count = len(window_starts(total, longest, overlap))
    if count == 1:
        return total, [0]
    size = min(longest, math.ceil(total / (count - (count - 1) * overlap)))
    return size, [round(index * (total - size) / (count - 1)) for index in range(count)]


def _resample(sound: recordings.Sound, rate: int) -> Array:
    if sound.rate == rate or not len(sound.wave):
        return sound.wave
    try:
        import soxr
    except ImportError as error:
        raise missing("soxr", "all", "Resampling sound") from error
    return np.asarray(soxr.resample(sound.wave, sound.rate, rate, quality="HQ"), dtype=np.float32)


def _normalized(wave: Array) -> Array:
    """Zero mean and unit variance, as transformers' Wav2Vec2FeatureExtractor."""
    mean, variance = wave.mean(dtype=np.float64), wave.var(dtype=np.float64)
    return np.asarray((wave - np.float32(mean)) / np.float32(math.sqrt(variance + _EPSILON)))
