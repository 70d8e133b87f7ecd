"""HTTP/1.1 over asyncio's streams, and no more than a load test needs: it must not be slower than the server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


class Cut(Exception):
    """The connection ended before an answer was whole. begun: whether a byte of it had come."""

    def __init__(self, *, begun: bool) -> None:
        super().__init__("in the answer" if begun else "before the answer")
        self.begun = begun


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Mapping[bytes, bytes]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers.get(b"x-request-id", b"").decode()

    def json(self) -> Any:
        return json.loads(self.body)


class Connection:
    """Kept open from one request to the next. used: whether an answer was read from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self.used = False

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Raises ConnectionRefusedError where nothing listens."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(reader, writer)

    async def ask(self, sent: bytes) -> Answer:
        self.writer.write(sent)
        return await self.answer()

    async def answer(self) -> Answer:
        """Raises Cut."""
        begun = False
        try:
            head = await self._reader.readuntil(b"\r\n\r\n")
            begun = True
            status, headers = _head(head)
            body = await self._body(headers)
        except asyncio.IncompleteReadError as error:
            raise Cut(begun=begun or bool(error.partial)) from error
        except ConnectionError as error:
            raise Cut(begun=begun) from error
        self.used = True
        return Answer(status, headers, body)

    async def some(self) -> None:
        """Wait for the first bytes of an answer."""
        if not await self._reader.read(1):
            raise Cut(begun=False)

    async def _body(self, headers: Mapping[bytes, bytes]) -> bytes:
        if headers.get(b"transfer-encoding") != b"chunked":
            return await self._reader.readexactly(int(headers[b"content-length"]))
        parts: list[bytes] = []
        while size := int(await self._reader.readuntil(b"\r\n"), 16):
            parts.append(await self._reader.readexactly(size))
            await self._reader.readexactly(2)
        await self._reader.readexactly(2)
        return b"".join(parts)

    @property
    def closing(self) -> bool:
        return self._reader.at_eof() or self.writer.is_closing()

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        """Leave as a client does that is killed."""
        self.writer.transport.abort()


def _head(raw: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = raw[:-4].split(b"\r\n")
    pairs = (line.partition(b":") for line in lines)
    return int(first.split(b" ", 2)[1]), {name.lower(): value.strip() for name, _, value in pairs}


def request(method: str, path: str, body: bytes = b"", kind: str = "application/json", **more: str) -> bytes:
    """more: further headers, with `_` for `-`."""
    lines = [f"{method} {path} HTTP/1.1", "host: localhost", f"content-type: {kind}", f"content-length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in more.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def form(**files: bytes) -> tuple[bytes, str]:
    """A form of files: its body and its content type."""
    edge = "edge-of-a-part"
    parts = [
        f'--{edge}\r\ncontent-disposition: form-data; name="{name}"; filename="{name}"\r\n\r\n'.encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    return b"".join([*parts, f"--{edge}--\r\n".encode()]), f"multipart/form-data; boundary={edge}"
