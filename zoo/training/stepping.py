"""One optimiser step: forward passes whose sum is exactly one large batch, smaller ones when memory runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, final

import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor, nn

from zoo.errors import TrainingError
from zoo.tasks.base import LossOptions, Task
from zoo.training.averaging import Average
from zoo.training.loading import MicroBatch
from zoo.training.machine import Machine
from zoo.training.methods import Adapted
from zoo.training.schedules import Schedule

log = logging.getLogger("zoo.training")


@dataclass(frozen=True, slots=True)
class Parts:
    """What a step works with. network: as prepared by the machine."""

    machine: Machine
    network: nn.Module
    optimizer: Any
    schedule: Schedule
    task: Task
    options: LossOptions
    max_grad_norm: float | None
    net: nn.Module
    adapted: Adapted | None = None
    average: Average | None = None


@final
class Stepper:
    """Runs steps. size: the most windows in one forward pass, which shrinks when `shrinks` and memory runs out."""

    def __init__(self, parts: Parts, size: int, *, shrinks: bool) -> None:
        self.size = size
        self._parts = parts
        self._shrinks = shrinks and parts.machine.world == 1
        self._cut = False
        self._trained = [parameter for parameter in parts.network.parameters() if parameter.requires_grad]
        self._spare: MicroBatch | None = None

    def backward(self, batches: Sequence[MicroBatch], *, stop: bool) -> tuple[Tensor, list[MicroBatch]]:
        """Gradients of a step, clipped. Returns what `Watch.push` takes, and the passes as they were run."""
        while True:
            passes = self._passes(batches)
            try:
                return self._attempt(passes, stop=stop), passes
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._shrink(max(len(batch) for batch in passes), error)
            # Outside of the handler: the traceback held the activations.
            self._parts.optimizer.zero_grad()
            gc.collect()
            if self._parts.machine.device.type == "cuda":
                torch.cuda.empty_cache()

    def apply(self, step: int) -> None:
        """The optimiser's and the schedule's step. step: of the run, counted from 1."""
        parts = self._parts
        try:
            parts.optimizer.step()
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            raise TrainingError(
                "Memory ran out in the optimiser, whose state does not depend on the batch. Use "
                'optimizer="adamw_8bit" or "sgd", method="head" or "lora", or a smaller model.'
            ) from error
        # With fp16 the first steps look for a scale, and change no weight.
        if not parts.optimizer.step_was_skipped:
            parts.schedule.step()
            if parts.adapted is not None:
                parts.adapted.after_step(parts.net, step)
            if parts.average is not None:
                parts.average.update(step)
        parts.optimizer.zero_grad()

    def _attempt(self, passes: Sequence[MicroBatch], *, stop: bool) -> Tensor:
        parts = self._parts
        machine = parts.machine
        weight, wish = machine.total([sum(batch.weight for batch in passes), float(stop)])
        # One weight for the whole step, over all passes and processes: a mean of means skews ragged batches.
        # Processes' gradients are averaged, hence their number. No weight, no gradient.
        if isinstance(weight, Tensor):
            scale: Tensor | float = machine.world / weight.clamp(min=1e-12)
        else:
            scale = 1.0 / weight if weight else 0.0
        losses = []
        for number, batch in enumerate(passes):
            last = number == len(passes) - 1
            with nullcontext() if last else machine.no_sync(parts.network):
                losses.append(self._forward_backward(batch, scale, last=last))
        norm = self._clip()
        own = torch.stack(losses)
        loss = machine.sum(own.sum())
        # Filled on the device: copying a number there would wait for it.
        head = [
            value if isinstance(value, Tensor) else torch.full((), value, device=machine.device)
            for value in (weight, wish)
        ]
        return torch.cat([torch.stack([loss, *head, norm]), own])

    def _forward_backward(self, batch: MicroBatch, scale: Tensor | float, *, last: bool) -> Tensor:
        """The summed loss of one pass, detached, float32. A method's penalty goes with the last pass, unreported."""
        parts = self._parts
        counts = 1.0
        if len(batch):
            self._spare = batch
        else:
            # Other processes wait for this one's gradients, even when it has none to give.
            batch, counts = self._substitute(), 0.0
        there = batch.to(parts.machine.device)
        outputs = parts.network(**there.inputs)
        loss = parts.task.loss(outputs, there.targets, parts.options)
        added = parts.adapted.penalty() if last and parts.adapted is not None else None
        scaled = loss * (scale * counts)
        parts.machine.accelerator.backward(scaled if added is None else scaled + added)
        return loss.detach().float() if counts else torch.zeros((), device=parts.machine.device)

    def _substitute(self) -> MicroBatch:
        if self._spare is None:
            raise TrainingError("The first batch has no row that can be read. Look at the rows that were left out.")
        return self._spare.part(slice(0, 1), 0.0)

    def _clip(self) -> Tensor:
        """The gradient's norm; 0 where it is not computed, or where fp16's scaler judges it."""
        parts = self._parts
        zero = torch.zeros((), device=parts.machine.device)
        if parts.max_grad_norm is None:
            return zero
        norm = parts.machine.accelerator.clip_grad_norm_(self._trained, parts.max_grad_norm)
        return zero if norm is None or parts.machine.precision == "fp16" else norm.detach().float()

    def _passes(self, batches: Sequence[MicroBatch]) -> list[MicroBatch]:
        if not self._cut:
            full = [batch for batch in batches if len(batch)] if self._parts.machine.world == 1 else list(batches)
            return full or list(batches[:1])
        return [part for batch in batches for part in self._split(batch)]

    def _split(self, batch: MicroBatch) -> list[MicroBatch]:
        found = []
        for start in range(0, len(batch), self.size):
            rows = slice(start, start + self.size)
            targets = {name: tensor[rows].numpy() for name, tensor in batch.targets.items()}
            found.append(batch.part(rows, self._parts.task.weight(targets, self._parts.options)))
        return found

    def _shrink(self, tried: int, error: BaseException) -> None:
        if tried <= 1:
            raise TrainingError(
                'Memory ran out with a single input in a batch. Use gradient_checkpointing=True, method="head", '
                'optimizer="sgd", a smaller model, or shorter inputs.'
            ) from error
        if self._parts.task.joint:
            raise TrainingError(
                f"Memory ran out with {tried} inputs in a batch, which {self._parts.task.name} tells apart from each "
                f"other. Use gradient_checkpointing=True, or batch_size={tried // 2}, which is another loss."
            ) from error
        if not self._shrinks:
            raise TrainingError(
                f"Memory ran out with {tried} inputs in a batch. Give batch_size={tried // 2} with twice the "
                'gradient_accumulation, which trains the same; or batch_size="auto" in one process.'
            ) from error
        self.size, self._cut = tried // 2, True
        log.warning("Memory ran out with %d inputs in a batch; going on with %d, accumulated.", tried, self.size)


def out_of_memory(error: BaseException) -> bool:
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or should_reduce_batch_size(error)
