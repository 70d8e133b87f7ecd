"""Classification of a text, an image or a sound: one label for one input, several labels, or a number."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, final

from zoo.errors import ConfigError
from zoo.modalities.base import Array, Encoder, Example
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.problems import MULTI, SINGLE, labels_of, make_problem
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec


# AM-softmax's margin of 0.4 between cosines, times their scale of 30.
_SCALED_MARGIN = 30.0 * 0.4


@dataclass(frozen=True, slots=True)
class ClassificationOptions:
    """top_k: how many of the best labels a result lists. threshold: of a model with several labels an input, the
    probability from which a label is given; 0.5 when None."""

    top_k: int = 5
    threshold: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")
        given = self.threshold
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1
        ):
            raise ConfigError(f"threshold is {given!r}; give a probability from 0 to 1.")


class Classification(Task):
    """Abstract: all but the facts of a modality. Outputs `logits [B, C]`.

    What a target is, the loss, the metrics and the answer follow from `spec.problem_type` (`zoo.tasks.problems`).
    """

    metric = "accuracy"
    options: ClassVar[type[Any]] = ClassificationOptions
    other_targets: ClassVar[tuple[tuple[str, ...], ...]] = (("labels",),)

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        self.problem = make_problem(spec, self.name, labels)
        self.metric = self.problem.metric
        self.higher_is_better = self.problem.higher_is_better

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """Distinct labels; whole numbers by value, all others alphabetically."""
        return labels_of(targets)

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        problem = self.spec.problem_type or SINGLE
        if options is not None and options.threshold is not None and problem != MULTI:
            raise ConfigError(f"threshold goes with several labels an input; this model is of {problem!r}.")
        return super().encode(encoder, raw, options)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        targets = self.problem.target(target)
        return [replace(window, targets=targets) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        return self.problem.loss(outputs["logits"], targets, options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return self.problem.weight(targets, options)

    def scorer(self) -> Scorer:
        return self.problem.scorer()

    def same(self, a: Any, b: Any) -> bool:
        return self.problem.same(a, b)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        threshold = 0.5 if options.threshold is None else options.threshold
        return self.problem.decode(outputs, windows, options.top_k, threshold)


@final
class TextClassification(Classification):
    """Labels for a text, or for a pair of texts."""

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
    """Labels for an image."""

    name = "image-classification"
    modalities = ("vision",)
    columns = ("image", "label")


@final
class AudioClassification(Classification):
    """Labels for a recording.

    A model of x-vectors gives scaled cosines, and learns by AM-softmax (arXiv:1801.05599, upstream's AMSoftmaxLoss):
    the right label's must be larger than the others' by a margin.
    """

    name = "audio-classification"
    modalities = ("audio",)
    columns = ("audio", "label")

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        if self.spec.embedding.pooling != "xvector" or self.spec.problem_type not in (None, SINGLE):
            return super().loss(outputs, targets, options)
        logits, label = outputs["logits"].float(), targets["label"]
        margin = logits.new_zeros(logits.shape).scatter_(1, label.unsqueeze(1), _SCALED_MARGIN)
        return super().loss({**outputs, "logits": logits - margin}, targets, options)
