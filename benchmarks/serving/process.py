"""`zoo serve` in a process of its own, its log in a file, and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil

# Nothing of training is needed, and torch would be most of the memory.
_COMMAND = """
import sys
sys.modules["torch"] = None
from zoo.cli import main
main()
"""


class Server:
    """port: where it listens; it is ready when this is made."""

    def __init__(self, bundles: Sequence[Path], log: Path, *arguments: str) -> None:
        self._log = log
        with log.open("wb") as file:
            command = [sys.executable, "-c", _COMMAND, "serve", *map(str, bundles), "--port", "0", *arguments]
            self.process = subprocess.Popen(command, stderr=file)
        self.port = int(self.await_lines("listening", 1)[0]["url"].rpartition(":")[2])
        self.await_lines("model is ready", len(bundles))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Of the log, those that are whole."""
        for line in self._log.read_bytes().split(b"\n")[:-1]:
            yield json.loads(line)

    def said(self, message: str) -> list[dict[str, Any]]:
        wanted = json.dumps(message).encode()
        found = (json.loads(line) for line in self._log.read_bytes().split(b"\n")[:-1] if wanted in line)
        return [line for line in found if line["message"] == message]

    def await_lines(self, message: str, count: int, seconds: float = 120) -> list[dict[str, Any]]:
        """Raises RuntimeError where it ends, or the time does, before it has said this so many times."""
        end = time.monotonic() + seconds
        while len(found := self.said(message)) < count:
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"zoo serve did not say {message!r} {count} times:\n{self._log.read_text()[-2000:]}")
            time.sleep(0.05)
        return found

    @property
    def resident(self) -> int:
        """Bytes."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(20)
