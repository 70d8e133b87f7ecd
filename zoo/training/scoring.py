"""Labelled rows through the project's one prediction loop and the task's scorer. No torch is imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from zoo.errors import ConfigError, DataError
from zoo.inference import Batch, BatchSize, Forward, OnError, run_rows
from zoo.modalities.base import Array, Encoder, Example
from zoo.predictor import Predictor
from zoo.report import Report
from zoo.tasks.base import Task
from zoo.training.data.rows import Rows
from zoo.training.documents import evaluated
from zoo.training.encoding import located


def measure(
    model: Predictor,
    rows: Rows,
    *,
    batch_size: BatchSize = "auto",
    on_error: OnError = "raise",
    predict_with_generate: bool = True,
    generation: Mapping[str, Any] | None = None,
) -> Report:
    """The report of a model that answers by itself, such as a bundle; without a loss. Arguments as of
    `Model.evaluate`."""
    check(rows, on_error)
    writer = model.writer(predict_with_generate, generation)

    def forward(batch: Batch) -> dict[str, Array]:
        return {**model.forward(batch), **(writer(batch) if writer is not None else {})}

    return score(
        forward, model.task, model.encoder, evaluated(model.task, rows), batch_size=batch_size,
        accelerated=model.accelerated, on_error=on_error,
    )  # fmt: skip


def check(rows: Rows, on_error: str) -> None:
    """Raises DataError where there is nothing to measure on, and ConfigError."""
    if not len(rows):
        raise DataError("There are no rows to evaluate on.")
    if on_error not in ("raise", "return"):
        raise ConfigError(f'on_error is {on_error!r}; it is "raise" or "return".')


def score(
    forward: Forward,
    task: Task,
    encoder: Encoder,
    rows: Rows,
    *,
    batch_size: BatchSize,
    accelerated: bool,
    on_error: OnError,
    packs: bool = False,
    each: Callable[[], None] = lambda: None,
) -> Report:
    """One pass over rows; `each` is called after every row and may raise."""
    faults: dict[int, DataError] = {}

    def prepare(number: int) -> list[Example]:
        try:
            row = rows[number]
            return task.examples(encoder, row.input, row.target)
        except DataError as error:
            faults[number] = located(error, rows, number)
            raise

    scorer = task.scorer()
    # Errors are returned and raised here, where rows have names.
    for outcome in run_rows(
        range(len(rows)), prepare=prepare, encoder=encoder, task=task, forward=forward, batch_size=batch_size,
        accelerated=accelerated, packs=packs, on_error="return",
    ):  # fmt: skip
        if outcome.error is None:
            scorer.update(outcome.outputs, outcome.windows)
        elif on_error == "raise":
            raise faults[outcome.row]
        each()
    return replace(scorer.compute(), skipped=tuple(str(faults[number]) for number in sorted(faults)))
