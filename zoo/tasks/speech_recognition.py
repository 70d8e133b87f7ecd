"""Speech recognition by connectionist temporal classification (CTC): a recording as text."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.results import Spoken, Transcript
from zoo.spec import AudioInput
from zoo.tasks import ctc, lm
from zoo.tasks.arrays import softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.losses import refuse
from zoo.tasks.metrics import EditCounter

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class CtcOptions:
    """return_timestamps: False, "word" or "char": what `Transcript.words` has, each with its time.

    lm: an n-gram language model of words, an `.arpa` file; the transcript is then searched for among its words, with
    `beam_width` hypotheses, instead of taken frame by frame. alpha: the weight of the model's log-probability (base
    10); beta: what each word adds.
    """

    return_timestamps: Literal[False, "word", "char"] = False
    lm: str | None = None
    alpha: float = 0.5
    beta: float = 1.5
    beam_width: int = 100

    def __post_init__(self) -> None:
        if self.return_timestamps not in (False, "word", "char"):
            raise ConfigError(
                f'return_timestamps is {self.return_timestamps!r}; a CTC model takes "word", "char" or False.'
            )
        if self.lm is not None:
            if not isinstance(self.lm, str | os.PathLike) or not Path(self.lm).is_file():
                raise ConfigError(f"lm is {str(self.lm)!r}, and no such file is there; give an .arpa file.")
            object.__setattr__(self, "lm", os.fspath(self.lm))
        if isinstance(self.beam_width, bool) or not isinstance(self.beam_width, int) or self.beam_width < 1:
            raise ConfigError(f"beam_width is {self.beam_width!r}; give a positive whole number.")
        for name in ("alpha", "beta"):
            if isinstance(getattr(self, name), bool) or not isinstance(getattr(self, name), int | float):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give a number.")


@final
class SpeechRecognition(Task):
    """Outputs `logits [B, F, V]` and int64 `lengths [B]`, each row's frames; labels are the vocabulary.

    Targets: int64 `labels [B, L]`, the transcript as vocabulary ids, and int64 `counted [B]`, 1 where the row has a
    loss. A row that CTC can't align (`check` says why) is still measured, but has none.
    """

    name = "automatic-speech-recognition"
    modalities = ("audio",)
    columns = ("audio", "text")
    metric = "wer"
    higher_is_better = False
    options = CtcOptions
    # What two windows share: neither has heard enough before its beginning, or after its end, to be sure of it.
    overlap = 0.1

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        # Before the first fine-tuning a model may have no vocabulary yet.
        self.vocabulary = ctc.Vocabulary(labels) if labels else None

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """A vocabulary: `<pad>` (CTC's blank), `<unk>`, `|` (between words), then the texts' characters, sorted."""
        return ctc.characters(ctc.transcript(target) for target in targets)

    def check(self, samples: int, target: Any) -> None:
        """Raise DataError when a recording of so many samples can't be trained on this transcript.

        samples: at the model's own sampling rate. Called before training: such a row would have an infinite loss.
        """
        labels = self._ids(target)
        assert isinstance(self.spec.input, AudioInput)
        rate = self.spec.input.sampling_rate
        longest = round(self.spec.input.max_seconds * rate)
        if samples > longest:
            raise DataError(
                f"The recording is {samples / rate:.1f} s long, and training takes up to {longest / rate:g} s with one "
                "transcript. Cut it, with its transcript, or leave it out."
            )
        frames, needed = ctc.frames(samples, self.spec.config), ctc.frames_needed(labels)
        if frames < needed:
            raise DataError(
                f"The recording of {samples / rate:.2f} s gives {frames} frames, and its transcript of {len(labels)} "
                f"characters needs at least {needed}. Is it the right transcript?"
            )

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        labels = self._ids(target)
        # A transcript can't be divided among the windows of a long recording.
        fits = len(windows) == 1 and ctc.frames(windows[0].length, self.spec.config) >= ctc.frames_needed(labels)
        counted = np.asarray(int(fits), dtype=np.int64)
        return [
            replace(window, targets={"labels": labels if place == 0 else labels[:0], "counted": counted})
            for place, window in enumerate(windows)
        ]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        """Each row's CTC loss divided by its transcript's length, summed over rows."""
        import torch
        from torch.nn import functional

        refuse(self.name, options)
        keep = targets["counted"].bool()
        logits = outputs["logits"]
        if not keep.any():
            return logits.float().sum() * 0.0
        labels = targets["labels"][keep]
        sizes = (labels >= 0).sum(dim=1)
        scores = torch.log_softmax(logits[keep].float(), dim=-1).transpose(0, 1)
        losses = functional.ctc_loss(
            scores,
            labels.clamp(min=0),
            outputs["lengths"][keep],
            sizes,
            blank=self._vocabulary.blank,
            reduction="none",
        )
        return (losses / sizes.clamp(min=1)).sum()

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(targets["counted"].sum())

    def scorer(self) -> Scorer:
        return _Scorer(self)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return [
            {"logits": logits[: int(length)], "lengths": length}
            for logits, length in zip(outputs["logits"], outputs["lengths"], strict=True)
        ]

    def same(self, a: Any, b: Any) -> bool:
        return bool(a.text == b.text)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Transcript:
        """The likeliest token of each frame, repeats and blanks left out; windows share frames, which count once."""
        chosen = options or CtcOptions()
        vocabulary = self._vocabulary
        probabilities, places = self._frames(outputs, windows)
        tokens = vocabulary.read(probabilities)
        if chosen.lm is not None:
            tokens = lm.search(probabilities, vocabulary, chosen)
        said = [token for token in tokens if token.text.strip()]
        score = float(np.mean([token.score for token in said])) if said else 0.0
        words: tuple[Spoken, ...] = ()
        if chosen.return_timestamps:
            separate = chosen.return_timestamps == "char" or not vocabulary.space
            words = tuple(self._spoken(word, places) for word in ctc.words_of(tokens, separate=separate))
        return Transcript(ctc.text_of(tokens), score, words)

    def _frames(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> tuple[Array, Array]:
        """Probabilities float64 `[F, V]` of the whole recording, and each frame's first sample, int64 `[F]`."""
        parts = [softmax(output["logits"].astype(np.float64)) for output in outputs]
        step = ctc.stride(self.spec.config)
        starts = [getattr(window.source, "start", 0) for window in windows]
        if len(parts) == 1:
            return parts[0], starts[0] + step * np.arange(len(parts[0]))
        return ctc.stitch(parts, starts, [window.length for window in windows], step)

    def _spoken(self, tokens: Sequence[ctc.Token], places: Array) -> Spoken:
        rate = self.spec.input.sampling_rate  # type: ignore[union-attr]
        end = int(places[tokens[-1].end - 1]) + ctc.stride(self.spec.config)
        score = float(np.mean([token.score for token in tokens]))
        return Spoken("".join(token.text for token in tokens), int(places[tokens[0].first]) / rate, end / rate, score)

    @property
    def _vocabulary(self) -> ctc.Vocabulary:
        assert self.vocabulary is not None, "a speech model without labels has no head to be used"
        return self.vocabulary

    def _ids(self, target: Any) -> Array:
        return self._vocabulary.ids(ctc.transcript(target))


@final
class _Scorer(Scorer):
    """wer and cer, of texts as the vocabulary can write them."""

    def __init__(self, task: SpeechRecognition) -> None:
        self._task = task
        self._edits = EditCounter()
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        labels = windows[0].targets["labels"]
        reference = self._task._vocabulary.text(labels)
        self._edits.update(reference, self._task.decode(outputs, windows, None).text)
        self._rows += 1

    def compute(self) -> Report:
        return Report(task=self._task.name, metrics=self._edits.rates(), rows=self._rows)
