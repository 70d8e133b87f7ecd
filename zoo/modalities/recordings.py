"""Recordings as they come - files, bytes, arrays, with or without their rate - as one channel of float32."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from zoo.errors import InputError, missing
from zoo.modalities.base import Array, local_file, path_name, read_all, shorten

# A few kilobytes of FLAC can hold days of silence.
MAX_HOURS = 4
MAX_SAMPLES = MAX_HOURS * 3600 * 48_000  # of all rates: at the highest, four hours are 44 GB
_RATES = (1_000, 768_000)
_MAX_CHANNELS = 64
_BLOCK = 1 << 20
# The share of what a header states below which a file is cut off: some recorders are a little off.
_WHOLE = 0.95
_PIPED = 0x7FFF_0000
# Far beyond what a resampler or a previous normalisation gives, and below any integer format.
_LOUDEST = 100.0

_ACCEPTED = (
    "a path, the bytes of a file, a one-dimensional array at the model's rate, (array, sampling_rate), or "
    '{"array": ..., "sampling_rate": ...}'
)


class Sound(NamedTuple):
    """wave: float32 `[S]`, mono, at `rate` Hz, in [-1, 1]."""

    wave: Array
    rate: int


def read(raw: Any, rate: int) -> Sound:
    """A recording in any accepted form. rate: Hz, of an array that comes without its own. Raises InputError."""
    inner = _unwrapped(raw)
    return _decode(inner) if _is_file(inner) else _from_array(inner, rate)


def seconds(raw: Any, rate: int) -> float:
    """How long a recording is, from its header alone where it has one. Arguments and errors as of `read`."""
    return facts(raw, rate)[1]


def facts(raw: Any, rate: int) -> tuple[int, float]:
    """(Hz, seconds) of a recording as it is stored. Arguments and errors as of `read`."""
    inner = _unwrapped(raw)
    if not _is_file(inner):
        sound = _from_array(inner, rate)
        return sound.rate, len(sound.wave) / sound.rate
    with _opened(inner) as file:
        return int(file.samplerate), float(file.frames / file.samplerate)


def describe(raw: Any) -> str:
    """A short name for messages. Never raises."""
    if isinstance(raw, (str, os.PathLike)):
        return path_name(raw)
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return f"a recording of {len(raw)} bytes"
    if isinstance(raw, Mapping):
        return shorten(str(raw.get("path") or "a recording given as a dict"))
    if isinstance(raw, tuple) and len(raw) == 2:
        return f"{describe(raw[0])} at {shorten(str(raw[1]), 20)} Hz"
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
    with _readable(raw), soundfile.SoundFile(source := _source(raw)) as file:
        if file.format == "WAV":
            _check_whole(source, raw)
        low, high = _RATES
        if not low <= file.samplerate <= high or file.channels > _MAX_CHANNELS:
            raise InputError(
                f"{describe(raw)} has {file.channels} channels at {file.samplerate} Hz. Up to {_MAX_CHANNELS} channels "
                f"at {low} to {high} Hz are read."
            )
        yield file


class _Bytes(io.BytesIO):
    """libsndfile follows damaged headers to places before the beginning; from its callback that would be a
    traceback on the terminal, where the error is reported anyway."""

    def seek(self, offset: int, whence: int = 0, /) -> int:
        try:
            return super().seek(offset, whence)
        except ValueError:
            return self.tell()


def _source(raw: Any) -> bytes | _Bytes:
    if isinstance(raw, (str, os.PathLike)):
        # As bytes: soundfile encodes a str strictly, and a name need not be UTF-8.
        return os.fsencode(local_file(raw, "a recording"))
    return _Bytes(read_all(raw) if hasattr(raw, "read") else bytes(raw))


def _check_whole(source: bytes | _Bytes, raw: Any) -> None:
    """libsndfile reads a WAV that was cut off as a shorter one, without a word: compare the sizes it states."""
    if isinstance(source, bytes):
        with open(source, "rb") as file:
            head, size = file.read(8), os.path.getsize(source)
    else:
        head, size = source.getvalue()[:8], len(source.getvalue())
    stated = int.from_bytes(head[4:8], "little") + 8
    # Written to a pipe, a WAV states a size at the limit of the format, or none.
    if head[:4] == b"RIFF" and size < _WHOLE * stated and stated < _PIPED:
        raise InputError(
            f"{describe(raw)} has {size} of the {stated} bytes that it states. It is cut off; fetch it again."
        )


@contextmanager
def _readable(raw: Any) -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    # soundfile raises its own RuntimeError, TypeError for headerless formats, and what the file object raises.
    except Exception as error:
        reason = str(getattr(error, "error_string", error)).rstrip(".")
        raise InputError(
            f"{describe(raw)} can't be decoded as sound: {reason}. WAV, FLAC, OGG and MP3 are read, whole files only."
        ) from error


def _decode(raw: Any) -> Sound:
    with _opened(raw) as file:
        limit = min(MAX_HOURS * 3600 * file.samplerate, MAX_SAMPLES)
        if file.frames > limit:
            raise _too_long(raw)
        parts: list[Array] = []
        frames = 0
        # In blocks: a header may promise any number of frames, and memory would be taken for them at once.
        while len(block := file.read(_BLOCK // file.channels, dtype="float32", always_2d=True)):
            frames += len(block)
            if frames > limit:
                raise _too_long(raw)
            parts.append(_mono(block))
        # Headers of MP3 may be off by some frames; a file that ends in its middle is another matter.
        if frames < _WHOLE * file.frames - file.samplerate / 10:
            raise InputError(
                f"{describe(raw)} ends after {frames} of {file.frames} samples. It is cut off; fetch it again."
            )
        wave = np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)
        return Sound(_checked(wave), int(file.samplerate))


def _too_long(raw: Any) -> InputError:
    return InputError(
        f"{describe(raw)} is longer than {MAX_HOURS} hours, or than {MAX_SAMPLES:,} samples. Cut it into shorter "
        "recordings."
    )


def _from_array(raw: Any, rate: int) -> Sound:
    """rate: Hz, of an array that comes without its own."""
    if isinstance(raw, tuple) and len(raw) == 2:
        values, rate = _values(raw[0]), _rate(raw[1])
        return Sound(_checked(_mono(_samples_first(values)) if values.ndim == 2 else _flat(values)), rate)
    values = _values(raw)
    if values.ndim == 2:
        raise InputError(
            f"An array {list(values.shape)} has several channels; give it with its rate, (array, sampling_rate)."
        )
    return Sound(_checked(_flat(values)), rate)


def _values(raw: Any) -> Array:
    """An array of float32 in [-1, 1] of any accepted dtype."""
    if not hasattr(raw, "__array__") and not isinstance(raw, (list, tuple)):
        raise InputError(f"Sound was expected, and {describe(raw)} came. Give {_ACCEPTED}.")
    try:
        values = np.asarray(raw)
    except (ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"{describe(raw)} is no array of numbers: {error}.") from error
    kind, bits = values.dtype.kind, 8 * values.dtype.itemsize
    if not values.size or kind == "f":
        return values.astype(np.float32)
    if kind == "i" and bits <= 32:
        return values.astype(np.float32) * np.float32(2.0 ** (1 - bits))
    if values.dtype == np.uint8:
        return (values.astype(np.float32) - 128) / 128
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
    if not shorter:
        return np.zeros((0, 1), dtype=np.float32)
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
