"""The bundles that a server holds: opened, warmed up, asked in batches, and exchanged for newer ones while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, final

import numpy as np

from zoo.bundle import TensorSpec
from zoo.errors import BundleError, ConfigError, ZooError
from zoo.results import RowError, to_json
from zoo.runtime.model import BundleModel
from zoo.runtime.opening import load as open_bundle
from zoo.runtime.raw import NAME
from zoo.runtime.serve import memory
from zoo.runtime.serve.batching import Batcher
from zoo.runtime.serve.flying import Flying, Written
from zoo.runtime.serve.inputs import Reader, option_names
from zoo.runtime.serve.metrics import Metrics
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import Settings

_log = logging.getLogger("zoo.serve")


@dataclass(frozen=True, slots=True)
class _RawKey:
    """Of raw inputs that may be answered together: their options, as JSON."""

    options: str


@dataclass(frozen=True, slots=True)
class _TensorKey:
    """Of tensors that may be answered together: their names, and the shapes of a row."""

    shapes: tuple[tuple[str, tuple[int, ...]], ...]


@final
class Pieces:
    """A text of one caller, a token at a time on the model's thread: others get their turns between."""

    def __init__(self, batcher: Batcher, pieces: Generator[str, None, Any]) -> None:
        self._batcher = batcher
        self._pieces = pieces

    async def next(self) -> Any:
        """A piece, or in the end the result as JSON types."""
        return await self._batcher.on_thread(lambda: _next(self._pieces))

    def close(self) -> None:
        """Nothing is written that nobody asks for."""


@final
class Loaded:
    """One opened bundle with its queue."""

    def __init__(self, name: str, model: BundleModel, settings: Settings, metrics: Metrics) -> None:
        limits = settings.limits
        self.name = name
        self.model = model
        self.reader = Reader(model, limits)
        observe = functools.partial(metrics.batch, name)
        # Not a method of this object: an old model would stay in memory, in a circle, until Python looks for circles.
        self.batcher = Batcher(
            functools.partial(_work, model),
            size=limits.batch_rows,
            delay=limits.batch_delay_ms / 1000,
            most=limits.max_queue,
            observe=observe,
            name=name,
        )
        flight = model.flight()
        self._flying = flight and Flying(
            flight, self.batcher, seats=limits.batch_rows, most=limits.max_queue, observe=observe
        )

    @property
    def graph(self) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]] | None:
        """Inputs and outputs of a bundle with one graph, whose tensors a client may give; None with several graphs."""
        card = self.model.card
        return (card.inputs, card.outputs) if card.graphs is None else None

    def predict(self, rows: Sequence[Any], options: dict[str, Any], key: str) -> asyncio.Future[list[Any]]:
        """Results as JSON types, or `RowError`s. key: the options as one text."""
        if self._flying is not None:
            return self._flying.predict(rows, self.model.task.parse_options(options))
        return self.batcher.submit(_RawKey(key), [(row, options) for row in rows])

    async def write(self, raw: Any, options: dict[str, Any]) -> Written | Pieces:
        """A text that is streamed. Raises what a raw input that can't be continued raises."""
        if self._flying is not None:
            return await self._flying.stream(raw, self.model.task.parse_options(options))
        pieces = await self.batcher.on_thread(lambda: self.model.stream(raw, **options))
        return Pieces(self.batcher, pieces)

    @property
    def waiting(self) -> int:
        """Inputs that wait."""
        return self.batcher.waiting + (0 if self._flying is None else self._flying.waiting)

    def run(self, tensors: dict[str, Any]) -> asyncio.Future[list[dict[str, Any]]]:
        """The graph's outputs, a row each, for its inputs `[B, ...]`."""
        rows = len(next(iter(tensors.values())))
        key = _TensorKey(tuple((name, array.shape[1:]) for name, array in sorted(tensors.items())))
        return self.batcher.submit(key, [{k: array[i] for k, array in tensors.items()} for i in range(rows)])

    async def warm_up(self) -> None:
        await self.batcher.on_thread(self._warm_up)

    def _warm_up(self) -> None:
        task = self.model.task
        options = dict(task.sample_options)
        if "max_new_tokens" in {field.name for field in fields(task.options)}:
            options["max_new_tokens"] = 2
        # An error that a built-in sample gives is the sample's.
        list(self.model.predict_iter(task.samples()[:1], on_error="return", **options))


def _next(pieces: Generator[str, None, Any]) -> Any:
    # A StopIteration can't be set on a future.
    try:
        return next(pieces)
    except StopIteration as end:
        return to_json(end.value)


def _work(model: BundleModel, key: Any, rows: list[Any]) -> list[Any]:
    """What a batch is answered with, on the model's thread."""
    if isinstance(key, _RawKey):
        raws, options = [raw for raw, _ in rows], rows[0][1]
        results = model.predict_iter(raws, on_error="return", **options)
        return [result if isinstance(result, RowError) else to_json(result) for result in results]
    inputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    outputs = model.session.run(inputs)
    return [{name: array[i] for name, array in outputs.items()} for i in range(len(rows))]


@final
class Served:
    """A name in the routes: its folder, and what of it is open now."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.loaded: Loaded | None = None
        self.ready = False
        self.lock = asyncio.Lock()


@final
class Shelf:
    """All models of a server. `open` before it listens, `start` and `close` within its event loop.

    changed: called when all are warm, and when one that was exchanged has gone; by itself it does nothing.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self.changed: Callable[[], None] = lambda: None
        self._settings = settings
        self._metrics = metrics
        self._opened: dict[str, BundleModel] = {}
        self._old: set[asyncio.Task[bool]] = set()
        self.models: dict[str, Served] = {}

    def open(self, folders: Sequence[str | Path]) -> None:
        """Read and verify every bundle. Raises BundleError, or ConfigError for names that collide."""
        if not folders:
            raise ConfigError("Nothing to serve: give at least one bundle, as `zoo export` writes it.")
        for name, folder in map(named, folders):
            if name in self.models:
                raise ConfigError(f"Two bundles would be named {name!r}: {self.models[name].folder} and {folder}.")
            self._opened[name] = self._open(folder)
            self.models[name] = Served(name, folder)

    async def start(self) -> None:
        """Warm every model up that is not; each is ready when that is done. BundleError for one that can't be."""
        for name, served in self.models.items():
            if served.loaded is not None:
                continue
            loaded = Loaded(name, self._opened.pop(name), self._settings, self._metrics)
            served.loaded = loaded
            try:
                await loaded.warm_up()
            except Exception as error:
                raise BundleError(f"{served.folder} was opened and can't answer: {error}") from error
            served.ready = True
            self._metrics.ready(name, True)
            _log.info("model is ready", extra={"fields": {"model": name, "task": loaded.model.card.task}})
        self.changed()

    async def close(self, seconds: float) -> bool:
        """Answer what waits. False where a model was still busy after so many seconds."""
        closing = [served.loaded.batcher.close(seconds) for served in self.models.values() if served.loaded]
        done = await asyncio.gather(*closing, *self._old)
        return all(done)

    @contextlib.contextmanager
    def use(self, name: str) -> Iterator[Loaded]:
        """`get`, and the model stays while the block runs, whatever is loaded meanwhile."""
        loaded = self.get(name)
        with loaded.batcher.guest():
            yield loaded

    def get(self, name: str) -> Loaded:
        """Raises Refusal: 404 for a name that is not served, 503 for a model that isn't ready."""
        served = self.served(name)
        if not served.ready or served.loaded is None:
            raise Refusal(503, f"The model {name!r} is not ready yet.", retry_after=2)
        return served.loaded

    def served(self, name: str) -> Served:
        if name not in self.models:
            raise Refusal(404, f"There is no model of that name. The models are: {', '.join(self.models)}.")
        return self.models[name]

    def options(self) -> dict[str, list[str]]:
        """The options that each model takes; none of one that isn't open yet."""
        return {n: option_names(served.loaded.model) if served.loaded else [] for n, served in self.models.items()}

    @property
    def ready(self) -> bool:
        return all(served.ready for served in self.models.values())

    async def reload(self, name: str) -> None:
        """Open the bundle's folder again and answer from it; what the old one was asked, it still answers.

        Raises Refusal (409), and goes on with the old one, where the new one can't be opened.
        """
        served = self.served(name)
        async with served.lock:
            try:
                model = await asyncio.to_thread(self._open, served.folder)
                fresh = Loaded(name, model, self._settings, self._metrics)
                await fresh.warm_up()
            except Exception as error:
                _log.error("reload failed; the old model goes on", exc_info=error, extra={"fields": {"model": name}})
                self._metrics.reload(name, False)
                known = isinstance(error, ZooError)
                reason = "its folder holds no bundle that verifies and runs" if known else "of an internal error"
                raise Refusal(409, f"{name!r} was not loaded again, because {reason}; the old one goes on.") from error
            old, served.loaded, served.ready = served.loaded, fresh, True
        self._metrics.reload(name, True)
        _log.info("model was loaded again", extra={"fields": {"model": name}})
        if old is not None:
            task = asyncio.create_task(self._put_away(old))
            self._old.add(task)
            task.add_done_callback(self._old.discard)

    async def _put_away(self, old: Loaded) -> bool:
        done = await old.batcher.close(None)
        del old
        self.changed()
        await asyncio.to_thread(memory.trim)
        return done

    async def reload_all(self) -> None:
        for name in self.models:
            with contextlib.suppress(Refusal):
                await self.reload(name)

    def _open(self, folder: Path) -> BundleModel:
        # Threads that spin take from the event loop, and from other models, half of what there is.
        settings = self._settings
        return open_bundle(folder, device=settings.device, threads=settings.threads, spin=False, packed=True)


def named(given: str | Path) -> tuple[str, Path]:
    """A name in the routes and a folder: `flowers=/mnt/models`, or a folder alone, which has its own name."""
    name, sign, folder = str(given).partition("=")
    if sign and folder and NAME.fullmatch(name) and not Path(given).exists():
        return name, Path(folder)
    return name_of(Path(given)), Path(given)


def name_of(folder: Path) -> str:
    """A bundle's name in the routes: its folder's, without `.bundle`. Raises ConfigError for one that fits no route."""
    name = folder.resolve().name.removesuffix(".bundle")
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{folder} gives the name {name!r}, which fits no route: use letters, digits, '.', '_' and '-', up to 100."
        )
    return name
