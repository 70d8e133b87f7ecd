"""The server: its socket, and the one process or the several that answer on it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

from zoo.errors import ConfigError
from zoo.runtime.serve import logs, supervisor
from zoo.runtime.serve.settings import Settings, check


def run(bundles: Sequence[str | Path], settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT, then finish what is running. SIGHUP loads every bundle again.

    Returns False where a model was still busy at the end: its thread runs on. Raises BundleError, and ConfigError for
    an address that can't be listened on.
    """
    check(settings)
    logs.configure(settings.log_format)
    if settings.workers > 1:
        with _listening(settings) as listener:
            return supervisor.run(bundles, settings, listener)
    # A supervisor needs none of what answers.
    from zoo.runtime.serve import worker

    app = worker.open_app(bundles, settings)
    with _listening(settings) as listener:
        logs.listening(listener, list(app.shelf.models))
        return worker.answer(app, listener)


@contextlib.contextmanager
def _listening(settings: Settings) -> Iterator[socket.socket]:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(family[4][:2], family=family[0], backlog=2048)
    except OSError as error:
        raise ConfigError(
            f"Port {settings.port} of {settings.host} can't be listened on: {error.strerror}. Give another --port."
        ) from error
    with listener:
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # Else what a client does not read keeps its connection open, and the server's place with it, for ever.
            milliseconds = int(settings.limits.body_timeout * 1000)
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
        yield listener
