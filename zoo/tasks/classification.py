"""Classification of a text, an image or a sound: one label for one input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError
from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.results import Classification as Result
from zoo.results import LabelScore
from zoo.tasks.arrays import by_length, softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.curves import ScoreKeeper, mean_areas
from zoo.tasks.labels import index_of, label_text, ordered
from zoo.tasks.losses import cross_entropy, label_weight
from zoo.tasks.metrics import LabelCounter
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class ClassificationOptions:
    """top_k: how many of the best labels a result lists."""

    top_k: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")


class Classification(Task):
    """Abstract: all but the facts of a modality. Outputs `logits [B, C]`; targets int64 `label [B]`.

    The windows of a long input are answered by their mean probabilities, each counted by its length.
    """

    metric = "accuracy"
    options = ClassificationOptions

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """Distinct labels; whole numbers by value, all others alphabetically."""
        return ordered(label_text(target) for target in targets)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        label = np.asarray(index_of(target, self.index), dtype=np.int64)
        return [replace(window, targets={"label": label}) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        return cross_entropy(outputs["logits"], targets["label"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["label"], options)

    def scorer(self) -> Scorer:
        return _Scorer(self.name, self.labels)

    def same(self, a: Any, b: Any) -> bool:
        return bool(a.label == b.label)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Result:
        scores = _probabilities(outputs, windows)
        best = np.argsort(-scores, kind="stable")[: options.top_k]
        top = tuple(LabelScore(self.labels[i], float(scores[i])) for i in best)
        return Result(top[0].label, top[0].score, top)


@final
class TextClassification(Classification):
    """One label for a text, or for a pair of texts."""

    name = "text-classification"
    modalities = ("text",)
    columns = ("text", "label")
    optional_inputs = ("text_pair",)

    def samples(self) -> list[Any]:
        """Texts, and pairs of them: the second of a pair is marked in the network's input."""
        texts = samples_of(self.spec)
        return [*texts, *({"text": a, "text_pair": b} for a, b in ((texts[0], texts[1]), (texts[4], texts[2])))]


@final
class ImageClassification(Classification):
    """One label for an image."""

    name = "image-classification"
    modalities = ("vision",)
    columns = ("image", "label")


@final
class AudioClassification(Classification):
    """One label for a recording."""

    name = "audio-classification"
    modalities = ("audio",)
    columns = ("audio", "label")


@final
class _Scorer(Scorer):
    """accuracy, precision, recall and F1; top5_accuracy when there are more than five labels.

    Up to a hundred labels also the areas under the curves of each label against the others, and their means.
    """

    def __init__(self, task: str, labels: tuple[str, ...]) -> None:
        self._task = task
        self._counter = LabelCounter(labels)
        self._keeper = ScoreKeeper(labels)
        self._rows = 0
        self._top5 = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        scores = _probabilities(outputs, windows)
        true = int(windows[0].targets["label"])
        order = np.argsort(-scores, kind="stable")
        self._counter.update(np.array([true]), order[:1])
        self._keeper.update(scores, np.arange(len(scores)) == true)
        self._top5 += bool((order[:5] == true).any())
        self._rows += 1

    def compute(self) -> Report:
        averages = self._counter.averages()
        per_class = self._keeper.add_to(self._counter.scores())
        metrics = {"accuracy": self._counter.accuracy, "balanced_accuracy": self._counter.balanced_accuracy}
        if len(self._counter.labels) > 5:
            metrics["top5_accuracy"] = self._top5 / self._rows if self._rows else 0.0
        for measure in ("f1", "precision", "recall"):
            metrics.update({f"{measure}_{name}": getattr(score, measure) for name, score in averages.items()})
        metrics.update(mean_areas(per_class))
        return Report(
            task=self._task,
            metrics=metrics,
            per_class=per_class,
            averages=averages,
            confusion=self._counter.confusion(),
            rows=self._rows,
        )


def _probabilities(outputs: Sequence[Outputs], windows: Sequence[Example]) -> Array:
    """Probabilities `[C]` of one row, float64 so that ties and sums don't depend on the batch."""
    return by_length([softmax(output["logits"].astype(np.float64)) for output in outputs], windows)
