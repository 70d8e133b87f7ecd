"""The server as a process: its socket, its signals, its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvicorn

from zoo.errors import ConfigError
from zoo.runtime.serve import logs, memory
from zoo.runtime.serve.app import App
from zoo.runtime.serve.guard import guarded
from zoo.runtime.serve.settings import Settings

_SPARE = 64  # connections beyond the requests at once, which are then refused with a reason


def run(bundles: Sequence[str | Path], settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT, then finish what is running. SIGHUP loads every bundle again.

    Returns False where a model was still busy at the end: its thread runs on. Raises BundleError, and ConfigError for
    an address that can't be listened on.
    """
    logs.configure(settings.log_format)
    memory.settle()
    app = App(bundles, settings)
    server = uvicorn.Server(_config(app, settings))
    app.draining = lambda: server.should_exit
    with _listening(settings) as listener, _quiet_end():
        host, port = listener.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        logs.log.info(
            "listening", extra={"fields": {"url": f"http://{shown}:{port}", "models": list(app.shelf.models)}}
        )
        # uvloop, where it is installed.
        with asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
            runner.run(_serve(server, app, listener))
    return app.clean


async def _serve(server: uvicorn.Server, app: App, listener: socket.socket) -> None:
    tasks: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = asyncio.create_task(app.shelf.reload_all())
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    if hasattr(signal, "SIGHUP"):
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    await server.serve(sockets=[listener])


def _config(app: App, settings: Settings) -> uvicorn.Config:
    limits = settings.limits
    return uvicorn.Config(
        app,
        http=guarded(limits.header_timeout, limits.body_bytes),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
        limit_concurrency=limits.max_requests + _SPARE,
        timeout_graceful_shutdown=int(limits.drain_timeout) or 1,
    )


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


@contextlib.contextmanager
def _quiet_end() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more, for handlers that were there before."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
