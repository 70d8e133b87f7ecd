"""Texts of several requests, written together: a request joins between two tokens, and leaves when it has ended."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, final

from zoo.results import to_json
from zoo.runtime.flight import Flight, Passenger
from zoo.runtime.serve.batching import Batcher, Observe
from zoo.runtime.serve.refusals import Refusal
from zoo.tasks.generation import GenerateOptions

_LONGEST_RETRY = 60  # seconds


@dataclass(slots=True, eq=False)
class _Asked:
    """One text. tell: hears its pieces, if it is streamed, and in the end its result, or an error."""

    row: int
    raw: Any
    options: GenerateOptions
    tell: Callable[[Any], None]
    streamed: bool = False
    since: float = 0.0
    seat: Passenger | None = None
    over: bool = False


@final
class Flying:
    """A queue before a flight, which is stepped on its model's thread: other batches get their turns between tokens.

    seats: texts at once. most: that may wait. observe: called with the texts of a step, and the seconds it took.
    """

    def __init__(self, flight: Flight, batcher: Batcher, *, seats: int, most: int, observe: Observe) -> None:
        self._flight = flight
        self._batcher = batcher
        self._seats = seats
        self._most = most
        self._observe = observe
        self._queue: deque[deque[_Asked]] = deque()  # of each request its texts, in order
        self._aboard: list[_Asked] = []
        self._task: asyncio.Task[None] | None = None
        self._text_seconds = 0.0

    @property
    def waiting(self) -> int:
        return sum(map(len, self._queue))

    def predict(self, rows: Sequence[Any], options: GenerateOptions) -> asyncio.Future[list[Any]]:
        """Results as JSON types, or `RowError`s, to be awaited; given up, its texts end. Raises Refusal (429)."""
        self._check(len(rows))
        answer: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        results: list[Any] = [None] * len(rows)
        left = set(range(len(rows)))

        def told(place: int, found: Any) -> None:
            results[place] = found
            left.discard(place)
            if answer.done():
                return
            if isinstance(found, Exception):
                answer.set_exception(found)
            elif not left:
                answer.set_result(results)

        if not rows:
            answer.set_result(results)
            return answer
        asked = [_Asked(place, raw, options, functools.partial(told, place)) for place, raw in enumerate(rows)]
        answer.add_done_callback(lambda _: self.leave(asked))
        self.join(asked)
        return answer

    async def stream(self, raw: Any, options: GenerateOptions) -> Written:
        """Raises Refusal (429), and what a prompt that can't be continued raises."""
        self._check(1)
        seat = await self._batcher.on_thread(lambda: self._flight.ticket(0, raw, options, "raise"))
        return Written(self, seat, options)

    def join(self, asked: Sequence[_Asked]) -> None:
        self._queue.append(deque(asked))
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="zoo-flight")

    def leave(self, asked: Sequence[_Asked]) -> None:
        """Give up those that have not ended."""
        for one in asked:
            one.over = True
            if one.seat is not None:
                one.seat.left = True
        left = (deque(one for one in texts if not one.over) for texts in self._queue)
        self._queue = deque(texts for texts in left if texts)

    def _next(self) -> list[_Asked]:
        """Those that get the free seats: of each request in turn one, so that a long list keeps nobody from them."""
        found: list[_Asked] = []
        while self._queue and len(found) < self._seats - len(self._aboard):
            texts = self._queue.popleft()
            found.append(texts.popleft())
            if texts:
                self._queue.append(texts)
        return found

    def _check(self, rows: int) -> None:
        if self.waiting + rows > self._most:
            seconds = math.ceil(self.waiting / self._seats * self._text_seconds)
            wait = min(max(seconds, 1), _LONGEST_RETRY)
            raise Refusal(429, "Too many inputs wait for this model. Try again.", retry_after=wait)

    async def _run(self) -> None:
        try:
            while self._queue or self._aboard or self._flight.busy:
                await self._turn()
        finally:
            self._task = None

    async def _turn(self) -> None:
        """One step of the flight, with those that wait as far as there are seats."""
        joining = self._next()
        began = time.monotonic()
        for one in joining:
            one.since = began
        self._aboard += joining
        asked = list(self._aboard)
        try:
            told = await self._batcher.on_thread(functools.partial(_turn, self._flight, asked, joining))
        # Of ours, or because the thread has ended, with a server whose time to drain is over.
        except (Exception, asyncio.CancelledError) as error:
            told = [(one, RuntimeError(f"the flight ended: {error!r}")) for one in asked]
            self._flight.clear()
        now = time.monotonic()
        self._observe(len(asked), now - began)
        for one, found in told:
            if one.over:
                continue
            one.tell(found)
            if not isinstance(found, str):
                one.over = True
                self._text_seconds += 0.2 * (now - one.since - self._text_seconds)
        # Who left while the step ran may have got its seat in it.
        for one in asked:
            if one.over and one.seat is not None:
                one.seat.left = True
        self._aboard = [one for one in self._aboard if not one.over]


@final
class Written:
    """A text of one caller, on its way; it joins the others when it is first asked for."""

    def __init__(self, flying: Flying, seat: Passenger, options: GenerateOptions) -> None:
        self._flying = flying
        self._heard: asyncio.Queue[Any] = asyncio.Queue()
        self._asked = _Asked(0, None, options, self._heard.put_nowait, streamed=True, seat=seat)
        self._begun = False

    async def next(self) -> Any:
        """A piece, or in the end the result as JSON types. Raises what went wrong."""
        if not self._begun:
            self._begun = True
            self._flying.join([self._asked])
        found = await self._heard.get()
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self._flying.leave([self._asked])


def _turn(flight: Flight, asked: Sequence[_Asked], joining: Sequence[_Asked]) -> list[tuple[_Asked, Any]]:
    """What each has to hear after one step: on the model's thread."""
    told: list[tuple[_Asked, Any]] = []
    boarding = []
    for one in joining:
        found: Any
        try:
            found = one.seat or flight.ticket(one.row, one.raw, one.options)
        except Exception as error:
            found = error
        if isinstance(found, Passenger):
            one.seat = found
            boarding.append(found)
        else:
            told.append((one, found))
    flight.turn(boarding)
    for one in asked:
        seat = one.seat
        if seat is None or seat.left:
            continue
        if seat.failed is not None:
            told.append((one, seat.failed))
            continue
        if one.streamed and (piece := seat.row.piece()):
            told.append((one, piece))
        if seat.row.finished is not None:
            told.append((one, to_json(flight.result(seat))))
    return told
