"""Clients that behave, that are slow, and that leave; and what came of each of their requests."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.serving.http_client import Connection, Cut
from benchmarks.serving.questions import Question

# Of a hundred requests of clients that behave.
SHARES = {
    "text": 36, "v2 text": 12, "list of texts": 8, "entities": 10, "image": 8, "v2 binary": 8, "recording": 4,
    "stream": 4, "refused": 10,
}  # fmt: skip
LEAVING = ("leaves in the body", "leaves before the answer", "leaves in a stream")
SLOW = ("slow body, in time", "slow reader", "slow body, too late", "slow headers, too late")


@dataclass(slots=True)
class Tally:
    """asked: by kind. ids: of the answers that came. confirmed, underway: versions of the model that is exchanged."""

    asked: Counter[str] = field(default_factory=Counter)
    right: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    refused: int = 0  # connections, after SIGTERM
    unread: int = 0  # requests on a connection that ended, after SIGTERM, before a byte of an answer
    confirmed: int = 0
    underway: int = 0

    @property
    def total(self) -> int:
        return sum(self.asked.values())


class Clients:
    """port: of the server there is now. up: whether there is one. ending: whether it was told to end."""

    def __init__(self, questions: dict[str, list[Question]], *, body_timeout: float) -> None:
        self.questions = questions
        self.tally = Tally()
        self.port = 0
        self.up = asyncio.Event()
        self.ending = False
        self.leaving = asyncio.Event()  # whether clients may leave
        self.left = 0  # that are leaving now
        self.done = False
        self._late = body_timeout

    async def behave(self, seed: int) -> None:
        """One question after another, over one connection while it lasts."""
        rng = random.Random(seed)
        kinds, shares = list(SHARES), list(SHARES.values())
        connection: Connection | None = None
        while not self.done:
            [kind] = rng.choices(kinds, shares)
            connection = await self._answered(rng.choice(self.questions[kind]), connection)
        if connection is not None:
            connection.close()

    async def _answered(self, question: Question, connection: Connection | None) -> Connection | None:
        """Ask until it is answered: a server that ends may refuse a connection, and then the next one is asked."""
        self.tally.asked[question.kind] += 1
        while True:
            await self.up.wait()
            first = self.tally.confirmed
            try:
                if connection is None or connection.closing:
                    connection = await Connection.open(self.port)
                answer = await connection.ask(question.sent)
            except ConnectionRefusedError:
                if not self.ending:
                    self.tally.lost.append(f"{question.kind}: the connection was refused")
                    return None
                self.tally.refused += 1
                await asyncio.sleep(0.01)
                continue
            except (Cut, ConnectionError) as error:
                connection = None
                if self.ending and not (isinstance(error, Cut) and error.begun):
                    self.tally.unread += 1
                    continue
                self.tally.lost.append(f"{question.kind}: {error!r}")
                return None
            self._judge(question, answer, first)
            if answer.headers.get(b"connection", b"").lower() == b"close":
                connection.close()
                return None
            return connection

    def _judge(self, question: Question, answer: Any, first: int, kind: str = "") -> None:
        tally = self.tally
        tally.ids.add(answer.id)
        if question.right(answer, first, max(tally.underway, tally.confirmed)):
            tally.right[kind or question.kind] += 1
        else:
            tally.wrong.append(f"{kind or question.kind}: {answer.status} {answer.body[:300]!r}")

    async def misbehave(self, seed: int) -> None:
        """Slow ones, and ones that leave, each on a connection of its own."""
        rng = random.Random(seed)
        while not self.done:
            kind = rng.choice([*LEAVING, *SLOW])
            await self.up.wait()
            if kind in LEAVING:
                await self.leaving.wait()
            elif self.ending:
                await asyncio.sleep(0.05)
                continue
            self.left += 1
            try:
                await self._odd(kind, rng)
            except (Cut, ConnectionError, asyncio.IncompleteReadError) as error:
                self.tally.lost.append(f"{kind}: {error!r}")
            finally:
                self.left -= 1

    async def _odd(self, kind: str, rng: random.Random) -> None:
        self.tally.asked[kind] += 1
        connection = await Connection.open(self.port)
        try:
            if kind in LEAVING:
                await self._leave(kind, connection, rng)
                self.tally.right[kind] += 1
            else:
                await self._slowly(kind, connection, rng)
        finally:
            (connection.reset if rng.random() < 0.5 else connection.close)()

    async def _leave(self, kind: str, connection: Connection, rng: random.Random) -> None:
        question = rng.choice(self.questions["stream" if kind == "leaves in a stream" else "text"])
        if kind == "leaves in the body":
            connection.writer.write(question.sent[: -rng.randint(1, 10)])
            await asyncio.sleep(rng.random() * 0.1)
            return
        connection.writer.write(question.sent)
        if kind == "leaves in a stream":
            await connection.some()
        else:
            await asyncio.sleep(rng.random() * 0.01)

    async def _slowly(self, kind: str, connection: Connection, rng: random.Random) -> None:
        question = rng.choice(self.questions["text"])
        head, _, body = question.sent.partition(b"\r\n\r\n")
        first = self.tally.confirmed
        if kind == "slow reader":
            connection.writer.write(question.sent)
            await asyncio.sleep(0.5)
        elif kind == "slow body, in time":
            connection.writer.write(head + b"\r\n\r\n")
            await _drip(connection, body, self._late / 4)
        else:
            dripped = body if kind == "slow body, too late" else head
            connection.writer.write(head + b"\r\n\r\n" if dripped is body else b"")
            sending = asyncio.create_task(_drip(connection, dripped[:-1], self._late * 4))
            try:
                answer = await connection.answer()
            finally:
                sending.cancel()
            self.tally.ids.add(answer.id)
            if answer.status == 408:
                self.tally.right[kind] += 1
            else:
                self.tally.wrong.append(f"{kind}: {answer.status}")
            return
        self._judge(question, await connection.answer(), first, kind)


async def _drip(connection: Connection, data: bytes, seconds: float) -> None:
    """Byte by byte, over so many seconds."""
    for place in range(len(data)):
        if connection.writer.is_closing():
            return
        connection.writer.write(data[place : place + 1])
        await asyncio.sleep(seconds / len(data))
