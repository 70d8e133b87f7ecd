"""Sound as a log-mel spectrogram of a fixed length: what Whisper, the Audio Spectrogram Transformer and CLAP see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.modalities import clap, recordings
from zoo.modalities.audio import MIN_SECONDS, AudioSource, read_wave, windows_of
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.mel import hann, mel_filters, power_frames, through
from zoo.modalities.target_text import TargetText
from zoo.modalities.tokenizing import bare, bare_copy, save_tokenizer
from zoo.spec import MelInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_FLOOR = 1e-10
# float32's epsilon, below which Kaldi lets no energy fall.
_KALDI_FLOOR = float(np.finfo(np.float32).eps)


@final
class MelEncoder(Encoder):
    """Sound as float32 `input_features`, of one shape whatever the recording's length; no mask.

    layout "whisper": `[bins, frames]`; log10 of the power, at most 8 below the loudest, as transformers'
    WhisperFeatureExtractor. layout "kaldi": `[frames, bins]`; Kaldi's fbank, then (x - mean) / (2 std), as
    ASTFeatureExtractor. A shorter recording is padded with silence ("whisper") or with zeros before the
    normalisation ("kaldi"), a longer one is cut into windows of equal length. layouts "clap" and "clap-fusion": see
    `zoo.modalities.clap`; with "clap" the windows of a longer one are whole, and overlap; with "clap-fusion" there is
    one window always, and int64 `is_longer [1]` beside it.

    target: how texts are written that the model answers with; None for one that writes none.
    owned: as of `TextEncoder`.
    """

    def __init__(self, input: MelInput, tokenizer: Tokenizer | None = None, *, owned: bool = False) -> None:
        self.input = input
        stripped = bare if owned else bare_copy
        self.target = TargetText(stripped(tokenizer)) if tokenizer is not None else None
        self._longest = samples_seen(input)
        self._shortest = math.ceil(MIN_SECONDS * input.sampling_rate)

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One recording as windows. raw and errors: as of `AudioEncoder.encode`."""
        rate = self.input.sampling_rate
        wave = read_wave(raw, rate, self._shortest)
        if self.input.layout == "clap-fusion":
            longer = np.array([int(clap.is_longer(wave, self.input))], dtype=np.int64)
            inputs = {"input_features": clap.fused_features(wave, self.input), "is_longer": longer}
            return [Example(inputs, len(wave), AudioSource(len(wave), rate))]
        if self.input.layout == "clap":
            size, starts = min(len(wave), self._longest), whole_windows(len(wave), self._longest)
        else:
            size, starts = windows_of(len(wave), self._longest, overlap)
        return [
            Example(
                {"input_features": self.features(wave[start : start + size])},
                min(size, len(wave) - start),
                AudioSource(len(wave), rate, start),
                window=index,
                windows=len(starts),
            )
            for index, start in enumerate(starts)
        ]

    def recording(self, raw: Any) -> Example:
        """One recording in one window of layout "whisper", of as many frames as it has, but no fewer than
        `input.frames`. raw and errors: as of `encode`."""
        rate = self.input.sampling_rate
        wave = read_wave(raw, rate, self._shortest)
        source = AudioSource(len(wave), rate)
        frames = max(self.input.frames, len(wave) // _hop(self.input))
        return Example({"input_features": whisper_features(wave, self.input, frames)}, len(wave), source)

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """float32 `input_features [B, ...]`, and int64 `is_longer [B, 1]` of "clap-fusion"."""
        return {
            name: np.stack([example.inputs[name] for example in examples])
            for name in ("input_features", "is_longer")
            if name in examples[0].inputs
        }

    def features(self, wave: Array) -> Array:
        """wave: float32 `[S]` in [-1, 1] at the model's rate, no longer than one window."""
        if self.input.layout == "whisper":
            return whisper_features(wave, self.input, self.input.frames)
        return (clap.clap_features if self.input.layout == "clap" else kaldi_features)(wave, self.input)

    def seconds(self, raw: Any) -> float:
        """How long a recording is, from its header alone where it has one. Raises InputError as `encode` does."""
        return recordings.seconds(raw, self.input.sampling_rate)

    def describe(self, raw: Any) -> str:
        return recordings.describe(raw)

    def save(self, folder: Path) -> None:
        """Write the tokenizer of a model that writes text; `spec.input` says the rest."""
        if self.target is not None:
            save_tokenizer(self.target.tokenizer, folder)


def samples_seen(input: MelInput) -> int:
    """The longest window, in samples: 30 s of Whisper's 3,000 frames, 10.255 s of AST's 1,024."""
    if input.layout.startswith("clap"):
        return clap.longest(input)
    hop = _hop(input)
    return input.frames * hop if input.layout == "whisper" else (input.frames - 1) * hop + _width(input)


def whole_windows(total: int, size: int) -> list[int]:
    """Where windows begin that are all of one size, as few as cover a recording, at equal distances."""
    count = max(1, math.ceil(total / size))
    return [round(index * (total - size) / (count - 1)) for index in range(count)] if count > 1 else [0]


def whisper_features(wave: Array, input: MelInput, frames: int) -> Array:
    """float32 `[bins, frames]`. Frames of pure padding are not computed: they have the floor's value."""
    width, hop, rate = _width(input), _hop(input), input.sampling_rate
    heard = min(frames, math.ceil((len(wave) + width) / hop))
    # What is longer than the frames is not cut: the last of them sees it.
    sound = np.zeros(max(heard * hop, len(wave)))
    sound[: len(wave)] = wave
    power = power_frames(sound, hann(width), hop)[:heard]
    filters = mel_filters(
        width // 2 + 1, input.bins, rate=rate, low=0.0, high=rate / 2, scale="slaney", slaney_norm=True
    )
    levels = np.full((input.bins, frames), math.log10(_FLOOR))
    levels[:, :heard] = np.log10(np.maximum(through(power, filters), _FLOOR)).T
    return np.asarray((np.maximum(levels, levels.max() - 8.0) + 4.0) / 4.0, dtype=np.float32)


def kaldi_features(wave: Array, input: MelInput) -> Array:
    """float32 `[frames, bins]`."""
    width, rate = _width(input), input.sampling_rate
    size = 1 << (width - 1).bit_length()
    power = power_frames(
        wave,
        hann(width, periodic=False),
        _hop(input),
        size=size,
        center=False,
        preemphasis=0.97,
        remove_mean=True,
    )[: input.frames]
    filters = mel_filters(size // 2 + 1, input.bins, rate=rate, low=20.0, high=rate / 2, scale="kaldi", in_mels=True)
    out = np.zeros((input.frames, input.bins))
    out[: len(power)] = np.log(np.maximum(through(power, filters), _KALDI_FLOOR))
    return np.asarray((out - input.mean) / (2.0 * input.std), dtype=np.float32)


def _hop(input: MelInput) -> int:
    return input.sampling_rate // 100


def _width(input: MelInput) -> int:
    return input.sampling_rate // 40
