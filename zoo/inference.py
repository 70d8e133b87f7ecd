"""Many raw inputs through one forward function: sorted by length, batched, answered in the order given.

The one prediction loop of the project: `Model.predict`, `evaluate`, the parity check and a bundle all
run it, over torch or over ONNX Runtime. It sees NumPy alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Literal

from zoo.errors import ConfigError, DataError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.results import RowError
from zoo.tasks.base import Task

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

BatchSize = int | Literal["auto"]
OnError = Literal["raise", "return"]


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs and targets: arrays `[B, ...]` by name; examples: the B windows they were made of."""

    inputs: dict[str, Array]
    targets: dict[str, Array]
    examples: Sequence[Example]


Forward = Callable[[Batch], dict[str, Array]]
Bulk = tuple[Forward, int]  # a forward function for as many threads at a time


@dataclass(frozen=True, slots=True)
class RowOutcome:
    """One raw input with the outputs of its windows, or with the error that it gave."""

    row: int
    raw: Any
    windows: Sequence[Example] = ()
    outputs: Sequence[dict[str, Array]] = ()
    error: RowError | None = None


@dataclass(frozen=True, slots=True)
class Limits:
    """A batch has at most `rows` windows and, padded, at most `cost` tokens or samples; none is padded by more than
    `padding`."""

    rows: int
    cost: int | None = None
    padding: int | None = None


# Measured on two cores: text gains from batches only when they are sorted and little is padded: ragged texts take
# BERT-base longer in one padded batch than one by one, and no longer where none is padded by more than 8 tokens. Audio
# is quickest one by one, images gain little beyond eight.
_AUTO = {
    ("text", False): Limits(32, 2048, 8),
    ("text", True): Limits(512, 65_536),
    ("image", False): Limits(8),
    ("image", True): Limits(128),
    ("audio", False): Limits(1),
    ("audio", True): Limits(64, 64 * 16_000 * 10),
    ("tabular", False): Limits(1024),
    ("tabular", True): Limits(8192),
    ("mel", False): Limits(1),
    ("mel", True): Limits(32),
}

# Batches of a chunk from which on it pays to open what is better at many.
_MANY = 12

# A language model answers each token with its whole vocabulary: 64 million float32 are 256 MB.
_OUTPUT_NUMBERS = 64_000_000


def limits_of(
    batch_size: BatchSize, kind: str, *, accelerated: bool = False, packs: bool = False, writing: bool = False
) -> Limits:
    """What `batch_size` means for inputs of this kind. Raises ConfigError for anything but a positive int or "auto".

    packs: whether the network leaves padding out by itself, so that it costs nothing.
    writing: whether each batch is followed by many steps of a token a row, which cost the same for one row as for all.
    """
    if batch_size == "auto":
        found = _AUTO[kind, accelerated]
        return replace(found, padding=None) if writing or packs else found
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f'batch_size is {batch_size!r}; give a positive whole number or "auto".')
    return Limits(batch_size)


def _affordable(limits: Limits, width: int) -> Limits:
    """The same limits, with a cost whose outputs fit into memory."""
    cost = _OUTPUT_NUMBERS // max(width, 1)
    return limits if limits.cost is None or limits.cost <= cost else replace(limits, cost=max(cost, 1))


def make_batch(encoder: Encoder, task: Task, examples: Sequence[Example]) -> Batch:
    return Batch(task.collate(encoder, examples), task.collate_targets(examples), examples)


def batches(windows: Sequence[Example], limits: Limits) -> Iterator[list[Example]]:
    """Windows longest first, cut where one more would break the limits. Never empty, never unbounded.

    Those of one batch have the same inputs: of a model with two towers some may be images, and others texts.
    """
    kinds: dict[frozenset[str], list[Example]] = {}
    for window in windows:
        kinds.setdefault(frozenset(window.inputs), []).append(window)
    for alike in kinds.values():
        yield from _cut(alike, limits)


def _cut(windows: Sequence[Example], limits: Limits) -> Iterator[list[Example]]:
    batch: list[Example] = []
    for window in sorted(windows, key=lambda w: w.length, reverse=True):
        if batch and not _joins(window, batch, limits):
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _joins(window: Example, batch: Sequence[Example], limits: Limits) -> bool:
    # The first window of a batch is its longest, so it sets what every further row costs.
    longest = batch[0].length
    return (
        len(batch) < limits.rows
        and (limits.cost is None or (len(batch) + 1) * longest <= limits.cost)
        and (limits.padding is None or longest - window.length <= limits.padding)
    )


def run_rows(
    rows: Iterable[Any],
    *,
    prepare: Callable[[Any], list[Example]],
    encoder: Encoder,
    task: Task,
    forward: Forward,
    batch_size: BatchSize = "auto",
    accelerated: bool = False,
    packs: bool = False,
    bulk: Callable[[], Bulk] | None = None,
    on_error: OnError = "raise",
    workers: int = 2,
    writing: bool = False,
) -> Iterator[RowOutcome]:
    """Every row's outcome, in order, lazily.

    rows: any iterable, read at most two look-ahead chunks beyond what has been given back.
    prepare: a raw row as its windows; runs on threads for images and audio.
    forward: a batch as named arrays `[B, ...]`; may read `batch.targets` for a loss on the side.
    bulk: makes what many batches are better run by, if there is such; asked again for every chunk that has many.
    packs, writing: as `limits_of` has it.
    on_error: "raise" the first InputError or DataError, or "return" it as a RowError in its place.
    """
    if on_error not in ("raise", "return"):
        raise ConfigError(f'on_error is {on_error!r}; it is "raise" or "return".')
    kind = task.spec.input.kind
    limits = limits_of(batch_size, kind, accelerated=accelerated, packs=packs, writing=writing)
    light = kind in ("text", "tabular")
    return _run(
        rows, prepare, encoder, task, forward, bulk, _affordable(limits, task.width), on_error, 0 if light else workers
    )


def _run(
    rows: Iterable[Any],
    prepare: Callable[[Any], list[Example]],
    encoder: Encoder,
    task: Task,
    forward: Forward,
    bulk: Callable[[], Bulk] | None,
    limits: Limits,
    on_error: OnError,
    workers: int,
) -> Iterator[RowOutcome]:
    def encode(row: int, raw: Any) -> RowOutcome:
        try:
            return RowOutcome(row, raw, [window.at(row) for window in prepare(raw)])
        except (DataError, InputError) as error:
            return _failed(row, raw, error, encoder, on_error)

    with _threads(workers) as pool:
        for chunk in _chunks(rows, encode, pool, limits):
            yield from _forward_chunk(chunk, encoder, task, forward, bulk, limits)


def _chunks(
    given: Iterable[Any],
    encode: Callable[[int, Any], RowOutcome],
    pool: ThreadPoolExecutor | None,
    limits: Limits,
) -> Iterator[list[RowOutcome]]:
    """Encoded rows in chunks worth sorting; the next chunk is being encoded while this one is used."""
    rows = enumerate(given)
    most = min(16 * limits.rows, 1024)
    # Small at first, so that a slow source is answered soon; a list is there already.
    size = most if pool is None and isinstance(given, Sequence) else limits.rows
    if pool is None:
        while taken := [encode(*item) for item in islice(rows, size)]:
            yield taken
            size = min(2 * size, most)
        return
    pending: deque[list[Future[RowOutcome]]] = deque()
    while True:
        while len(pending) < 2:
            futures = [pool.submit(encode, *item) for item in islice(rows, size)]
            if not futures:
                break
            pending.append(futures)
            size = min(2 * size, most, 64)
        if not pending:
            return
        try:
            yield [future.result() for future in pending.popleft()]
        except BaseException:
            for futures in pending:
                for future in futures:
                    future.cancel()
            raise


def _forward_chunk(
    chunk: Sequence[RowOutcome],
    encoder: Encoder,
    task: Task,
    forward: Forward,
    bulk: Callable[[], Bulk] | None,
    limits: Limits,
) -> Iterator[RowOutcome]:
    def run(batch: list[Example]) -> list[tuple[tuple[int, int], dict[str, Array]]]:
        outputs = task.unbatch(calling(make_batch(encoder, task, batch)), batch)
        return [((window.row, window.window), output) for window, output in zip(batch, outputs, strict=True)]

    cut = list(batches([window for outcome in chunk for window in outcome.windows], limits))
    calling, callers = forward, 1
    if bulk is not None and len(cut) >= _MANY:
        calling, callers = bulk()
    with _threads(callers if callers > 1 else 0) as pool:
        answers = dict(chain.from_iterable(pool.map(run, cut) if pool else map(run, cut)))
    for outcome in chunk:
        if outcome.error is not None:
            yield outcome
            continue
        found = [answers[window.row, window.window] for window in outcome.windows]
        yield RowOutcome(outcome.row, outcome.raw, outcome.windows, found)


def _threads(count: int) -> AbstractContextManager[ThreadPoolExecutor | None]:
    """None of them for 0: a first answer, of a single input, does not wait for the import."""
    if not count:
        return nullcontext()
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(count)


def _failed(row: int, raw: Any, error: DataError, encoder: Encoder, on_error: OnError) -> RowOutcome:
    if on_error == "raise":
        where = f"row {row}: "
        raise type(error)(f"{where}{error}", row=row, column=error.column) from error
    return RowOutcome(row, raw, error=RowError(row, encoder.describe(raw), type(error).__name__, str(error)))
