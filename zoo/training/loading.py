"""Examples as tensors on the host, in this process or in workers, ahead of the device."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from zoo.errors import DataError
from zoo.inference import make_batch
from zoo.modalities.base import Array, Encoder
from zoo.tasks.base import LossOptions, Task
from zoo.training.encoding import Items


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """One forward pass. inputs, targets: tensors `[B, ...]`; empty when every row was bad, or none was due.

    weight: the task's, of these targets. rows: of the B windows. bad: rows that could not be read.
    """

    inputs: dict[str, Tensor]
    targets: dict[str, Tensor]
    weight: float
    rows: tuple[int, ...]
    bad: tuple[tuple[int, DataError], ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def pin_memory(self) -> MicroBatch:
        return self._map(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> MicroBatch:
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def part(self, rows: slice, weight: float) -> MicroBatch:
        cut = self._map(lambda tensor: tensor[rows])
        return MicroBatch(cut.inputs, cut.targets, weight, self.rows[rows])

    def _map(self, change: Any) -> MicroBatch:
        inputs = {name: change(tensor) for name, tensor in self.inputs.items()}
        targets = {name: change(tensor) for name, tensor in self.targets.items()}
        return MicroBatch(inputs, targets, self.weight, self.rows, self.bad)


@final
class Reading(Dataset[MicroBatch]):
    """(epoch, items) as a MicroBatch. Runs in workers, so errors of rows travel as values."""

    def __init__(self, items: Items, encoder: Encoder, task: Task, options: LossOptions) -> None:
        self._items = items
        self._encoder = encoder
        self._task = task
        self._options = options

    def __getitem__(self, key: tuple[int, Sequence[int]]) -> MicroBatch:
        epoch, wanted = key
        examples, bad = [], []
        for item in wanted:
            try:
                examples += self._items.load(epoch, int(item))
            except DataError as error:
                bad.append((int(self._items.rows[item]), error))
        if not examples:
            return MicroBatch({}, {}, 0.0, (), tuple(bad))
        batch = make_batch(self._encoder, self._task, examples)
        return MicroBatch(
            _tensors(batch.inputs),
            _tensors(batch.targets),
            self._task.weight(batch.targets, self._options),
            tuple(example.row for example in examples),
            tuple(bad),
        )


@final
class _Order(Sampler[tuple[int, Sequence[int]]]):
    """The keys of the coming epoch; set anew for each, so that workers live on."""

    def __init__(self) -> None:
        self.keys: list[tuple[int, Sequence[int]]] = []

    def __iter__(self) -> Iterator[tuple[int, Sequence[int]]]:
        return iter(self.keys)

    def __len__(self) -> int:
        return len(self.keys)


@final
class Loader:
    """Steps of MicroBatches. `epoch` may be called again and again."""

    def __init__(self, reading: Reading, *, workers: int, pin: bool) -> None:
        self._order = _Order()
        self._loader: DataLoader[MicroBatch] = DataLoader(
            reading,
            batch_size=None,
            sampler=self._order,
            num_workers=workers,
            collate_fn=_as_it_is,
            pin_memory=pin,
            worker_init_fn=_deaf,
            persistent_workers=workers > 0,
            # Its own, for it draws a seed each epoch, and the model's dropout must not depend on that.
            generator=torch.Generator(),
        )

    def epoch(self, epoch: int, plan: Sequence[Sequence[Array]]) -> Iterator[list[MicroBatch]]:
        """plan: for each step, the items of each of its forward passes."""
        self._order.keys = [(epoch, items.tolist()) for step in plan for items in step]
        batches = iter(self._loader)
        for step in plan:
            yield [next(batches) for _ in step]

    def close(self) -> None:
        """End the workers."""
        self._loader._iterator = None


def worker_count(asked: int | str, kind: str, *, accelerated: bool) -> int:
    """Texts are encoded already; a GPU waits for images and sound unless several processes decode."""
    if isinstance(asked, int):
        return 0 if kind in ("text", "tabular") else asked
    return min(8, os.cpu_count() or 1) if accelerated and kind not in ("text", "tabular") else 0


def _tensors(arrays: dict[str, Array]) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _deaf(worker: int) -> None:
    """Ctrl-C reaches a whole group of processes: the loop must get its batches to the end of the step."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _as_it_is(batch: Any) -> Any:
    return batch
