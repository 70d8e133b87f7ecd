"""Measuring a module on labelled rows: the project's one prediction loop and the task's scorer."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np
import torch
from torch import Tensor, nn

from zoo.inference import Batch, BatchSize, Forward, OnError
from zoo.modalities.base import Array, Encoder
from zoo.report import Report
from zoo.tasks.base import LossOptions, Task
from zoo.training.data.rows import Rows
from zoo.training.documents import evaluated
from zoo.training.scoring import check, score
from zoo.training.stepping import out_of_memory


@final
class MeasuredForward:
    """A module as `zoo.inference.Forward`, that sums the loss of what it sees on the side."""

    def __init__(
        self,
        module: Callable[..., Mapping[str, Tensor]],
        task: Task,
        device: torch.device,
        *,
        options: LossOptions | None = None,
        autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
        writer: Forward | None = None,
    ) -> None:
        self._module = module
        self._task = task
        self._device = device
        self._options = options
        self._autocast = autocast
        self._writer = writer
        self._loss = 0.0
        self._weight = 0.0

    def __call__(self, batch: Batch) -> dict[str, Array]:
        # Not inference_mode: what a module caches here, such as positions, must be of use in training.
        with torch.no_grad():
            with self._autocast():
                outputs: Mapping[str, Tensor] = self._module(**self._there(batch.inputs))
            if self._options is not None:
                self._loss += float(self._task.loss(outputs, self._there(batch.targets), self._options))
                self._weight += self._task.weight(batch.targets, self._options)
            written: Mapping[str, Array] = {}
            if self._writer is not None:
                with self._autocast():
                    written = self._writer(batch)
        return {**{name: _numpy(tensor) for name, tensor in outputs.items()}, **written}

    @property
    def loss(self) -> float:
        """The mean over everything that was seen."""
        return self._loss / self._weight if self._weight else float("nan")

    def _there(self, arrays: Mapping[str, Array]) -> dict[str, Tensor]:
        return {name: torch.from_numpy(array).to(self._device) for name, array in arrays.items()}


def evaluate(
    module: nn.Module,
    task: Task,
    encoder: Encoder,
    rows: Rows,
    *,
    batch_size: BatchSize = "auto",
    device: str | torch.device | None = None,
    on_error: OnError = "raise",
    history: Sequence[dict[str, Any]] = (),
    writer: Forward | None = None,
    call: Callable[..., Mapping[str, Tensor]] | None = None,
    packs: bool = False,
) -> Report:
    """The task's report on labelled rows, counted as they stream by.

    device: where the module is, when None. on_error="return" leaves rows that can't be read out and lists them
    in `report.skipped`; "raise" is a DataError that names the first. history: of the training, for its curves.
    writer: for a task that writes texts, the forward function that generates them.
    call: what is asked instead of the module itself. packs: whether padding costs it nothing.
    """
    check(rows, on_error)
    rows = evaluated(task, rows)
    there = torch.device(device) if device is not None else next(module.parameters()).device
    module.to(there)
    with evaluating(module):
        forward = MeasuredForward(call or module, task, there, writer=writer)
        report = score(forward, task, encoder, rows, batch_size=batch_size, accelerated=there.type != "cpu",
                       packs=packs, on_error=on_error)  # fmt: skip
    return replace(report, history=tuple(history))


@dataclass(frozen=True, slots=True)
class Validation:
    """What a run is judged by: the loss over all rows, and the task's metrics."""

    loss: float
    report: Report


def validate(
    forward: Callable[[], MeasuredForward], task: Task, encoder: Encoder, rows: Rows, *, size: int, accelerated: bool,
    on_error: OnError, each: Callable[[], None],
) -> Validation:  # fmt: skip
    """Like `score`, with the loss; starts again with half the batch when memory runs out."""
    while True:
        measured = forward()
        try:
            report = score(measured, task, encoder, rows, batch_size=size, accelerated=accelerated, on_error=on_error,
                           each=each)  # fmt: skip
            return Validation(measured.loss, report)
        except (RuntimeError, MemoryError) as error:
            if size == 1 or not out_of_memory(error):
                raise
        del measured
        gc.collect()
        size //= 2


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Eval mode, and the mode from before afterwards."""
    before = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(before)


def _numpy(tensor: Tensor) -> Array:
    there = tensor.detach()
    if there.is_floating_point():
        there = there.float()
    array: Array = np.ascontiguousarray(there.cpu().numpy())
    return array
