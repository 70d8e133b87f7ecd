"""Text to speech: a waveform for a text. For prediction alone: upstream has no training objective for these models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn, final

import numpy as np

from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Array, Encoder, Example, pad
from zoo.modalities.text import TextEncoder
from zoo.results import Speech
from zoo.spec import ModelSpec, TextInput
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task

if TYPE_CHECKING:
    from torch import Tensor

# Frames of noise that come with each token; a speech that is longer begins with them again.
_FRAMES = 16
# What a token costs in memory, in numbers: some forty frames of 256 samples, in a few channels.
_WIDTH = 40_000


@dataclass(frozen=True, slots=True)
class SpeechOptions:
    """seed: of the noise; one seed gives one waveform, from torch and from a bundle.

    speaking_rate: larger is faster. noise_scale, noise_scale_duration: how much a voice and its
    rhythm vary. The model's own values when None.
    """

    seed: int = 0
    speaking_rate: float | None = None
    noise_scale: float | None = None
    noise_scale_duration: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise ConfigError(f"seed is {self.seed!r}; give a whole number from 0.")
        for name, least in (("speaking_rate", 0.1), ("noise_scale", 0.0), ("noise_scale_duration", 0.0)):
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= 10:
                raise ConfigError(f"{name} is {value!r}; give a number from {least:g} to 10.")


@final
class TextToSpeech(Task):
    """Outputs `waveform [B, S]` in [-1, 1] and int64 `lengths [B]`, in samples.

    Beside a text's tokens the module takes float32 `speaking_rate [B]`, `duration_noise [B, T, 2]` and
    `noise [B, T, N]`, drawn by NumPy from the seed alone: an answer does not depend on what is in the batch.
    """

    name = "text-to-speech"
    modalities = ("text",)
    output = "waveform"
    columns = ("text", None)
    metric = ""
    needs_labels = False
    options = SpeechOptions
    windowed = False
    trainable = False
    ragged = ("duration_noise", "noise")

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        self.sampling_rate = int(spec.config.get("sampling_rate", 16_000))

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    @property
    def width(self) -> int:
        return _WIDTH

    def samples(self) -> list[Any]:
        return ["hello", "a quick brown fox", "to be or not", "yes"]

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        """One window, with its noise. Raises InputError for a text of which the model knows no character."""
        assert isinstance(encoder, TextEncoder)
        if isinstance(raw, str) and not encoder.tokenizer.encode(raw, add_special_tokens=False).ids:
            raise InputError(f"{encoder.describe(raw)} has no character that the model can speak.")
        [window] = super().encode(encoder, raw, options)
        ids = window.inputs["input_ids"]
        assert isinstance(self.spec.input, TextInput)
        if self.spec.input.blank is not None:
            ids = _interspersed(ids, self.spec.input.blank)
        inputs = {"input_ids": ids, "attention_mask": np.ones(len(ids), dtype=np.int64)}
        return [
            replace(window, inputs={**inputs, **self._noise(len(ids), options or SpeechOptions())}, length=len(ids))
        ]

    def collate(self, encoder: Encoder, examples: Sequence[Example]) -> dict[str, Array]:
        own = {name: pad([example.inputs[name] for example in examples], 0) for name in self.ragged}
        rates = np.stack([example.inputs["speaking_rate"] for example in examples])
        return {**encoder.collate(examples), "speaking_rate": rates, **own}

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return [
            {"waveform": waveform[:length]}
            for waveform, length in zip(outputs["waveform"], outputs["lengths"].tolist(), strict=True)
        ]

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Speech:
        return Speech(np.array(outputs[0]["waveform"], dtype=np.float32), self.sampling_rate, windows[0].source.text)

    def same(self, a: Any, b: Any) -> bool:
        """As long, and nowhere more than a hundredth of full scale apart: none would hear it."""
        return len(a.waveform) == len(b.waveform) and bool(np.abs(a.waveform - b.waveform).max(initial=0.0) < 0.01)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        self._refuse()

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        self._refuse()

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        self._refuse()

    def scorer(self) -> Scorer:
        self._refuse()

    def _noise(self, tokens: int, options: SpeechOptions) -> dict[str, Array]:
        config = self.spec.config
        rate = _given(options.speaking_rate, config.get("speaking_rate"), 1.0)
        scale = _given(options.noise_scale, config.get("noise_scale"), 0.667)
        rhythm = _given(options.noise_scale_duration, config.get("noise_scale_duration"), 0.8)
        random = np.random.default_rng(options.seed)
        channels = int(config.get("flow_size", 192))
        return {
            "speaking_rate": np.asarray(rate),
            "duration_noise": rhythm * random.standard_normal((tokens, 2), dtype=np.float32),
            "noise": scale * random.standard_normal((tokens, _FRAMES * channels), dtype=np.float32),
        }

    def _refuse(self) -> NoReturn:
        raise ConfigError(
            f"{self.name} is for prediction: {self.spec.name} can't be fine-tuned or evaluated, for upstream has no "
            "training objective for it."
        )


def _given(option: float | None, own: Any, default: float) -> np.float32:
    """What was asked for, else the model's own."""
    return np.float32(option if option is not None else own if own is not None else default)


def _interspersed(ids: Array, blank: int) -> Array:
    """A blank before, between and after the tokens: int64 `[2 T + 1]`."""
    found = np.full(2 * len(ids) + 1, blank, dtype=np.int64)
    found[1::2] = ids
    return found
