"""What every request passes: who may ask, how many at once, its line in the log, its figures, and its last resort."""

from __future__ import annotations

import functools
import hashlib
import hmac
import logging
import secrets
import time
from typing import Any, final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from zoo.runtime.serve.metrics import Metrics
from zoo.runtime.serve.refusals import BUSY, Refusal
from zoo.runtime.serve.settings import Settings
from zoo.runtime.serve.waiting import within

# What a probe of a cluster asks, and the page itself, which then asks its reader for the token.
OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})
_GONE = 499  # nginx's status for a client that left
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"referrer-policy", b"no-referrer"),
)
_log = logging.getLogger("zoo.serve")


@final
class Gate:
    """ASGI: the outermost layer around the routes."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._token = None if settings.token is None else _digest(settings.token)
        self._hosts = _LOCAL | {settings.host.lower()}
        self.running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = _Answer(send, self._settings.limits.body_timeout)
        scope["state"] = {**scope.get("state", {}), "id": answer.id, "model": "", "route": ""}
        began = time.monotonic()
        self.running += 1
        try:
            await self._guarded(scope, receive, answer)
        finally:
            self.running -= 1
            self._note(scope, answer, time.monotonic() - began)

    async def _guarded(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            self._admit(scope)
            await self._app(scope, receive, answer.send)
        except ClientDisconnect:
            answer.status = _GONE
        except TimeoutError:
            # The client does not read; uvicorn closes a connection whose answer is not whole.
            answer.status = _GONE
        except Refusal as refusal:
            await refusal.response()(scope, receive, answer.send)

    def _admit(self, scope: Scope) -> None:
        """Raises Refusal for a request that must not pass."""
        headers = Headers(scope=scope)
        if self._token is not None:
            if scope["path"] not in OPEN and not hmac.compare_digest(_bearer(headers), self._token):
                raise Refusal(401, "A bearer token is needed: send Authorization: Bearer TOKEN.")
        elif _hostname(headers.get("host", "")) not in self._hosts:
            # A page elsewhere may give its own name this machine's address.
            raise Refusal(421, "This server answers to localhost alone.")
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc.lower() != headers.get("host", "").lower():
            raise Refusal(403, "Pages of other sites may not ask this server.")
        if self.running > self._settings.limits.max_requests and scope["path"] not in OPEN:
            raise Refusal(503, "The server answers as many requests as it can. Try again.", retry_after=BUSY)

    def _note(self, scope: Scope, answer: _Answer, seconds: float) -> None:
        state: dict[str, Any] = scope["state"]
        self._metrics.request(state["route"], state["model"], answer.status, seconds)
        fields = {
            "id": answer.id, "method": scope["method"], "route": state["route"], "model": state["model"],
            "status": answer.status, "ms": round(seconds * 1000, 2), "bytes": answer.size,
        }  # fmt: skip
        if _log.isEnabledFor(logging.INFO):
            # Not info(), which looks for the line that it was called from.
            _log.handle(_log.makeRecord(_log.name, logging.INFO, "", 0, "request", (), None, extra={"fields": fields}))


class _Answer:
    """`send` that remembers what went out, and gives up on a client that does not read. status: 0 before it began."""

    def __init__(self, send: Send, seconds: float) -> None:
        self._send = send
        self._seconds = seconds
        self.id = secrets.token_hex(8)
        self.status = 0
        self.size = 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message["headers"], *_HEADERS, (b"x-request-id", self.id.encode())]
        self.size += len(message.get("body", b""))
        await within(self._seconds, self._sent(message))

    async def _sent(self, message: Message) -> None:
        await self._send(message)


def _digest(token: str) -> bytes:
    """Of one length, so that a comparison tells nothing about the token's."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _bearer(headers: Headers) -> bytes:
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return _digest(token.strip()) if scheme.lower() == "bearer" else b""


@functools.lru_cache(maxsize=64)
def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
