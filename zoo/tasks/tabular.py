"""A label or a number for a row of a table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.results import Regression
from zoo.spec import TabularInput, TargetRange
from zoo.tasks.arrays import log_softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.classification import Classification
from zoo.tasks.losses import refuse, squared_error
from zoo.tasks.metrics import ValueCounter
from zoo.tasks.problems import SINGLE

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec


@final
class TabularClassification(Classification):
    """One label for a row: a click, a grade, a kind."""

    name = "tabular-classification"
    modalities = ("tabular",)
    columns = ("row", "label")
    metric = "log_loss"
    higher_is_better = False

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        if spec.problem_type not in (None, SINGLE):
            raise ConfigError(
                f"{self.name} gives one label a row, and problem_type is {spec.problem_type!r}. Numbers are "
                "tabular-regression's; several labels a row are not supported for tables."
            )
        super().__init__(spec, labels)
        # Of clicks few are positive: always answering "no" would have a fine accuracy.
        self.metric = type(self).metric
        self.higher_is_better = type(self).higher_is_better

    def scorer(self) -> Scorer:
        return _LogLoss(super().scorer())


@final
class _LogLoss(Scorer):
    """All that a classification counts, and the mean negative log-probability of the true label, in nats."""

    def __init__(self, counted: Scorer) -> None:
        self._counted = counted
        self._sum = 0.0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        self._counted.update(outputs, windows)
        scores = log_softmax(outputs[0]["logits"].astype(np.float64))
        self._sum -= float(scores[int(windows[0].targets["label"])])

    def compute(self) -> Report:
        report = self._counted.compute()
        loss = self._sum / report.rows if report.rows else 0.0
        return replace(report, metrics={"log_loss": loss, **report.metrics})


@final
class TabularRegression(Task):
    """One number for a row: a rating, a price.

    Outputs `logits [B, 1]` in the target's unit; targets float32 `value [B]`.

    The loss is the squared error in units of the target's variance, so that learning rates mean the same for ratings
    and for prices. Answers stay within what training has seen.
    """

    name = "tabular-regression"
    modalities = ("tabular",)
    columns = ("row", "label")
    metric = "rmse"
    higher_is_better = False
    needs_labels = False

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    @property
    def range(self) -> TargetRange:
        assert isinstance(self.spec.input, TabularInput)
        return self.spec.input.target or TargetRange(mean=0.0, std=1.0, low=-math.inf, high=math.inf)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        value = np.asarray(target_number(target), dtype=np.float32)
        return [replace(window, targets={"value": value}) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse(self.name, options)
        return squared_error(outputs["logits"][:, 0], targets["value"]) / self.range.std**2

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(len(targets["value"]))

    def scorer(self) -> Scorer:
        return _Errors(self)

    def same(self, a: Any, b: Any) -> bool:
        return bool(abs(a.value - b.value) <= 1e-4 * max(1.0, self.range.std, abs(a.value)))

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Regression:
        value = float(outputs[0]["logits"][0])
        return Regression(min(max(value, self.range.low), self.range.high))


@final
class _Errors(Scorer):
    """mse, rmse and mae in the target's unit; r2 and correlations."""

    def __init__(self, task: TabularRegression) -> None:
        self._task = task
        self._counter = ValueCounter()

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        answer = self._task.decode(outputs, windows, None)
        self._counter.update(float(windows[0].targets["value"]), answer.value)

    def compute(self) -> Report:
        return Report(task=self._task.name, metrics=self._counter.metrics(), rows=self._counter.rows)


def target_number(value: Any) -> float:
    """A target as a finite number. Raises DataError."""
    plain = value.item() if getattr(value, "ndim", None) == 0 and hasattr(value, "item") else value
    if plain is None or type(plain).__name__ in ("NAType", "NaTType") or (isinstance(plain, str) and not plain.strip()):
        raise DataError("The target is missing.")
    try:
        found = float(plain) if not isinstance(plain, (bytes, bytearray)) else math.nan
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"The target of a regression is a number, not {type(value).__name__} {plain!r}.") from error
    if not math.isfinite(found):
        raise DataError(f"The target is {plain!r}; a finite number is needed.")
    return found
