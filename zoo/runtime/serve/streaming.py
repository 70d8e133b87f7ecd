"""`POST /predict/{name}/stream`: a text as it is generated, by server-sent events (WHATWG HTML, section 9.2)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any, final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from zoo.runtime.serve.bodies import Budget, body_of
from zoo.runtime.serve.flying import Written
from zoo.runtime.serve.plain import question_of
from zoo.runtime.serve.refusals import BUSY, Refusal, explained
from zoo.runtime.serve.settings import Limits
from zoo.runtime.serve.shelf import Pieces, Shelf


@final
class Streams:
    """All that are being generated. Each holds a cache of keys and values, so they are counted."""

    def __init__(self, shelf: Shelf, limits: Limits, budget: Budget) -> None:
        self._shelf = shelf
        self._limits = limits
        self._budget = budget
        self.running = 0

    async def answer(self, request: Request) -> Response:
        """Events of `{"text": piece}`, and at the end one named `end` with `{"result": ...}`, or `error`."""
        name = request.path_params["name"]
        with ExitStack() as stack:
            async with body_of(request, self._limits, self._budget) as body:
                loaded = stack.enter_context(self._shelf.use(name))
                request.state.model = name
                question = await question_of(request, body, loaded.reader, self._limits)
            if question.several or isinstance(question.rows[0], list):
                raise Refusal(400, "A stream is of one input.")
            if self.running >= self._limits.max_streams:
                raise Refusal(429, "As many texts are generated as the server can. Try again.", retry_after=BUSY)
            self.running += 1
            stack.callback(self._ended)
            written = await loaded.write(question.rows[0], question.options)
            stack.callback(written.close)
            events = self._events(written, request.state.id)
            return _Events(events, stack.pop_all())

    def _ended(self) -> None:
        self.running -= 1

    async def _events(self, written: Written | Pieces, request_id: str) -> AsyncIterator[bytes]:
        try:
            while True:
                async with asyncio.timeout(self._limits.timeout):
                    piece = await written.next()
                if not isinstance(piece, str):
                    yield _event({"result": piece}, name="end")
                    return
                yield _event({"text": piece})
        except TimeoutError:
            yield _event({"error": f"There was no token within {self._limits.timeout:g} s."}, name="error")
        except Exception as error:
            yield _event({"error": explained(error, request_id).message}, name="error")


class _Events(StreamingResponse):
    """Events that hold a place until they are over, begun or not."""

    def __init__(self, events: AsyncIterator[bytes], place: ExitStack) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})
        self._place = place

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._place:
            await super().__call__(scope, receive, send)


def _event(content: Any, *, name: str = "") -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(content)}\n\n".encode()
