"""Dynamic batching: what several requests ask of one model is answered together, off the event loop."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, final

from zoo.runtime.serve.refusals import Refusal

_LONGEST_RETRY = 60  # seconds
# (key, rows) to one answer a row. Runs on the model's own thread.
Work = Callable[[Any, list[Any]], list[Any]]
# Called with the rows of a batch, and the seconds it took.
Observe = Callable[[int, float], None]


@dataclass(slots=True, eq=False)
class _Job:
    """Rows of one request. Only jobs with the same key go into one batch. waits: whether it stands in the queue."""

    key: Hashable
    rows: Sequence[Any]
    since: float
    answer: asyncio.Future[list[Any]]
    waits: bool = True


@final
class Batcher:
    """A queue before one thread. The first job waits `delay` seconds at most for others, until there are `size` rows.

    While a batch runs the next one gathers, so under load nothing waits for the delay. A request's rows stay
    together. most: rows that may wait.
    """

    def __init__(self, work: Work, *, size: int, delay: float, most: int, observe: Observe, name: str) -> None:
        self._work = work
        self._size = size
        self._delay = delay
        self._most = most
        self._observe = observe
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"zoo-{name}")
        self._jobs: deque[_Job] = deque()
        self._arrived = asyncio.Event()
        self._row_seconds = 0.0
        self._closing = False
        self._guests = 0
        self._loop = asyncio.create_task(self._run(), name=f"zoo-batcher-{name}")
        self.waiting = 0
        self.running = False

    @contextmanager
    def guest(self) -> Iterator[None]:
        """While it runs, the model stays: `close` waits for it."""
        self._guests += 1
        try:
            yield
        finally:
            self._guests -= 1
            self._arrived.set()

    def submit(self, key: Hashable, rows: Sequence[Any]) -> asyncio.Future[list[Any]]:
        """One answer a row, to be awaited; rows of one that is given up leave the queue. Raises Refusal (429) where too
        many wait."""
        if self.waiting + len(rows) > self._most:
            raise Refusal(429, "Too many inputs wait for this model. Try again.", retry_after=self.retry_after())
        job = _Job(key, rows, time.monotonic(), asyncio.get_running_loop().create_future())
        job.answer.add_done_callback(functools.partial(self._left, job))
        self._jobs.append(job)
        self.waiting += len(rows)
        self._arrived.set()
        return job.answer

    def _left(self, job: _Job, _: asyncio.Future[list[Any]]) -> None:
        if job.waits:
            self._take([job])

    def retry_after(self) -> int:
        """Seconds until what waits now will be answered, by how long rows took lately."""
        return min(max(math.ceil(self.waiting * self._row_seconds), 1), _LONGEST_RETRY)

    async def on_thread(self, call: Callable[[], Any]) -> Any:
        """Something else on the model's thread, between batches: its warm-up, the next token of a stream."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def close(self, seconds: float | None) -> bool:
        """Answer what waits and what guests ask, then end. False where that took longer, and the thread may run on."""
        self._closing = True
        self._arrived.set()
        done, _ = await asyncio.wait({self._loop}, timeout=seconds)
        self._loop.cancel()
        for job in list(self._jobs):
            job.answer.cancel()
        self._thread.shutdown(wait=bool(done), cancel_futures=True)
        return bool(done)

    async def _run(self) -> None:
        while True:
            while not self._jobs:
                if self._closing and not self._guests:
                    return
                self._arrived.clear()
                await self._arrived.wait()
            await self._gather()
            if batch := self._next():
                await self._answer(batch)

    async def _gather(self) -> None:
        """Wait until the oldest job's time is up, or its batch is full."""
        while self._jobs and not self._closing:
            oldest = self._jobs[0]
            left = oldest.since + self._delay - time.monotonic()
            if left <= 0 or sum(len(job.rows) for job in self._jobs if job.key == oldest.key) >= self._size:
                return
            self._arrived.clear()
            try:
                async with asyncio.timeout(left):
                    await self._arrived.wait()
            except TimeoutError:
                return

    def _next(self) -> list[_Job]:
        """The oldest job and those behind it of the same key, in order, up to the size of a batch."""
        batch: list[_Job] = []
        rows = 0
        for job in self._jobs:
            if job.key != self._jobs[0].key:
                continue
            if batch and rows + len(job.rows) > self._size:
                break
            batch.append(job)
            rows += len(job.rows)
        self._take(batch)
        return batch

    def _take(self, batch: list[_Job]) -> None:
        for job in batch:
            self._jobs.remove(job)
            job.waits = False
            self.waiting -= len(job.rows)

    async def _answer(self, batch: list[_Job]) -> None:
        rows = [row for job in batch for row in job.rows]
        began = time.monotonic()
        self.running = True
        try:
            answers = await self.on_thread(lambda: self._work(batch[0].key, rows))
        except Exception as error:
            # One request's fault must not be another's: each is tried alone.
            if len(batch) == 1:
                _settle(batch[0], error)
                return
            for job in batch:
                if not job.answer.done():
                    await self._answer([job])
            return
        finally:
            self.running = False
        took = time.monotonic() - began
        self._row_seconds += 0.2 * (took / max(len(rows), 1) - self._row_seconds)
        self._observe(len(rows), took)
        for job in batch:
            part, answers = answers[: len(job.rows)], answers[len(job.rows) :]
            _settle(job, part)


def _settle(job: _Job, answer: list[Any] | Exception) -> None:
    if job.answer.done():
        return
    if isinstance(answer, Exception):
        job.answer.set_exception(answer)
    else:
        job.answer.set_result(answer)
