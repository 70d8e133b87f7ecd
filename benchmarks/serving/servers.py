"""A server of a bundle in processes of its own, as long as a block lasts."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
OURS = "zoo"
_ZOO = "from zoo.cli import main; main()"


@dataclass(frozen=True, slots=True)
class Server:
    """address: answers questions. process: of what was started first."""

    address: str
    process: subprocess.Popen[bytes]

    def answer(self, text: str) -> Any:
        asked = urllib.request.Request(
            self.address, json.dumps({"inputs": text}).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60) as found:
            return json.loads(found.read())["result"]

    @property
    def megabytes(self) -> float:
        """Resident, of all its processes."""
        return sum(member.memory_info().rss for member in self._family()) / 1e6

    def end(self) -> None:
        for member in self._family():
            with suppress(psutil.NoSuchProcess):
                member.kill()
        self.process.wait(20)

    def wait(self) -> None:
        """Until it answers. Raises RuntimeError where it never does."""
        end = time.monotonic() + 120
        while True:
            try:
                self.answer("a")
                return
            except (urllib.error.URLError, ConnectionError):
                if self.process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{self.process.args} does not answer") from None
                time.sleep(0.1)

    def _family(self) -> list[psutil.Process]:
        """Several have processes of their own. Empty where the first has ended by itself."""
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []


@contextmanager
def serving(python: str, kind: str, bundle: str, options: Sequence[str]) -> Iterator[Server]:
    """kind: "zoo" is `zoo serve`, all others are those of `benchmarks.serving.peers`. options: of either."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if kind == OURS:
        command = [python, "-c", _ZOO, "serve", bundle, "--port", str(port), *options]
    else:
        command = [python, "-m", "benchmarks.serving.peers", kind, bundle, str(port), *options]
    path = f"/predict/{Path(bundle).stem}" if kind == OURS else "/predict"
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    server = Server(f"http://127.0.0.1:{port}{path}", process)
    try:
        server.wait()
        yield server
    finally:
        server.end()
