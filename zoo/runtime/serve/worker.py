"""One process that answers: its event loop, its signals, its end; and as one of several, what it is told to do."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import os
import signal
import socket
import threading
from collections.abc import Coroutine, Iterator, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, final

import uvicorn

from zoo.errors import ZooError
from zoo.runtime.serve import logs, memory
from zoo.runtime.serve.app import App
from zoo.runtime.serve.guard import guarded
from zoo.runtime.serve.listening import joined
from zoo.runtime.serve.refusals import Refusal
from zoo.runtime.serve.settings import Settings
from zoo.runtime.session import cores

_SPARE = 64  # connections beyond the requests at once, which are then refused with a reason


def open_app(bundles: Sequence[str | Path], settings: Settings) -> App:
    """The application of a process that does nothing else. Raises BundleError and ConfigError."""
    memory.settle()
    app = App(bundles, settings)
    app.shelf.changed = memory.freeze
    return app


def answer(app: App, place: socket.socket, line: Line | None = None) -> bool:
    """Answer until SIGTERM or SIGINT, or until the line says so. False as of `run`.

    place: the socket to listen on; with a line the reserved one of several processes. Raises BundleError where a model
    can't be warmed up.
    """
    server = uvicorn.Server(_config(app))
    app.draining = lambda: server.should_exit
    app.end = functools.partial(setattr, server, "should_exit", True)
    # uvloop, where it is installed.
    with _quiet_end(), asyncio.Runner(loop_factory=server.config.get_loop_factory()) as runner:
        runner.run(_serve(server, app, place, line))
    if app.failed is not None:
        raise app.failed
    return app.clean


def main(
    number: int, bundles: Sequence[str | Path], settings: Settings, place: socket.socket, pipe: Connection
) -> None:
    """A process of a supervisor's. It ends with 1 where a model was still busy."""
    # What is typed at the terminal is for the supervisor, which tells us.
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    logs.configure(settings.log_format, worker=number)
    threads = settings.threads or max(1, cores() // settings.workers)
    try:
        app = open_app(bundles, settings.model_copy(update={"threads": threads}))
        clean = answer(app, place, Line(pipe))
    except (ZooError, OSError) as error:
        pipe.send(("failed", error))
        return
    if not clean:
        # Its thread can't be ended, and Python would wait for it.
        os._exit(1)


@final
class Line:
    """A worker's end of the pipe to its supervisor. A model that one worker is asked to load again, all do."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._tickets = itertools.count()
        self._asked: dict[int, asyncio.Future[str | None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def attend(self, server: uvicorn.Server, app: App) -> None:
        """Within the event loop: do what comes from now on. A supervisor that has gone ends the worker too."""
        self._server, self._app = server, app
        app.reload = self._everywhere
        threading.Thread(target=self._listen, args=(asyncio.get_running_loop(),), name="zoo-line", daemon=True).start()
        self._say("ready", list(app.shelf.models))

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        order: tuple[Any, ...] = ("",)
        while order[0] != "stop":
            try:
                order = self._pipe.recv()
            except (EOFError, OSError):
                order = ("stop",)
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                loop.call_soon_threadsafe(self._follow, order)

    def _follow(self, order: tuple[Any, ...]) -> None:
        kind, *given = order
        if kind == "stop":
            self._server.should_exit = True
        elif kind == "reload":
            self._go(self._reload(*given))
        elif kind == "reload_all":
            self._go(self._app.shelf.reload_all())
        else:
            ticket, reason = given
            future = self._asked.pop(ticket)
            if not future.done():
                future.set_result(reason)

    async def _reload(self, key: int, name: str) -> None:
        reason = None
        try:
            await self._app.shelf.reload(name)
        except Refusal as refusal:
            reason = refusal.message
        self._say("reloaded", key, reason)

    async def _everywhere(self, name: str) -> None:
        """Raises Refusal where a worker could not, and goes on with the old one."""
        self._app.shelf.served(name)
        ticket = next(self._tickets)
        future = self._asked[ticket] = asyncio.get_running_loop().create_future()
        self._say("reload", ticket, name)
        reason = await future
        if reason is not None:
            raise Refusal(409, reason)

    def _say(self, *message: Any) -> None:
        with contextlib.suppress(OSError):  # it has gone, and we are told to stop
            self._pipe.send(message)

    def _go(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(server: uvicorn.Server, app: App, place: socket.socket, line: Line | None) -> None:
    listener = place
    if line is not None:
        # Only then: until it is warm the others answer.
        await app.shelf.start()
        listener = joined(app.settings, place)
        line.attend(server, app)
    elif hasattr(signal, "SIGHUP"):
        tasks: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.create_task(app.shelf.reload_all())
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    await server.serve(sockets=[listener])


def _config(app: App) -> uvicorn.Config:
    limits = app.settings.limits
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
def _quiet_end() -> Iterator[None]:
    """uvicorn raises the signal that ended it once more, for handlers that were there before."""
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
