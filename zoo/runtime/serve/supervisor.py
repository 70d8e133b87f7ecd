"""Several processes that answer on one address: started, told to load bundles again, replaced when they die, ended."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, final

from prometheus_client.multiprocess import mark_process_dead

from zoo.errors import ConfigError
from zoo.runtime.serve import logs
from zoo.runtime.serve.metrics import FOLDER
from zoo.runtime.serve.settings import Settings

_LONGEST_PAUSE = 30.0  # seconds before what has died again and again is started once more
_GRACE = 5.0  # seconds beyond the time to drain


def run(bundles: Sequence[str | Path], settings: Settings, place: socket.socket) -> bool:
    """Serve with `settings.workers` processes. Returns and raises as `running.run`."""
    with tempfile.TemporaryDirectory(prefix="zoo-serve-") as figures, _environment(FOLDER, figures):
        return _Supervisor(bundles, settings, place).run()


@dataclass(eq=False, slots=True)
class _Worker:
    """number: from 1; its place, which a replacement takes."""

    number: int
    process: SpawnProcess
    pipe: Connection
    ready: bool = False


@dataclass(slots=True)
class _Reload:
    """What one worker asked for, by its own ticket. left: the numbers of those that have not answered yet."""

    asker: _Worker
    ticket: int
    left: set[int]
    reasons: list[str] = field(default_factory=list)


@final
class _Supervisor:
    def __init__(self, bundles: Sequence[str | Path], settings: Settings, place: socket.socket) -> None:
        self._given = (list(bundles), settings, place)
        self._settings = settings
        self._place = place
        self._spawn = multiprocessing.get_context("spawn")
        self._workers: dict[int, _Worker] = {}
        self._pauses: dict[int, float] = {}  # seconds before a place is filled once more
        self._due: dict[int, float] = {}  # when it is
        self._reloads: dict[int, _Reload] = {}
        self._keys = itertools.count()
        self._signals, self._caught = multiprocessing.Pipe(duplex=False)
        self._failed: Exception | None = None
        self._begun = False
        self._stopping = False
        self._clean = True

    def run(self) -> bool:
        with self._handlers():
            try:
                for number in range(1, self._settings.workers + 1):
                    self._start(number)
                while not self._stopping:
                    self._turn(min(self._due.values(), default=None))
                    self._fill()
            finally:
                self._end()
        if self._failed is not None:
            raise self._failed
        return self._clean

    def _turn(self, until: float | None) -> None:
        """Wait for something to come, and see to it."""
        sources: dict[Any, _Worker | None] = {self._signals: None}
        for one in self._workers.values():
            sources |= {one.pipe: one, one.process.sentinel: one}
        for source in wait(list(sources), None if until is None else max(0.0, until - time.monotonic())):
            of = sources[source]
            if of is None:
                self._signal(self._signals.recv())
            elif self._workers.get(of.number) is of:
                self._hear(of, alive=source is of.pipe)

    def _hear(self, one: _Worker, *, alive: bool) -> None:
        """What a worker has said; of one that has died, its last words too."""
        try:
            while one.pipe.poll():
                self._told(one, *one.pipe.recv())
        except (EOFError, OSError):
            alive = False
        if not alive:
            self._died(one)

    def _told(self, one: _Worker, kind: str, *given: Any) -> None:
        if kind == "ready":
            one.ready = True
            self._pauses.pop(one.number, None)
            if not self._begun and all(other.ready for other in self._workers.values()):
                self._begun = True
                logs.listening(self._place, given[0])
        elif kind == "failed":
            self._failed = given[0]
        elif kind == "reload":
            self._ask_all(one, *given)
        else:
            self._answered(one, *given)

    def _start(self, number: int) -> None:
        ours, theirs = self._spawn.Pipe()
        arguments = (number, *self._given, theirs)
        process = self._spawn.Process(target=_work, args=arguments, name=f"zoo-serve-{number}", daemon=True)
        process.start()
        theirs.close()
        self._workers[number] = _Worker(number, process, ours)

    def _fill(self) -> None:
        for number in [number for number, when in self._due.items() if when <= time.monotonic()]:
            del self._due[number]
            self._start(number)

    def _died(self, one: _Worker) -> None:
        one.process.join()
        one.pipe.close()
        code = one.process.exitcode
        del self._workers[one.number]
        # What it was doing is gone, and what it has counted stays.
        mark_process_dead(one.process.pid)  # type: ignore[no-untyped-call]
        for key in [key for key, reload in self._reloads.items() if one.number in reload.left]:
            self._answered(one, key, None)
        if self._stopping:
            self._clean = self._clean and (code == 0 or not one.ready)
        elif not self._begun:
            self._failed = self._failed or ConfigError(f"A worker of the server ended with {code} before it was ready.")
            self._stopping = True
        else:
            self._replace(one.number, code)

    def _replace(self, number: int, code: int | None) -> None:
        pause = self._pauses.get(number, 0.0)
        self._pauses[number] = min(max(1.0, 2 * pause), _LONGEST_PAUSE)
        self._due[number] = time.monotonic() + pause
        reason, self._failed = self._failed, None
        fields = {"worker": number, "exitcode": code, "again_in": pause}
        logs.log.error("a worker has gone; another takes its place", exc_info=reason, extra={"fields": fields})

    def _ask_all(self, asker: _Worker, ticket: int, name: str) -> None:
        key = next(self._keys)
        self._reloads[key] = _Reload(asker, ticket, set(self._workers))
        for one in self._workers.values():
            _tell(one, "reload", key, name)

    def _answered(self, one: _Worker, key: int, reason: str | None) -> None:
        reload = self._reloads[key]
        reload.left.discard(one.number)
        if reason is not None:
            reload.reasons.append(reason)
        if not reload.left:
            del self._reloads[key]
            _tell(reload.asker, "answer", reload.ticket, next(iter(reload.reasons), None))

    def _signal(self, number: int) -> None:
        if number not in (signal.SIGTERM, signal.SIGINT):
            for one in self._workers.values():
                _tell(one, "reload_all")
        elif not self._stopping:
            self._stopping = True
        elif number == signal.SIGINT:
            # Typed again by someone who does not want to wait.
            for one in self._workers.values():
                one.process.kill()

    @contextlib.contextmanager
    def _handlers(self) -> Iterator[None]:
        numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)]
        before = {number: signal.signal(number, lambda caught, _: self._caught.send(caught)) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _end(self) -> None:
        """Tell all to finish what they have, and wait for them; one that is not ready has nothing."""
        self._stopping = True
        for one in self._workers.values():
            if one.ready:
                _tell(one, "stop")
            else:
                one.process.kill()
        end = time.monotonic() + self._settings.limits.drain_timeout + _GRACE
        while self._workers and time.monotonic() < end:
            self._turn(end)
        for one in list(self._workers.values()):
            one.process.kill()
            self._died(one)


def _work(*given: Any) -> None:
    # Here, so that the supervisor itself needs none of what answers.
    from zoo.runtime.serve import worker

    worker.main(*given)


def _tell(one: _Worker, *order: Any) -> None:
    with contextlib.suppress(OSError):  # it has died, which is seen to
        one.pipe.send(order)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """For processes that are started meanwhile."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
