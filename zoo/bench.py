"""How long predictors take for a batch: percentiles and throughput, side by side. Preprocessing is not in it."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import cycle, islice
from typing import Any

import numpy as np

from zoo.errors import ConfigError
from zoo.inference import Batch, make_batch
from zoo.predictor import Predictor

_WARM = 3
_FEWEST = 10  # runs, however slow they are


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds that one batch takes, and rows a second at the median.

    first: of the first batch of this size, which is not among the others: what compiles does it there.
    """

    name: str
    batch_size: int
    runs: int
    first: float
    p50: float
    p95: float
    p99: float
    throughput: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Bench:
    """timings: by batch size, then in the order of the predictors. left_out: why, by name, of what may fail and did."""

    timings: tuple[Timing, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [f"{name} is left out: {reason}" for name, reason in self.left_out.items()]
        return "\n\n".join([table(self.timings), *lines])

    def to_dict(self) -> dict[str, Any]:
        return {"timings": [timing.to_dict() for timing in self.timings], "left_out": dict(self.left_out)}


def versions() -> dict[str, str]:
    """Of what a time depends on, as far as it is installed."""
    return {name: found for name in ("onnxruntime", "onnxruntime-gpu", "torch") if (found := _version(name))}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def bench(
    predictors: Mapping[str, Predictor],
    *,
    inputs: Sequence[Any] | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    seconds: float = 5.0,
    may_fail: Collection[str] = (),
    clock: Callable[[], float] = time.perf_counter,
) -> Bench:
    """Time the networks of predictors, in turn on the same batches, so that a busy machine is busy for all of them.

    predictors: by the name that they are shown by. inputs: raw ones, as predict() takes them; built-in ones when None.
    seconds: for each batch size and predictor, but at least ten runs.
    may_fail: names of predictors whose error leaves them out, as that of a compiler does; any other's is raised.
    """
    if not predictors or not batch_sizes or min(batch_sizes) < 1:
        raise ConfigError(f"There is nothing to time: batch sizes are {list(batch_sizes)}; give whole numbers from 1.")
    found: list[Timing] = []
    left_out: dict[str, str] = {}
    for size in batch_sizes:
        batches = {name: _batch(p, inputs, size) for name, p in predictors.items() if name not in left_out}
        firsts, failed = _warm_up(predictors, batches, may_fail, clock)
        left_out |= failed
        spent: dict[str, list[float]] = {name: [] for name in firsts}
        while any(len(times) < _FEWEST or sum(times) < seconds for times in spent.values()):
            for name, times in spent.items():
                times.append(_spent(predictors[name], batches[name], clock))
        found += [summary(name, size, times, firsts[name]) for name, times in spent.items()]
    return Bench(tuple(timing for timing in found if timing.name not in left_out), left_out)


def _warm_up(
    predictors: Mapping[str, Predictor],
    batches: Mapping[str, Batch],
    may_fail: Collection[str],
    clock: Callable[[], float],
) -> tuple[dict[str, float], dict[str, str]]:
    """Seconds of the first run by name, and the reasons of those that failed."""
    firsts, failed = {}, {}
    for name, batch in batches.items():
        try:
            firsts[name], *_ = [_spent(predictors[name], batch, clock) for _ in range(_WARM)]
        except Exception as error:
            if name not in may_fail:
                raise
            failed[name] = f"{type(error).__name__}: {_first_line(error)}"
    return firsts, failed


def _spent(predictor: Predictor, batch: Batch, clock: Callable[[], float]) -> float:
    start = clock()
    predictor.forward(batch)
    return clock() - start


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")


def summary(name: str, batch_size: int, times: Sequence[float], first: float) -> Timing:
    """times: seconds a batch. first: of the one before them."""
    p50, p95, p99 = (float(np.percentile(times, share)) for share in (50, 95, 99))
    rows = batch_size / max(p50, 1e-12)
    return Timing(name, batch_size, len(times), 1e3 * first, 1e3 * p50, 1e3 * p95, 1e3 * p99, rows)


def table(timings: Sequence[Timing]) -> str:
    """For a terminal of 80 columns."""
    width = max(4, *(len(timing.name) for timing in timings)) if timings else 4
    lines = [f"{'name':<{width}}  batch   p50 ms   p95 ms   p99 ms    rows/s   runs  first ms"]
    for timing in timings:
        figures = f"{timing.p50:>8.2f} {timing.p95:>8.2f} {timing.p99:>8.2f} {timing.throughput:>9.1f}"
        lines.append(f"{timing.name:<{width}}  {timing.batch_size:>5} {figures} {timing.runs:>6} {timing.first:>9.1f}")
    return "\n".join(lines)


def _batch(predictor: Predictor, inputs: Sequence[Any] | None, size: int) -> Batch:
    """So many windows, the inputs again from the start where there are fewer."""
    task = predictor.task
    options = task.parse_options(task.sample_options)
    raws = task.samples() if inputs is None else list(inputs)
    if not raws:
        raise ConfigError("There are no inputs to time on; give some, or none at all for the built-in ones.")
    windows = [task.probe(predictor.encoder, raw, options)[0] for raw in raws[:size]]
    return make_batch(predictor.encoder, task, list(islice(cycle(windows), size)))
