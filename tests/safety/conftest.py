"""What a hostile file must not do: run anything, open a connection, take long, or take memory."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.safety import tiny

_FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pickle.find_class",
    "socket.connect", "socket.getaddrinfo", "urllib.Request", "webbrowser.open",
)  # fmt: skip
_SECONDS, _MEGABYTES = 10, 700
_seen: list[tuple[str, Any]] = []
_watching = False


def _hook(event: str, args: Any) -> None:
    if _watching and event in _FORBIDDEN:
        _seen.append((event, args))


# A hook stays for the whole process: it listens while a test of this folder runs.
sys.addaudithook(_hook)


@pytest.fixture(scope="session", autouse=True)
def _imported() -> None:
    """What is imported by the first file of a kind (and loads libraries) is no work of the file."""
    import onnxruntime
    import soundfile
    import soxr

    import zoo.backends.transformers.spec
    import zoo.entry
    import zoo.runtime

    assert all((onnxruntime, soundfile, soxr, zoo.runtime, zoo.entry))


@pytest.fixture(autouse=True)
def watched(_imported: None) -> Iterator[None]:
    """Fails a test of this folder in which code ran, and one that took seconds or memory."""
    global _watching
    _seen.clear()
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    _watching = True
    try:
        yield
    finally:
        _watching = False
    assert not _seen
    assert time.process_time() - began < _SECONDS
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < _MEGABYTES


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A bundle of each kind, to be copied and broken."""
    place = tmp_path_factory.mktemp("whole")
    return {kind: tiny.write(place / kind, kind) for kind in tiny.GRAPHS}
