"""Tiny bundles, exported once for all workers, and a client of the application without a socket."""

from __future__ import annotations

import fcntl
import io
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from PIL import Image
from starlette.testclient import TestClient

from zoo.runtime.serve import App, Limits, Settings

MODELS = {
    "tagger": ("bert-base-cased", "token-classification"),
    "animals": ("resnet18", "image-classification"),
    "speech": ("wav2vec2-base-960h", "automatic-speech-recognition"),
    "writer": ("gpt2", "text-generation"),
}
LOCAL = "http://localhost"


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Callable[..., dict[str, Path]]:
    """export({"tagger": (model, task)}) gives the bundles by name; each is exported once for all workers."""
    root = tmp_path_factory.getbasetemp()
    folder = (root if worker_id == "master" else root.parent) / "served"
    folder.mkdir(exist_ok=True)

    def run(models: Mapping[str, tuple[str, str]]) -> dict[str, Path]:
        from tests.conformance.conftest import tiny_model

        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            for name, (model, task) in models.items():
                if not (folder / f"{name}.bundle").exists():
                    tiny_model(model, task).export(folder / f"{name}.bundle")
        return {name: folder / f"{name}.bundle" for name in models}

    return run


@pytest.fixture(scope="session")
def bundles(export: Callable[..., dict[str, Path]]) -> dict[str, Path]:
    return export(MODELS)


@pytest.fixture
def serve(bundles: dict[str, Path]) -> Iterator[Callable[..., TestClient]]:
    """serve("tagger", max_rows=2) is a client of a server that is ready."""
    with ExitStack() as stack:

        def start(*names: str, token: str | None = None, **limits: Any) -> TestClient:
            app = App([bundles[name] for name in names], Settings(token=token, limits=Limits(**limits)))
            return stack.enter_context(ready(app))

        yield start


def ready(app: App) -> TestClient:
    client = TestClient(app, base_url=LOCAL)
    entered = client.__enter__()
    until = time.monotonic() + 30
    while not entered.get("/v2/health/ready").is_success:
        assert time.monotonic() < until
        time.sleep(0.01)
    return _Left(entered)  # type: ignore[return-value]


class _Left:
    """A client that was entered already, for an ExitStack."""

    def __init__(self, client: TestClient) -> None:
        self.client = client

    def __enter__(self) -> TestClient:
        return self.client

    def __exit__(self, *given: Any) -> None:
        self.client.__exit__(*given)


def png(width: int = 60, height: int = 40) -> bytes:
    rng = np.random.default_rng(0)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


def wav(seconds: float = 0.5, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    wave = np.random.default_rng(0).normal(0, 0.1, int(seconds * rate)).astype(np.float32)
    soundfile.write(file, wave, rate, format="WAV", subtype="FLOAT")
    return file.getvalue()
