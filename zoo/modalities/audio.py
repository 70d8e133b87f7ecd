"""Sound, in whatever form it comes, as one channel at the model's own sampling rate."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

import numpy as np

from zoo.errors import InputError, SpecError, missing
from zoo.modalities.base import Array, Encoder, Example, local_file, pad, read_all, shorten, window_starts
from zoo.spec import AudioInput

# One frame of the feature encoder of wav2vec2 and its kin: 400 samples at 16 kHz.
MIN_SECONDS = 0.025
# A few kilobytes of FLAC can hold days of silence.
MAX_HOURS = 4
_RATES = (1_000, 768_000)
_MAX_CHANNELS = 64
_BLOCK = 1 << 20
# transformers' Wav2Vec2FeatureExtractor has the same.
_EPSILON = 1e-7
# Far beyond what a resampler or a previous normalisation gives, and below any integer format.
_LOUDEST = 100.0

_ACCEPTED = (
    "a path, the bytes of a file, a one-dimensional array at the model's rate, (array, sampling_rate), or "
    '{"array": ..., "sampling_rate": ...}'
)


@dataclass(frozen=True, slots=True)
class AudioSource:
    """samples: of the whole recording at `sampling_rate` Hz, the model's own; start: where this window begins."""

    samples: int
    sampling_rate: int
    start: int = 0


class _Sound(NamedTuple):
    """wave: float32 `[S]`, mono, at `rate` Hz."""

    wave: Array
    rate: int


@final
class AudioEncoder(Encoder):
    """Sound as float32 `input_values [S]`, mono, at `input.sampling_rate` Hz, and int64 `attention_mask [S]`.

    Channels are averaged, another rate is resampled (soxr, HQ), and with `input.normalize` the recording gets zero
    mean and unit variance; else values are in [-1, 1]. A recording longer than `input.max_seconds` is cut into
    windows of equal length, so that none is a short rest.

    Raises SpecError when max_seconds is too short for any model.
    """

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
        longer than MAX_HOURS.
        """
        wave = self._wave(raw)
        size, starts = _windows(len(wave), self._longest, overlap)
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
        inner = _unwrapped(raw)
        if not _is_file(inner):
            sound = _from_array(inner, self.input.sampling_rate)
            return len(sound.wave) / sound.rate
        with _opened(inner) as file:
            return float(file.frames / file.samplerate)

    def describe(self, raw: Any) -> str:
        return _name(raw)

    def save(self, folder: Path) -> None:
        """Nothing: `spec.input` says it all."""

    def _wave(self, raw: Any) -> Array:
        """The whole recording: float32 `[S]` at the model's rate, normalised if the spec says so."""
        inner = _unwrapped(raw)
        sound = _decode(inner) if _is_file(inner) else _from_array(inner, self.input.sampling_rate)
        wave = _resample(sound, self.input.sampling_rate)
        if len(wave) < self._shortest:
            raise InputError(
                f"{_name(raw)} is {len(wave) / self.input.sampling_rate * 1000:.1f} ms long"
                f"{': it is empty' if not len(wave) else ''}. At least {MIN_SECONDS * 1000:g} ms are needed."
            )
        return _normalized(wave) if self.input.normalize else wave

    def _window(self, wave: Array, source: AudioSource, index: int, starts: Sequence[int]) -> Example:
        inputs = {"input_values": np.ascontiguousarray(wave), "attention_mask": np.ones(len(wave), dtype=np.int64)}
        return Example(inputs, len(wave), source, window=index, windows=len(starts))


def _windows(total: int, longest: int, overlap: float) -> tuple[int, list[int]]:
    """The size of the windows and where they begin: as few as `longest` allows, all of one size."""
    count = len(window_starts(total, longest, overlap))
    if count == 1:
        return total, [0]
    size = min(longest, math.ceil(total / (count - (count - 1) * overlap)))
    return size, [round(index * (total - size) / (count - 1)) for index in range(count)]


def _name(raw: Any) -> str:
    if isinstance(raw, (str, os.PathLike)):
        return shorten(os.fsdecode(raw))
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return f"a recording of {len(raw)} bytes"
    if isinstance(raw, Mapping):
        return shorten(str(raw.get("path") or "a recording given as a dict"))
    if isinstance(raw, tuple) and len(raw) == 2:
        return f"{_name(raw[0])} at {shorten(str(raw[1]), 20)} Hz"
    if hasattr(raw, "shape"):
        return f"an array {list(raw.shape)} of {getattr(raw, 'dtype', 'unknown type')}"
    return f"a {type(raw).__name__}"


def _unwrapped(raw: Any) -> Any:
    """What a dict holds, in one of the other forms."""
    if not isinstance(raw, Mapping):
        return raw
    if raw.get("array") is not None:
        if raw.get("sampling_rate") is None:
            raise InputError('A recording given as a dict with "array" needs "sampling_rate" too.')
        return raw["array"], raw["sampling_rate"]
    inner = raw.get("bytes") if raw.get("bytes") is not None else raw.get("path")
    if inner is None:
        raise InputError('A recording given as a dict has "array" and "sampling_rate", or "bytes", or "path".')
    return inner


def _is_file(raw: Any) -> bool:
    return isinstance(raw, (str, os.PathLike, bytes, bytearray, memoryview)) or hasattr(raw, "read")


@contextmanager
def _opened(raw: Any) -> Iterator[Any]:
    """A `soundfile.SoundFile`. Whatever the decoder raises is an InputError that names the input."""
    try:
        import soundfile
    except ImportError as error:
        raise missing("soundfile", "all", "Reading sound") from error
    with _readable(raw), soundfile.SoundFile(_source(raw)) as file:
        low, high = _RATES
        if not low <= file.samplerate <= high or file.channels > _MAX_CHANNELS:
            raise InputError(
                f"{_name(raw)} has {file.channels} channels at {file.samplerate} Hz; up to {_MAX_CHANNELS} at {low} to "
                f"{high} Hz are read."
            )
        yield file


def _source(raw: Any) -> str | io.BytesIO:
    if isinstance(raw, (str, os.PathLike)):
        return str(local_file(raw, "a recording"))
    return io.BytesIO(read_all(raw) if hasattr(raw, "read") else bytes(raw))


@contextmanager
def _readable(raw: Any) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # soundfile raises its own RuntimeError, TypeError for headerless formats, and what the file object raises.
    except Exception as error:
        raise InputError(
            f"{_name(raw)} can't be decoded as sound: {error} WAV, FLAC, OGG and MP3 are read, whole files only."
        ) from error


def _decode(raw: Any) -> _Sound:
    with _opened(raw) as file:
        limit = MAX_HOURS * 3600 * file.samplerate
        parts: list[Array] = []
        frames = 0
        # In blocks: a header may promise any number of frames, and memory would be taken for them at once.
        while len(block := file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)):
            frames += len(block)
            if frames > limit:
                raise InputError(f"{_name(raw)} is longer than {MAX_HOURS} hours. Cut it into shorter recordings.")
            parts.append(_mono(block))
        # Headers of MP3 may be off by some frames; a file that ends in its middle is another matter.
        if frames < 0.95 * file.frames - file.samplerate / 10:
            raise InputError(
                f"{_name(raw)} ends after {frames} of {file.frames} samples. It is cut off; fetch it again."
            )
        wave = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
        return _Sound(_checked(wave), int(file.samplerate))


def _from_array(raw: Any, rate: int) -> _Sound:
    """rate: Hz, of an array that comes without its own."""
    if isinstance(raw, tuple) and len(raw) == 2:
        values, rate = _values(raw[0]), _rate(raw[1])
        return _Sound(_checked(_mono(_samples_first(values)) if values.ndim == 2 else _flat(values)), rate)
    values = _values(raw)
    if values.ndim == 2:
        raise InputError(
            f"An array {list(values.shape)} has several channels; give it with its rate, (array, sampling_rate)."
        )
    return _Sound(_checked(_flat(values)), rate)


def _values(raw: Any) -> Array:
    """An array of float32 in [-1, 1] of any accepted dtype."""
    if not hasattr(raw, "__array__") and not isinstance(raw, (list, tuple)):
        raise InputError(f"Sound was expected, and {_name(raw)} came. Give {_ACCEPTED}.")
    try:
        values = np.asarray(raw)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{_name(raw)} is no array of numbers: {error}.") from error
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if not values.size or kind == "f":
        return values.astype(np.float32)
    if kind == "i" and bits <= 32:
        return (values / 2.0 ** (bits - 1)).astype(np.float32)
    if values.dtype == np.uint8:
        return ((values - 128.0) / 128.0).astype(np.float32)
    raise InputError(
        f"An array of {values.dtype} is no sound that can be scaled. Give int16, int32, uint8, or floats in [-1, 1]."
    )


def _flat(values: Array) -> Array:
    if values.ndim != 1:
        raise InputError(f"An array {list(values.shape)} is no recording. Give {_ACCEPTED}.")
    return values


def _samples_first(values: Array) -> Array:
    """`[S, channels]` of an array in either order: there are more samples than channels."""
    shorter, longer = sorted(values.shape)
    if shorter > _MAX_CHANNELS or (shorter == longer and shorter > 1):
        raise InputError(
            f"An array {list(values.shape)} may be [samples, channels] or [channels, samples]. Give one channel."
        )
    return values if values.shape[1] == shorter else values.T


def _rate(value: Any) -> int:
    low, high = _RATES
    try:
        rate = float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"The sampling rate is {value!r}; it is a whole number of Hz.") from error
    if not low <= rate <= high or rate != int(rate):
        raise InputError(f"The sampling rate is {value!r}; it is a whole number of Hz from {low} to {high}.")
    return int(rate)


def _mono(values: Array) -> Array:
    """`[S, channels]` as `[S]`."""
    return values[:, 0] if values.shape[1] == 1 else np.asarray(values.mean(axis=1, dtype=np.float32))


def _checked(wave: Array) -> Array:
    if not np.isfinite(wave).all():
        place = int(np.flatnonzero(~np.isfinite(wave))[0])
        raise InputError(f"The recording's values are not all finite: sample {place} is {wave[place]}.")
    peak = float(np.abs(wave).max()) if len(wave) else 0.0
    if peak > _LOUDEST:
        raise InputError(f"The array's floats go up to {peak:g}; they are taken in [-1, 1]. Scale them, or give int16.")
    return wave


def _resample(sound: _Sound, rate: int) -> Array:
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
    return np.asarray((wave - mean) / np.sqrt(variance + _EPSILON), dtype=np.float32)
