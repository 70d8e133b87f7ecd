"""Spectrograms in NumPy: frames, their power, and banks of mel filters. Nothing here knows of a model."""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np

from zoo.modalities.base import Array

Scale = Literal["slaney", "htk", "kaldi"]
# Slaney's Auditory Toolbox: 200/3 Hz a mel up to 1 kHz, and above it 27 mels for each factor of 6.4.
_LINEAR, _KNEE, _STEP = 200.0 / 3.0, 1000.0, np.log(6.4) / 27.0
_SMALL_PRODUCT = 1 << 18  # multiplications that OpenBLAS gives to one thread


def hann(size: int, *, periodic: bool = True) -> Array:
    """A Hann window, float64 `[size]`: periodic as for spectra, or symmetric as Kaldi's "hanning"."""
    return np.asarray(np.hanning(size + 1)[:-1] if periodic else np.hanning(size))


def power_frames(
    wave: Array,
    window: Array,
    hop: int,
    *,
    size: int | None = None,
    center: bool = True,
    preemphasis: float = 0.0,
    remove_mean: bool = False,
) -> Array:
    """The power of each frame at each frequency: float64 `[F, size // 2 + 1]`.

    wave: float `[S]`; window: `[N]`. hop: samples between frames. size: of the Fourier transform, N when not given.
    center: the wave is reflected at both ends by N // 2 samples, so that frame t is about sample t * hop, and
        F = S // hop + 1; else frame t begins there, and only whole frames count.
    preemphasis: x[i] - c * x[i - 1] within each frame, after its mean is taken away (`remove_mean`), as Kaldi does.
    """
    wave = np.asarray(wave, dtype=np.float64)
    if center:
        # Reflection needs more samples than it mirrors; what is shorter is continued with silence first.
        wave = np.pad(wave, (0, max(0, len(window) // 2 + 1 - len(wave))))
        wave = np.pad(wave, len(window) // 2, mode="reflect")
    if len(wave) < len(window):
        return np.zeros((0, (size or len(window)) // 2 + 1))
    frames = np.lib.stride_tricks.sliding_window_view(wave, len(window))[::hop]
    if remove_mean:
        frames = frames - frames.mean(axis=1, keepdims=True)
    if preemphasis:
        before = np.concatenate((frames[:, :1], frames[:, :-1]), axis=1)
        frames = frames - preemphasis * before
    spectrum = np.fft.rfft(frames * window, n=size or len(window), axis=1)
    return np.asarray(np.square(spectrum.real) + np.square(spectrum.imag))


def through(power: Array, filters: Array) -> Array:
    """`power @ filters`, float64 `[frames, mels]`, a few frames at a time.

    Of larger products NumPy's BLAS gives a share to other threads, which then look for more work for a tenth of a
    second, on cores that the network is about to want.
    """
    few = max(_SMALL_PRODUCT // filters.size, 1)
    whole = len(power) - len(power) % few
    bins, mels = filters.shape
    found = np.empty((len(power), mels))
    blocks = whole // few
    np.matmul(power[:whole].reshape(blocks, few, bins), filters, out=found[:whole].reshape(blocks, few, mels))
    np.matmul(power[whole:], filters, out=found[whole:])
    return found


@lru_cache(maxsize=16)
def mel_filters(
    bins: int,
    mels: int,
    *,
    rate: int,
    low: float,
    high: float,
    scale: Scale,
    slaney_norm: bool = False,
    in_mels: bool = False,
) -> Array:
    """Triangular filters, float64 `[bins, mels]`, read-only.

    bins: frequencies from 0 to rate / 2 Hz. low, high: Hz, the foot of the first and of the last triangle.
    slaney_norm: each triangle has the same area. in_mels: triangles are straight in mels (Kaldi), else in Hz.
    """
    feet = np.linspace(to_mel(low, scale), to_mel(high, scale), mels + 2)
    hertz = np.linspace(0.0, rate / 2, bins)
    points, edges = (to_mel(hertz, scale), feet) if in_mels else (hertz, to_hertz(feet, scale))
    rising = (points[:, None] - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - points[:, None]) / (edges[2:] - edges[1:-1])
    filters = np.maximum(0.0, np.minimum(rising, falling))
    if slaney_norm:
        filters *= 2.0 / (edges[2:] - edges[:-2])
    filters.flags.writeable = False
    return np.asarray(filters)


def to_mel(hertz: float | Array, scale: Scale) -> Array:
    """Hz in mels: of Slaney's toolbox, of HTK (2595 log10), or of Kaldi (1127 ln)."""
    hertz = np.asarray(hertz, dtype=np.float64)
    if scale == "slaney":
        above = _KNEE / _LINEAR + np.log(np.maximum(hertz, _KNEE) / _KNEE) / _STEP
        return np.where(hertz < _KNEE, hertz / _LINEAR, above)
    return np.asarray(_factor(scale) * np.log(1.0 + hertz / 700.0))


def to_hertz(mels: float | Array, scale: Scale) -> Array:
    """The inverse of `to_mel`."""
    mels = np.asarray(mels, dtype=np.float64)
    if scale == "slaney":
        knee = _KNEE / _LINEAR
        return np.where(mels < knee, mels * _LINEAR, _KNEE * np.exp(_STEP * (np.maximum(mels, knee) - knee)))
    return np.asarray(700.0 * (np.exp(mels / _factor(scale)) - 1.0))


def _factor(scale: Scale) -> float:
    return 1127.0 if scale == "kaldi" else 2595.0 / np.log(10.0)
