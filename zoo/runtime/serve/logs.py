"""One line a record: JSON for machines, or text. Nothing that a client sent stands in them."""

from __future__ import annotations

import functools
import json
import logging
import socket
import sys
import time
from collections.abc import Sequence
from typing import Any, Literal

log = logging.getLogger("zoo.serve")


_ENCODER = json.JSONEncoder(default=str)


@functools.lru_cache(maxsize=2)
def _second(when: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(when))


class _Json(logging.Formatter):
    def __init__(self, always: dict[str, Any]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self._always,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return _ENCODER.encode(line)


class _Text(logging.Formatter):
    def __init__(self, always: dict[str, Any]) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        given = self._always | getattr(record, "fields", {})
        fields = " ".join(f"{name}={value}" for name, value in given.items() if value != "")
        line = f"{time.strftime('%H:%M:%S', time.localtime(record.created))} {record.levelname} {record.getMessage()}"
        trace = f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""
        return f"{line} {fields}".rstrip() + trace


def configure(kind: Literal["json", "text"], *, worker: int | None = None) -> None:
    """Send the records of the server, and of uvicorn, to standard error. worker: which of several processes it is."""
    always = {} if worker is None else {"worker": worker}
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json(always) if kind == "json" else _Text(always))
    for name in ("zoo.serve", "uvicorn.error", "asyncio"):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(logging.INFO)
        logger.propagate = False


def listening(listener: socket.socket, models: Sequence[str]) -> None:
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    log.info("listening", extra={"fields": {"url": f"http://{shown}:{port}", "models": list(models)}})
