"""`zoo serve` in a process of its own, as tests start it and ask it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

_BLOCKED = """
import sys
for name in ("torch", "transformers", "timm", "torchvision", "torchaudio", "sklearn", "pandas"):
    sys.modules[name] = None
from zoo.cli import main
main()
"""


class Server(NamedTuple):
    process: subprocess.Popen[str]
    port: int
    lines: list[dict[str, Any]]

    def ask(self, path: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", body, {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def logged(self, message: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for line in self.lines:
                if line["message"] == message:
                    return line
            assert self.process.poll() is None, self.lines
            time.sleep(0.02)
        raise AssertionError(f"{message!r} is not in {self.lines}")


@contextmanager
def serving(*arguments: str | Path) -> Iterator[Server]:
    """`zoo serve` where torch can't be imported, on a free port, ready."""
    command = [sys.executable, "-c", _BLOCKED, "serve", *map(str, arguments), "--port", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    lines: list[dict[str, Any]] = []

    def read() -> None:
        assert process.stderr is not None
        for line in process.stderr:
            lines.append(json.loads(line))

    threading.Thread(target=read, daemon=True).start()
    try:
        waiting = Server(process, 0, lines)
        port = int(waiting.logged("listening")["url"].rpartition(":")[2])
        waiting.logged("model is ready")
        yield Server(process, port, lines)
    finally:
        process.kill()
        process.wait(10)
