"""Text generation: a causal language model, trained on plain text. How it answers is in `generation`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.report import Report
from zoo.tasks.arrays import log_softmax, unpadded, vocabulary_size
from zoo.tasks.base import IGNORE, LossOptions, Outputs, Scorer, Task
from zoo.tasks.generation import GenerateOptions
from zoo.tasks.losses import cross_entropy, label_weight, refuse

if TYPE_CHECKING:
    from torch import Tensor

# Positions that are counted at once: 64 x 50,257 logits as float64 are 26 MB.
_CHUNK = 64


@final
class TextGeneration(Task):
    """Outputs `logits [B, T, V]`; targets int64 `labels [B, T]`, the text itself: the loss and the metrics shift them.

    A prompt longer than the model can see is refused; a text to learn from or to measure on is cut into
    windows that do not overlap, so that each token counts once.
    """

    name = "text-generation"
    modalities = ("text",)
    columns = ("text", None)
    metric = "perplexity"
    higher_is_better = False
    needs_labels = False
    options = GenerateOptions
    generations = ({"max_new_tokens": 6},)
    windowed = False
    packs = True

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        windows = super().encode(encoder, raw, options)
        if windows[0].length < 1:
            raise InputError("The prompt has no tokens. Give a text to continue.")
        return windows

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        """target: not used; the text is its own."""
        attached = []
        for window in windows:
            labels = np.array(window.inputs["input_ids"], dtype=np.int64)
            # Nothing comes before it, and padding on the left would otherwise predict it.
            labels[:1] = IGNORE
            attached.append(replace(window, targets={"labels": labels}))
        return attached

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse(self.name, options, smoothing=True)
        return cross_entropy(outputs["logits"][:, :-1], targets["labels"][:, 1:], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"][:, 1:], options)

    def scorer(self) -> Scorer:
        return _Scorer(self.name)

    @property
    def width(self) -> int:
        return vocabulary_size(self.spec)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return [
            {"logits": unpadded(logits, example.length, left=self.left_padded)}
            for logits, example in zip(outputs["logits"], examples, strict=True)
        ]

    def same(self, a: Any, b: Any) -> bool:
        """Always: a result is an array (logits), and the difference of the outputs is the comparison."""
        return True

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Array:
        """The logits of the token that would come next, float32 `[V]`; `generation.generate` makes a text of many."""
        return np.asarray(outputs[-1]["logits"][-1], dtype=np.float32)


@final
class _Scorer(Scorer):
    """loss: nats a token; perplexity: its exponential; token_accuracy: how often the likeliest token came."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._loss = 0.0
        self._tokens = 0
        self._right = 0
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        for output, window in zip(outputs, windows, strict=True):
            labels = window.targets["labels"][1:]
            for start in range(0, len(labels), _CHUNK):
                chunk = slice(start, min(start + _CHUNK, len(labels)))
                self._count(output["logits"][chunk], labels[chunk])
        self._rows += 1

    def compute(self) -> Report:
        tokens = max(self._tokens, 1)
        loss = self._loss / tokens
        metrics = {
            # exp of more than 709 does not fit a float.
            "perplexity": math.exp(loss) if loss < 709 else math.inf,
            "loss": loss,
            "token_accuracy": self._right / tokens,
        }
        return Report(task=self._task, metrics=metrics, rows=self._rows)

    def _count(self, logits: Array, labels: Array) -> None:
        counted = labels != IGNORE
        scores = log_softmax(logits[counted].astype(np.float64))
        expected = labels[counted]
        self._loss -= float(scores[np.arange(len(expected)), expected].sum())
        self._right += int((scores.argmax(axis=-1) == expected).sum())
        self._tokens += len(expected)
