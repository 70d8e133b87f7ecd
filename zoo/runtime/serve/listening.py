"""The sockets of a server: one for a process, or one for each of several on one address."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator

from zoo.errors import ConfigError
from zoo.runtime.serve.settings import Settings

_BACKLOG = 2048  # connections that wait to be accepted
# Linux deals the connections to an address out to all sockets that listen on it. Where one socket is shared, a process
# that wakes up takes all that wait, and keeps them; elsewhere that is what there is.
DEALT = sys.platform == "linux"


def listening(settings: Settings) -> socket.socket:
    """The only one of its address. Raises ConfigError for an address that can't be listened on."""
    with _refusing(settings):
        return _opened(settings, settings.port, reuse=False)


def reserved(settings: Settings) -> socket.socket:
    """What several processes listen by: where connections are dealt out it keeps the address, and hears none itself.

    Raises as `listening`, also where the processes of another server share the address.
    """
    first = listening(settings)
    if not DEALT:
        return first
    with first:
        address, place = first.getsockname(), socket.socket(first.family)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    with _refusing(settings):
        place.bind(address)
    return place


def joined(settings: Settings, place: socket.socket) -> socket.socket:
    """One process's own socket of a reserved address."""
    return _opened(settings, place.getsockname()[1], reuse=True) if DEALT else place


def _opened(settings: Settings, port: int, *, reuse: bool) -> socket.socket:
    family = socket.getaddrinfo(settings.host, port, type=socket.SOCK_STREAM)[0]
    listener = socket.create_server(family[4][:2], family=family[0], backlog=_BACKLOG, reuse_port=reuse)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        # Else what a client does not read keeps its connection open, and the server's place with it, for ever.
        milliseconds = int(settings.limits.body_timeout * 1000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
    return listener


@contextlib.contextmanager
def _refusing(settings: Settings) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigError(
            f"Port {settings.port} of {settings.host} can't be listened on: {error.strerror}. Give another --port."
        ) from error
