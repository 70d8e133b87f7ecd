"""Losses on their way from the device: looked at some steps later, so that the device never waits for them."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from zoo.errors import TrainingError

# Steps that a GPU may be ahead of the process that looks at its losses.
_LAG = 4
_SHOWN = 8


@dataclass(frozen=True, slots=True)
class StepNote:
    """What the host knows of a step: counted from 1; the rows of each forward pass of this process."""

    epoch: int
    step: int
    rows: Sequence[Sequence[int]]
    rate: float
    samples: int


@dataclass(frozen=True, slots=True)
class StepLoss:
    """A step whose loss is known. loss: summed over all processes; weight: what it is divided by."""

    note: StepNote
    loss: float
    weight: float
    stop: bool

    @property
    def mean(self) -> float:
        return self.loss / self.weight if self.weight else 0.0


@final
class Watch:
    """A queue of step losses. On the CPU each is known at once, so a bad one never reaches the weights."""

    def __init__(self, device: torch.device, name: Callable[[int], str]) -> None:
        """name: of a row, for messages."""
        self._name = name
        self._lag = _LAG if device.type == "cuda" else 0
        self._queue: deque[tuple[StepNote, Tensor, torch.cuda.Event | None]] = deque()

    def push(self, note: StepNote, values: Tensor) -> list[StepLoss]:
        """values: float32 `[4 + K]`: the step's loss, weight, wish to stop (of all processes), the gradient's
        norm, and this process's K forward passes. Returns the steps that are old enough to be looked at.

        Raises TrainingError for a loss or gradient that is not finite.
        """
        if values.device.type == "cuda":
            held = torch.empty(values.shape, dtype=values.dtype, pin_memory=True)
            held.copy_(values, non_blocking=True)
            event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            event.record()
            self._queue.append((note, held, event))
        else:
            self._queue.append((note, values, None))
        return self._take(self._lag)

    def drain(self) -> list[StepLoss]:
        """All the steps that are left; waits for the device."""
        return self._take(0)

    def _take(self, left: int) -> list[StepLoss]:
        taken = []
        while len(self._queue) > left:
            note, values, event = self._queue.popleft()
            if event is not None:
                event.synchronize()
            taken.append(self._checked(note, values.tolist()))
        return taken

    def _checked(self, note: StepNote, values: list[float]) -> StepLoss:
        loss, weight, stop, norm, *passes = values
        if math.isfinite(loss) and math.isfinite(norm):
            return StepLoss(note, loss, weight, stop > 0)
        bad_loss = not math.isfinite(loss)
        what = f"The loss is {loss}" if bad_loss else f"The gradient's norm is {norm}"
        guilty = [rows for rows, value in zip(note.rows, passes, strict=True) if not math.isfinite(value)]
        place = "a batch of another process" if bad_loss and not guilty else self._names(guilty or note.rows)
        raise TrainingError(
            f"{what} in epoch {note.epoch}, step {note.step}, on {place}. Nothing was saved since the last checkpoint. "
            "Look at these rows; lower learning_rate (for instance to a tenth), keep max_grad_norm, or use "
            'precision="fp32".'
        )

    def _names(self, passes: Sequence[Sequence[int]]) -> str:
        rows = list(dict.fromkeys(row for rows in passes for row in rows))
        more = len(rows) - _SHOWN
        shown = ", ".join(self._name(row) for row in rows[:_SHOWN])
        return f"the batch of {shown}{f' and {more} more' if more > 0 else ''}"
