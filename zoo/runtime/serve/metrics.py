"""What Prometheus reads at /metrics. Labels are names of models and routes alone: no client can make new ones."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

CONTENT_TYPE = CONTENT_TYPE_LATEST
# Where prometheus_client keeps the figures of several processes as one; it reads this when it is imported.
FOLDER = "PROMETHEUS_MULTIPROC_DIR"
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@final
class Metrics:
    """The figures of one server, whose processes count together."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._shared = FOLDER in os.environ
        self._watched: list[tuple[Gauge, Callable[[], float]]] = []
        by = ("route", "model")
        self._requests = Counter("zoo_requests", "Requests that were answered.", (*by, "status"), registry=registry)
        self._of = functools.cache(self._figures)
        self._seconds = Histogram("zoo_request_seconds", "From the headers to the answer.", by, registry=registry)
        self._rows = Histogram(
            "zoo_batch_rows", "Inputs that were answered together.", ("model",), buckets=_ROWS, registry=registry
        )
        self._batch = Histogram("zoo_batch_seconds", "Of a batch on its model's thread.", ("model",), registry=registry)
        self._waiting = Gauge(
            "zoo_queue_rows", "Inputs that wait.", ("model",), registry=registry, multiprocess_mode="livesum"
        )
        self._ready = Gauge(
            "zoo_model_ready", "1 where a model answers.", ("model",), registry=registry, multiprocess_mode="livemin"
        )
        self._reloads = Counter("zoo_reloads", "Bundles loaded again.", ("model", "outcome"), registry=registry)
        self._held = Gauge("zoo_held_bytes", "Bodies in memory.", registry=registry, multiprocess_mode="livesum")

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        counter, histogram = self._of(route, model, status)
        counter.inc()
        histogram.observe(seconds)
        self._look()

    def _figures(self, route: str, model: str, status: int) -> tuple[Counter, Histogram]:
        return self._requests.labels(route, model, str(status)), self._seconds.labels(route, model)

    def batch(self, model: str, rows: int, seconds: float) -> None:
        self._rows.labels(model).observe(rows)
        self._batch.labels(model).observe(seconds)

    def ready(self, model: str, ready: bool) -> None:
        self._ready.labels(model).set(ready)

    def reload(self, model: str, done: bool) -> None:
        self._reloads.labels(model, "done" if done else "failed").inc()

    def watch(self, model: str, waiting: Callable[[], float]) -> None:
        self._watch(self._waiting.labels(model), waiting)

    def watch_held(self, held: Callable[[], float]) -> None:
        self._watch(self._held, held)

    def _watch(self, gauge: Gauge, value: Callable[[], float]) -> None:
        if self._shared:
            self._watched.append((gauge, value))
        else:
            gauge.set_function(value)

    def _look(self) -> None:
        """Other processes can't call what is watched here, and read what was written last."""
        for gauge, value in self._watched:
            gauge.set(value())

    def text(self) -> bytes:
        self._look()
        if not self._shared:
            return generate_latest(self._registry)
        together = CollectorRegistry()
        MultiProcessCollector(together)  # type: ignore[no-untyped-call]
        return generate_latest(together)
