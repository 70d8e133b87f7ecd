"""Rows as training examples: texts all at once, for their lengths decide the batches; images and sound on demand."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import TextEncoder
from zoo.spec import AudioInput, MelInput
from zoo.tasks.base import Task
from zoo.training.data.rows import Rows
from zoo.training.documents import PAIRED, Documents

Augment = Callable[[Example, int, int], Example]  # an example, the epoch, the item
OnBad = Callable[[int, DataError], None]  # a row, and why it can't be used


class Items(ABC):
    """What an epoch goes through: windows of texts, or whole images and recordings.

    lengths: int64 `[N]`, the cost of each item (tokens, samples, or 1). rows: int64 `[N]`, the row of each.
    """

    lengths: Array
    rows: Array

    @abstractmethod
    def load(self, epoch: int, item: int) -> list[Example]:
        """The item's examples with targets. Raises DataError."""

    @abstractmethod
    def targets(self) -> Iterator[dict[str, Array]]:
        """The targets of all items, without decoding an image or a sound."""

    def __len__(self) -> int:
        return len(self.lengths)


@final
class TextItems(Items):
    """Every window of every text, encoded once.

    augment: what changes a window anew in every epoch; it finds the window's source as the task left it.
    """

    def __init__(self, rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad, augment: Augment | None = None) -> None:
        self._augment = augment
        self._examples: list[Example] = []
        for number in range(len(rows)):
            try:
                row = rows[number]
                windows = task.examples(encoder, row.input, row.target)
            except DataError as error:
                on_bad(number, error)
                continue
            # The text and its offsets are for decoding; training would only keep them in memory.
            self._examples.extend(
                replace(window, source=window.source if augment else None, row=number) for window in windows
            )
        self.lengths = np.array([example.length for example in self._examples], dtype=np.int64)
        self.rows = np.array([example.row for example in self._examples], dtype=np.int64)

    def load(self, epoch: int, item: int) -> list[Example]:
        example = self._examples[item]
        return [self._augment(example, epoch, item) if self._augment else example]

    def targets(self) -> Iterator[dict[str, Array]]:
        return (dict(example.targets) for example in self._examples)


@final
class TabularItems(Items):
    """Rows of a table, encoded once and kept as one array a name."""

    def __init__(self, rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad) -> None:
        found: list[Example] = []
        used: list[int] = []
        for number in range(len(rows)):
            try:
                row = rows[number]
                found += task.examples(encoder, row.input, row.target)
            except DataError as error:
                on_bad(number, error)
                continue
            used.append(number)
        self._inputs = encoder.collate(found) if found else {}
        self._targets = task.collate_targets(found) if found else {}
        self.rows = np.array(used, dtype=np.int64)
        self.lengths = np.ones(len(used), dtype=np.int64)

    def load(self, epoch: int, item: int) -> list[Example]:
        inputs = {name: array[item] for name, array in self._inputs.items()}
        return [Example(inputs, length=1, targets=self._target(item), row=int(self.rows[item]))]

    def targets(self) -> Iterator[dict[str, Array]]:
        return (self._target(item) for item in range(len(self)))

    def _target(self, item: int) -> dict[str, Array]:
        return {name: array[item] for name, array in self._targets.items()}


@final
class MediaItems(Items):
    """Images or recordings, decoded each time they are needed."""

    def __init__(self, rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad, augment: Augment | None = None) -> None:
        self._rows = rows
        self._encoder = encoder
        self._task = task
        self._augment = augment
        lengths = (
            _durations(rows, encoder, task, on_bad)
            if isinstance(task.spec.input, AudioInput | MelInput)
            else [1] * len(rows)
        )
        self.rows = np.array([i for i, length in enumerate(lengths) if length is not None], dtype=np.int64)
        self.lengths = np.array([length for length in lengths if length is not None], dtype=np.int64)

    def load(self, epoch: int, item: int) -> list[Example]:
        number = int(self.rows[item])
        row = self._rows[number]
        examples = [example.at(number) for example in self._task.examples(self._encoder, row.input, row.target)]
        return [self._augment(example, epoch, item) for example in examples] if self._augment else examples

    def targets(self) -> Iterator[dict[str, Array]]:
        blank = Example(inputs={}, length=1)
        for target in self._rows.select(self.rows).targets():
            yield dict(self._task.attach([blank], target)[0].targets)


@final
class PairItems(Items):
    """Pairs of sentences of documents, drawn anew in every epoch."""

    def __init__(
        self, rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad, augment: Augment | None, seed: int
    ) -> None:
        self._documents = Documents(rows, on_bad)
        self._encoder, self._task, self._augment, self._seed = encoder, task, augment, seed
        self.rows = self._documents.rows
        # An epoch's pairs differ in length; those of the first stand for all, for batches of similar rows.
        self.lengths = np.array([self._example(0, item).length for item in range(len(self.rows))], dtype=np.int64)

    def load(self, epoch: int, item: int) -> list[Example]:
        example = self._example(epoch, item)
        return [self._augment(example, epoch, item) if self._augment else example]

    def targets(self) -> Iterator[dict[str, Array]]:
        return (dict(self._example(0, item).targets) for item in range(len(self.rows)))

    def _example(self, epoch: int, item: int) -> Example:
        row = self._documents.pair(item, seed=self._seed, epoch=epoch)
        return self._task.examples(self._encoder, row.input, row.target)[0].at(int(self.rows[item]))


@final
class PackedItems(Items):
    """Plain texts one after another, an end-of-text token behind each, in windows that are full but for the last."""

    def __init__(self, rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad, augment: Augment | None) -> None:
        if not task.packs or not isinstance(encoder, TextEncoder):
            raise ConfigError(f"packing goes with plain texts of a language model; {task.name} keeps its rows apart.")
        self._augment = augment
        windows = encoder.pack(_plain(rows, task, on_bad), on_bad)
        self._examples = [
            replace(example, source=example.source if augment else None)
            for window in windows
            for example in task.attach(task.prepare(encoder, [window]), None)
        ]
        self.lengths = np.array([example.length for example in self._examples], dtype=np.int64)
        self.rows = np.array([example.row for example in self._examples], dtype=np.int64)

    def load(self, epoch: int, item: int) -> list[Example]:
        example = self._examples[item]
        return [self._augment(example, epoch, item) if self._augment else example]

    def targets(self) -> Iterator[dict[str, Array]]:
        return (dict(example.targets) for example in self._examples)


def _plain(rows: Rows, task: Task, on_bad: OnBad) -> Iterator[tuple[int, Any]]:
    for number in range(len(rows)):
        try:
            yield number, task.checked(rows[number].input)
        except DataError as error:
            on_bad(number, error)


def make_items(
    rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad, augment: Augment | None, *, seed: int = 0,
    packing: bool = False,
) -> Items:  # fmt: skip
    """All usable rows as items; `on_bad` hears of each that is not, and may raise."""
    if packing:
        return PackedItems(rows, encoder, task, on_bad, augment)
    if task.name in PAIRED:
        return PairItems(rows, encoder, task, on_bad, augment, seed)
    if task.spec.input.kind == "text":
        return TextItems(rows, encoder, task, on_bad, augment)
    if task.spec.input.kind == "tabular":
        return TabularItems(rows, encoder, task, on_bad)
    return MediaItems(rows, encoder, task, on_bad, augment)


def _durations(rows: Rows, encoder: Encoder, task: Task, on_bad: OnBad) -> list[int | None]:
    """Samples of each recording, from its header alone; None for one that can't be used.

    A task's own `check` (of speech and its transcript) runs here, before a minute is spent on training.
    """
    spec = task.spec.input
    assert isinstance(spec, AudioInput | MelInput)
    seconds: Callable[[Any], float] = getattr(encoder, "seconds")  # noqa: B009
    check: Callable[[int, Any], None] | None = getattr(task, "check", None)

    def measure(number: int) -> int | DataError:
        try:
            row = rows[number]
            samples = round(seconds(row.input) * spec.sampling_rate)
            if check is not None:
                check(samples, row.target)
        except DataError as error:
            return error
        return samples

    with ThreadPoolExecutor(8) as pool:
        found: list[int | None] = []
        for number, measured in enumerate(pool.map(measure, range(len(rows)))):
            if isinstance(measured, DataError):
                on_bad(number, measured)
                found.append(None)
            else:
                found.append(measured)
    return found


def digest(rows: Rows, items: Items, *, text: bool) -> str:
    """A hash of what is trained on: each row's place and target, and the text itself. Files are not read."""
    found = hashlib.sha256(items.lengths.tobytes())
    used = np.unique(items.rows)
    targets = rows.select(used).targets()
    for number, target in zip(used.tolist(), targets, strict=True):
        content = rows[number].input if text else None
        found.update(repr((rows.where(number), target, content)).encode("utf-8", "surrogatepass"))
    return found.hexdigest()


def located(error: DataError, rows: Rows, number: int) -> DataError:
    """The same error with the row's place in front, unless it is there already."""
    where = rows.where(number)
    message = str(error)
    return type(error)(message if where in message else f"{where}: {message}", row=number, column=error.column)
