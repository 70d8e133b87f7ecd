"""What kind of answer a classification gives: one label, several labels, or a number. One way for every modality.

The names are transformers' own `problem_type`.
"""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.results import Classification, LabelScore, MultiLabel, Regression
from zoo.spec import ModelSpec
from zoo.tasks.arrays import by_length, softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer
from zoo.tasks.curves import ScoreKeeper, mean_areas
from zoo.tasks.labels import index_of, label_text, ordered
from zoo.tasks.losses import binary_cross_entropy, cross_entropy, label_weight, refuse, squared_error
from zoo.tasks.metrics import LabelCounter, MultiLabelCounter, ValueCounter

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
VALUE = "value"  # the one label of a regression's head


class Problem(ABC):
    """Targets, loss, metrics and answers over `logits [B, C]`. Final kinds: `SingleLabel`, `MultiLabels`, `Value`."""

    metric: ClassVar[str]
    higher_is_better: ClassVar[bool] = True

    def __init__(self, task: str, labels: tuple[str, ...]) -> None:
        self.task = task
        self.labels = labels
        self.index = {label: i for i, label in enumerate(labels)}

    @abstractmethod
    def target(self, value: Any) -> dict[str, Array]:
        """What `Task.attach` adds to each window. Raises DataError."""

    @abstractmethod
    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], options: LossOptions) -> Tensor: ...

    @abstractmethod
    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float: ...

    @abstractmethod
    def scorer(self) -> Scorer: ...

    @abstractmethod
    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], top_k: int, threshold: float) -> Any: ...

    @abstractmethod
    def same(self, a: Any, b: Any) -> bool: ...

    def best(self, scores: Array, top_k: int) -> tuple[LabelScore, ...]:
        order = np.argsort(-scores, kind="stable")[:top_k]
        return tuple(LabelScore(self.labels[i], float(scores[i])) for i in order)


def make_problem(spec: ModelSpec, task: str, labels: tuple[str, ...]) -> Problem:
    """By the spec's `problem_type`; one label where it says none."""
    kinds: dict[str, type[Problem]] = {MULTI: MultiLabels, REGRESSION: Value}
    return kinds.get(spec.problem_type or SINGLE, SingleLabel)(task, labels)


def labels_of(targets: Iterable[Any], problem_type: str | None = None) -> tuple[str, ...]:
    """Distinct labels of all rows; whole numbers by value, all others alphabetically. One of a regression."""
    if problem_type == REGRESSION:
        return (VALUE,)
    return ordered(label for target in targets for label in _label_texts(target))


def _label_texts(target: Any) -> Iterable[str]:
    if not isinstance(target, (list, tuple, np.ndarray)):
        return (label_text(target),)
    if any(isinstance(item, (bool, float, np.bool_, np.floating)) for item in target):
        raise DataError("The targets are rows of 0 and 1. Name what they stand for: labels=[...].")
    return map(label_text, target)


@final
class SingleLabel(Problem):
    """One of the labels. Targets int64 `label [B]`; the windows of an input are answered by their mean
    probabilities, each counted by its length."""

    metric = "accuracy"

    def target(self, value: Any) -> dict[str, Array]:
        if isinstance(value, (list, tuple)):
            raise DataError(
                f"The target is a list, {value!r}, and the model gives one label. "
                f"problem_type={MULTI!r} makes one that gives several."
            )
        return {"label": np.asarray(index_of(value, self.index), dtype=np.int64)}

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        return cross_entropy(logits, targets["label"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["label"], options)

    def scorer(self) -> Scorer:
        return _SingleScorer(self.task, self.labels)

    def decode(
        self, outputs: Sequence[Outputs], windows: Sequence[Example], top_k: int, threshold: float
    ) -> Classification:
        top = self.best(_probabilities(outputs, windows), top_k)
        return Classification(top[0].label, top[0].score, top)

    def same(self, a: Any, b: Any) -> bool:
        return bool(a.label == b.label)


@final
class MultiLabels(Problem):
    """Any number of the labels. Targets float32 `label [B, C]`, 1 for those that the row has.

    The loss is binary cross-entropy, its mean over rows and labels as torch's; class weights weigh a label where it
    is there (torch's `pos_weight`). The windows of an input are answered by their mean probabilities.
    """

    metric = "f1_micro"

    def target(self, value: Any) -> dict[str, Array]:
        items = value.tolist() if isinstance(value, np.ndarray) else value
        items = list(items) if isinstance(items, (list, tuple, set, frozenset)) else [items]
        if len(items) == len(self.labels) and items and all(isinstance(item, (bool, float)) for item in items):
            return {"label": self._marked(items)}
        found = np.zeros(len(self.labels), dtype=np.float32)
        found[[index_of(item, self.index) for item in items]] = 1
        return {"label": found}

    def _marked(self, items: Sequence[float]) -> Array:
        if any(item not in (0, 1) for item in items):
            raise DataError(f"The target is a row of numbers that are not all 0 or 1: {list(items)!r}.")
        return np.array(items, dtype=np.float32)

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        return binary_cross_entropy(logits, targets["label"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(targets["label"].size)

    def scorer(self) -> Scorer:
        return _MultiScorer(self.task, self.labels)

    def decode(
        self, outputs: Sequence[Outputs], windows: Sequence[Example], top_k: int, threshold: float
    ) -> MultiLabel:
        scores = _sigmoids(outputs, windows)
        chosen = [item for item in self.best(scores, len(scores)) if item.score >= threshold]
        labels, found = (item.label for item in chosen), (item.score for item in chosen)
        return MultiLabel(tuple(labels), tuple(found), self.best(scores, top_k))

    def same(self, a: Any, b: Any) -> bool:
        return set(a.labels) == set(b.labels)


@final
class Value(Problem):
    """A number. Targets float32 `label [B]`; the loss is the squared error, and windows are averaged by length."""

    metric = "rmse"
    higher_is_better = False

    def __init__(self, task: str, labels: tuple[str, ...]) -> None:
        if len(labels) > 1:
            raise ConfigError(f"A regression gives one number, and {len(labels)} labels came. Leave labels out.")
        super().__init__(task, labels)

    def target(self, value: Any) -> dict[str, Array]:
        plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
        if isinstance(plain, bool) or not isinstance(plain, numbers.Real) or not np.isfinite(float(plain)):
            raise DataError(f"The target of a regression is a finite number, not {value!r}.")
        return {"label": np.asarray(float(plain), dtype=np.float32)}

    def loss(self, logits: Tensor, targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse("a regression", options)
        return squared_error(logits[..., 0], targets["label"])

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(targets["label"].size)

    def scorer(self) -> Scorer:
        return _ValueScorer(self.task)

    def decode(
        self, outputs: Sequence[Outputs], windows: Sequence[Example], top_k: int, threshold: float
    ) -> Regression:
        return Regression(_value(outputs, windows))

    def same(self, a: Any, b: Any) -> bool:
        # As outputs they are compared to the parity check's tolerance; as answers, to a thousandth.
        return bool(abs(a.value - b.value) <= 1e-3 * max(1.0, abs(a.value)))


@final
class _SingleScorer(Scorer):
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


@final
class _MultiScorer(Scorer):
    """F1, precision and recall at a threshold of 0.5; subset accuracy; to a hundred labels areas under the curves."""

    def __init__(self, task: str, labels: tuple[str, ...]) -> None:
        self._task = task
        self._counter = MultiLabelCounter(labels)
        self._keeper = ScoreKeeper(labels)

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        scores = _sigmoids(outputs, windows)
        true = np.asarray(windows[0].targets["label"]) > 0.5
        self._counter.update(true, scores >= 0.5)
        self._keeper.update(scores, true)

    def compute(self) -> Report:
        averages = self._counter.averages()
        per_class = self._keeper.add_to(self._counter.scores())
        metrics = {"subset_accuracy": self._counter.subset_accuracy, "hamming_loss": self._counter.hamming_loss}
        for measure in ("f1", "precision", "recall"):
            metrics.update({f"{measure}_{name}": getattr(score, measure) for name, score in averages.items()})
        metrics.update(mean_areas(per_class))
        return Report(task=self._task, metrics=metrics, per_class=per_class, averages=averages, rows=self._counter.rows)


@final
class _ValueScorer(Scorer):
    """mse, rmse, mae; r2, pearson and spearman where they are defined."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._counter = ValueCounter()

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        self._counter.update(float(windows[0].targets["label"]), _value(outputs, windows))

    def compute(self) -> Report:
        return Report(task=self._task, metrics=self._counter.metrics(), rows=self._counter.rows)


def _probabilities(outputs: Sequence[Outputs], windows: Sequence[Example]) -> Array:
    """Probabilities `[C]` of one row, float64 so that ties and sums don't depend on the batch."""
    return by_length([softmax(output["logits"].astype(np.float64)) for output in outputs], windows)


def _sigmoids(outputs: Sequence[Outputs], windows: Sequence[Example]) -> Array:
    """Each label's own probability, float64 `[C]`."""
    # tanh never overflows, as exp(-x) would.
    rows = [(np.tanh(output["logits"].astype(np.float64) / 2) + 1) / 2 for output in outputs]
    return by_length(rows, windows)


def _value(outputs: Sequence[Outputs], windows: Sequence[Example]) -> float:
    return float(by_length([output["logits"].astype(np.float64) for output in outputs], windows)[0])
