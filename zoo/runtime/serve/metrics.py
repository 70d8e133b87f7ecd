"""What Prometheus reads at /metrics. Labels are names of models and routes alone: no client can make new ones."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import final

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

CONTENT_TYPE = CONTENT_TYPE_LATEST
_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)


@final
class Metrics:
    """The figures of one server."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        by = ("route", "model")
        self._requests = Counter("zoo_requests", "Requests that were answered.", (*by, "status"), registry=registry)
        self._of = functools.cache(self._figures)
        self._seconds = Histogram("zoo_request_seconds", "From the headers to the answer.", by, registry=registry)
        self._rows = Histogram(
            "zoo_batch_rows", "Inputs that were answered together.", ("model",), buckets=_ROWS, registry=registry
        )
        self._batch = Histogram("zoo_batch_seconds", "Of a batch on its model's thread.", ("model",), registry=registry)
        self._waiting = Gauge("zoo_queue_rows", "Inputs that wait.", ("model",), registry=registry)
        self._ready = Gauge("zoo_model_ready", "1 where a model answers.", ("model",), registry=registry)
        self._reloads = Counter("zoo_reloads", "Bundles loaded again.", ("model", "outcome"), registry=registry)
        self._held = Gauge("zoo_held_bytes", "Bodies in memory.", registry=registry)

    def request(self, route: str, model: str, status: int, seconds: float) -> None:
        counter, histogram = self._of(route, model, status)
        counter.inc()
        histogram.observe(seconds)

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
        self._waiting.labels(model).set_function(waiting)

    def watch_held(self, held: Callable[[], float]) -> None:
        self._held.set_function(held)

    def text(self) -> bytes:
        return generate_latest(self._registry)
