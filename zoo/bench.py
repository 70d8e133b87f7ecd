"""How long predictors take for a batch: percentiles and throughput, side by side. Preprocessing is not in it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
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
    """Milliseconds that one batch takes, and rows a second at the median."""

    name: str
    batch_size: int
    runs: int
    p50: float
    p95: float
    p99: float
    throughput: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def bench(
    predictors: Mapping[str, Predictor],
    *,
    inputs: Sequence[Any] | None = None,
    batch_sizes: Sequence[int] = (1, 8, 32),
    seconds: float = 5.0,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Timing]:
    """Time the networks of predictors, in turn on the same batches, so that a busy machine is busy for all of them.

    predictors: by the name that they are shown by. inputs: raw ones, as predict() takes them; built-in ones when None.
    seconds: for each batch size and predictor, but at least ten runs.
    """
    if not predictors or not batch_sizes or min(batch_sizes) < 1:
        raise ConfigError(f"There is nothing to time: batch sizes are {list(batch_sizes)}; give whole numbers from 1.")
    found: list[Timing] = []
    for size in batch_sizes:
        batches = {name: _batch(predictor, inputs, size) for name, predictor in predictors.items()}
        for name, predictor in predictors.items():
            for _ in range(_WARM):
                predictor.forward(batches[name])
        spent: dict[str, list[float]] = {name: [] for name in predictors}
        while any(len(times) < _FEWEST or sum(times) < seconds for times in spent.values()):
            for name, predictor in predictors.items():
                start = clock()
                predictor.forward(batches[name])
                spent[name].append(clock() - start)
        found += [summary(name, size, times) for name, times in spent.items()]
    return found


def summary(name: str, batch_size: int, times: Sequence[float]) -> Timing:
    """times: seconds a batch."""
    p50, p95, p99 = (float(np.percentile(times, share)) for share in (50, 95, 99))
    return Timing(name, batch_size, len(times), 1e3 * p50, 1e3 * p95, 1e3 * p99, batch_size / max(p50, 1e-12))


def table(timings: Sequence[Timing]) -> str:
    """For a terminal of 80 columns."""
    width = max(4, *(len(timing.name) for timing in timings))
    lines = [f"{'name':<{width}}  batch    p50 ms    p95 ms    p99 ms     rows/s   runs"]
    for timing in timings:
        figures = (
            f"{timing.p50:>9.2f} {timing.p95:>9.2f} {timing.p99:>9.2f} {timing.throughput:>10.1f} {timing.runs:>6}"
        )
        lines.append(f"{timing.name:<{width}}  {timing.batch_size:>5} {figures}")
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
