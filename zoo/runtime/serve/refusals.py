"""Why a request is not answered, as a status and a sentence. No trace and no path of this machine goes out."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from zoo.errors import ConfigError, DataError

_log = logging.getLogger("zoo.serve")
_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))
BUSY = 1  # seconds that a client is told to wait where nothing better is known


class Refusal(Exception):
    """status: of HTTP. retry_after: seconds, for what may work later."""

    def __init__(self, status: int, message: str, *, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.retry_after = retry_after

    def response(self) -> Response:
        """`{"error": ...}`, as the Open Inference Protocol has it."""
        headers = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        if self.status == 401:
            headers["WWW-Authenticate"] = "Bearer"
        return reply({"error": self.message}, self.status, headers)


def explained(error: Exception, request_id: str) -> Refusal:
    """An error as what a client is told; of one that is ours, that is the request's id, and the log gets the rest."""
    refusal = refusal_of(error)
    if refusal is None:
        _log.error("internal error", exc_info=error, extra={"fields": {"id": request_id}})
        refusal = Refusal(500, f"An internal error. The server's log has it as {request_id}.")
    return refusal


def reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON in ASCII: half of a surrogate pair, which a client may send, has no UTF-8."""
    return Response(_ENCODER.encode(content), status, headers, media_type="application/json")


def refusal_of(error: Exception) -> Refusal | None:
    """An error as what the client did wrong, or None where the fault is ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, RecursionError):
        return Refusal(400, "The JSON is nested too deeply.")
    # Their messages are about the input or option that came; those of other errors may name files.
    if isinstance(error, (DataError, ConfigError)):
        return Refusal(400, str(error))
    return None
