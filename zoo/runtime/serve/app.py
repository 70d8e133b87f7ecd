"""The server as an ASGI application: its routes over its bundles."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import Receive, Scope, Send

from zoo.runtime.serve import openapi, page, plain, protocol
from zoo.runtime.serve.bodies import Budget, body_of
from zoo.runtime.serve.gate import Gate
from zoo.runtime.serve.inputs import json_of
from zoo.runtime.serve.metrics import CONTENT_TYPE, Metrics
from zoo.runtime.serve.refusals import Refusal, explained, reply
from zoo.runtime.serve.settings import Settings, check
from zoo.runtime.serve.shelf import Served, Shelf
from zoo.runtime.serve.streaming import Streams

Endpoint = Callable[[Request], Awaitable[Response]]
_log = logging.getLogger("zoo.serve")


@final
class App:
    """ASGI. The bundles are read and verified when it is made, and warmed up when it starts.

    draining: answers no to readiness, and finishes what is running. reload: loads a model again, by its name. failed:
    why a model could not be warmed up; `end` is called then. clean: whether nothing was left running at the end.
    Raises BundleError and ConfigError.
    """

    def __init__(self, bundles: Sequence[str | Path], settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        check(self.settings)
        limits = self.settings.limits
        self.metrics = Metrics()
        self.budget = Budget(limits.held_bytes)
        self.shelf = Shelf(self.settings, self.metrics)
        self.shelf.open(bundles)
        self._streams = Streams(self.shelf, limits, self.budget)
        self.draining: Callable[[], bool] = lambda: False
        self.reload: Callable[[str], Awaitable[None]] = self.shelf.reload
        self.failed: Exception | None = None
        self.end: Callable[[], None] = lambda: None
        self.clean = True
        self.metrics.watch_held(lambda: self.budget.held)
        for name, served in self.shelf.models.items():
            self.metrics.watch(name, functools.partial(_waiting, served))
        # Without Starlette's own layers: errors are answered in `_named`, and by the gate.
        router = Router(self._routes(), default=_unknown, lifespan=self._lifespan)
        self._gate = Gate(router, self.settings, self.metrics)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._gate(scope, receive, send)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: object) -> AsyncIterator[None]:
        starting = asyncio.create_task(self._start())
        try:
            yield
        finally:
            starting.cancel()
            self.clean = await self.shelf.close(self.settings.limits.drain_timeout)

    async def _start(self) -> None:
        try:
            await self.shelf.start()
        except Exception as error:
            _log.error("a model can't answer; the server ends", exc_info=error)
            self.failed = error
            self.end()

    def _routes(self) -> list[Route]:
        model = "/v2/models/{name}"
        pairs: list[tuple[str, str, Endpoint]] = [
            # What is asked most comes first: routes are tried in turn.
            ("POST", "/predict/{name}", self._predict),
            *(("POST", f"{model}{version}/infer", self._infer) for version in ("", "/versions/{version}")),
            ("POST", "/predict/{name}/stream", self._streams.answer),
            ("GET", "/", self._page),
            ("GET", "/openapi.json", self._document),
            ("GET", "/v2", self._server),
            ("GET", "/v2/health/live", self._live),
            ("GET", "/v2/health/ready", self._ready),
            ("POST", "/v2/repository/index", self._index),
            ("POST", "/v2/repository/models/{name}/load", self._load),
            *(("GET", f"{model}{version}", self._model) for version in ("", "/versions/{version}")),
            *(("GET", f"{model}{version}/ready", self._model_ready) for version in ("", "/versions/{version}")),
            ("GET", "/metrics", self._metrics),
        ]
        self.routes = [(method, path) for method, path, _ in pairs]
        return [_Methods(path, _named(path, endpoint), methods=[method]) for method, path, endpoint in pairs]

    async def _page(self, _: Request) -> Response:
        return page.response()

    async def _document(self, _: Request) -> Response:
        settings = self.settings
        token = settings.token is not None
        return reply(openapi.document(self.routes, self.shelf.options(), settings.limits, token=token))

    async def _server(self, _: Request) -> Response:
        return reply(protocol.server_metadata())

    async def _live(self, _: Request) -> Response:
        return reply({"live": True})

    async def _ready(self, _: Request) -> Response:
        ready = self.shelf.ready and not self.draining()
        return reply({"ready": ready}, 200 if ready else 503)

    async def _model(self, request: Request) -> Response:
        protocol.check_version(request)
        return reply(protocol.model_metadata(self.shelf.get(request.path_params["name"])))

    async def _model_ready(self, request: Request) -> Response:
        protocol.check_version(request)
        ready = self.shelf.served(request.path_params["name"]).ready and not self.draining()
        return reply({"ready": ready}, 200 if ready else 503)

    async def _infer(self, request: Request) -> Response:
        return await protocol.infer(request, self.shelf, self.settings.limits, self.budget)

    async def _predict(self, request: Request) -> Response:
        return await plain.predict(request, self.shelf, self.settings.limits, self.budget)

    async def _index(self, _: Request) -> Response:
        states = [(name, "READY" if served.ready else "LOADING") for name, served in self.shelf.models.items()]
        return reply([{"name": n, "version": protocol.VERSION, "state": state, "reason": ""} for n, state in states])

    async def _load(self, request: Request) -> Response:
        async with body_of(request, self.settings.limits, self.budget) as body:
            given: Any = json_of(body) if body.strip() else {}
        if not isinstance(given, dict) or given.get("parameters"):
            raise Refusal(400, "A model is loaded again from the folder it came from, and takes no parameters.")
        await self.reload(request.path_params["name"])
        return reply({})

    async def _metrics(self, _: Request) -> Response:
        return Response(self.metrics.text(), media_type=CONTENT_TYPE)


def _named(path: str, endpoint: Endpoint) -> Endpoint:
    """The endpoint, whose errors are answers, and whose route the log has: the pattern, never what a client wrote."""

    async def run(request: Request) -> Response:
        request.state.route = path
        try:
            return await endpoint(request)
        except ClientDisconnect:
            raise
        except Exception as error:
            return explained(error, request.state.id).response()

    return run


def _waiting(served: Served) -> int:
    return served.loaded.waiting if served.loaded is not None else 0


async def _unknown(scope: Scope, receive: Receive, send: Send) -> None:
    await Refusal(404, "There is no such route.").response()(scope, receive, send)


class _Methods(Route):
    """A route that says of another method what it takes."""

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.methods and scope["method"] not in self.methods:
            answer = Refusal(405, "This route takes another method.").response()
            answer.headers["Allow"] = ", ".join(sorted(self.methods))
            await answer(scope, receive, send)
        else:
            await super().handle(scope, receive, send)
