"""What a server refuses, with which status, and who may ask it at all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.serving.conftest import png, wav
from zoo.errors import ConfigError, SpecError
from zoo.options import parse_options
from zoo.runtime import BundleModel
from zoo.runtime.serve import Limits, Settings
from zoo.runtime.serve.settings import check

Serve = Callable[..., TestClient]
TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    ("limits", "ask"),
    [
        ({"max_body_mb": 0.001}, {"json": {"inputs": "a" * 2000}}),
        ({"max_body_mb": 0.001}, {"content": iter([b"a" * 600] * 3), "headers": {"content-type": "application/json"}}),
        ({"max_rows": 2}, {"json": {"inputs": ["a", "b", "c"]}}),
        ({"max_characters": 10}, {"json": {"inputs": "a" * 11}}),
        ({"max_characters": 10}, {"json": {"inputs": [["aaaaaa", "aaaaaa"]]}}),
        ({"max_characters": 10}, {"files": {"file": ("a", b"a" * 11)}}),
    ],
    ids=["declared", "chunked", "rows", "characters", "words", "file"],
)
def test_what_is_too_much_of_text_is_413(serve: Serve, limits: dict[str, Any], ask: dict[str, Any]) -> None:
    client = serve("tagger", **limits)
    assert client.post("/predict/tagger", **ask).status_code == 413
    assert client.post("/predict/tagger", json={"inputs": "a"}).status_code == 200


def test_a_declared_size_is_refused_before_it_is_read(serve: Serve) -> None:
    client = serve("tagger")
    for declared in ("999999999999", "9" * 5000):
        headers = {"content-type": "application/json", "content-length": declared}
        assert client.post("/predict/tagger", content=b"{}", headers=headers).status_code == 413
    assert client.post("/predict/tagger", content=b"{}", headers={"content-encoding": "gzip"}).status_code == 415


def test_pixels_and_seconds_are_counted_before_anything_is_decoded(serve: Serve, monkeypatch: Any) -> None:
    client = serve("animals", "speech", max_pixels=2400, max_seconds=0.5)
    assert client.post("/predict/animals", files={"f": png(60, 40)}).status_code == 200
    assert client.post("/predict/speech", files={"f": wav(0.5)}).status_code == 200
    monkeypatch.setattr(BundleModel, "predict_iter", lambda *_, **__: pytest.fail("it was decoded"))
    assert client.post("/predict/animals", files={"f": png(60, 41)}).status_code == 413
    assert client.post("/predict/speech", files={"f": wav(0.6)}).status_code == 413
    samples = {"array": [0.0] * 9000, "sampling_rate": 16_000}
    assert client.post("/predict/speech", json={"inputs": samples}).status_code == 413


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Models answer when it is set."""
    gate = threading.Event()
    real = BundleModel.predict_iter

    def slow(self: BundleModel, inputs: Any, **options: Any) -> Any:
        if inputs != self.task.samples()[:1]:
            gate.wait(20)
        return real(self, inputs, **options)

    monkeypatch.setattr(BundleModel, "predict_iter", slow)
    yield gate
    gate.set()


def test_a_full_queue_is_429_and_a_late_answer_503_both_with_retry_after(serve: Serve, held: threading.Event) -> None:
    client = serve("tagger", max_queue=2, max_rows=2, timeout=0.4, batch_delay_ms=0)

    def ask(count: int) -> Any:
        return client.post("/predict/tagger", json={"inputs": ["a"] * count})

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(ask, 1)
        _until(lambda: _running(client))
        second = threads.submit(ask, 2)
        _until(lambda: 'zoo_queue_rows{model="tagger"} 2.0' in client.get("/metrics").text)
        third = ask(1)
        assert (third.status_code, third.headers["retry-after"]) == (429, "1")
        assert [f.result().status_code for f in (first, second)] == [503, 503]
        assert first.result().headers["retry-after"] == "1"
    held.set()
    assert ask(1).status_code == 200


def _running(client: TestClient) -> bool:
    app: Any = client.app
    return bool(app.shelf.models["tagger"].loaded.batcher.running)


def _until(true: Callable[[], bool]) -> None:
    import time

    end = time.monotonic() + 10
    while not true():
        assert time.monotonic() < end
        time.sleep(0.005)


def test_requests_and_bodies_beyond_what_is_held_at_once_are_503(serve: Serve, held: threading.Event) -> None:
    client = serve("tagger", max_requests=1, max_held_mb=0.001)
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.post, "/predict/tagger", json={"inputs": "a" * 400})
        _until(lambda: _running(client))
        busy = client.get("/v2")
        assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")
        # Probes are answered whatever the load.
        assert client.get("/v2/health/live").status_code == 200
        held.set()
        assert first.result().status_code == 200
    full = client.post("/predict/tagger", json={"inputs": "a" * 1200})
    assert (full.status_code, full.headers["retry-after"]) == (503, "1")
    assert client.post("/predict/tagger", json={"inputs": "a"}).status_code == 200


def test_without_a_token_only_this_machines_own_names_and_pages_are_answered(serve: Serve) -> None:
    client = serve("tagger")
    assert client.get("/v2", headers={"host": "evil.example"}).status_code == 421
    assert client.get("/v2", headers={"host": "127.0.0.1:8000"}).status_code == 200
    assert client.get("/v2", headers={"host": "[::1]:8000"}).status_code == 200
    assert client.get("/v2", headers={"origin": "http://evil.example"}).status_code == 403
    assert client.get("/v2", headers={"origin": "null"}).status_code == 403
    assert client.get("/v2", headers={"origin": "http://localhost"}).status_code == 200


def test_with_a_token_everything_but_the_probes_needs_it(serve: Serve) -> None:
    client = serve("tagger", token=TOKEN)
    for path in ("/v2", "/metrics", "/v2/models/tagger", "/no/such"):
        refused = client.get(path)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    for wrong in (f"Bearer {TOKEN}x", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer é"):
        headers = {"authorization": wrong.encode("latin-1")}
        assert client.post("/predict/tagger", json={"inputs": "a"}, headers=headers).status_code == 401
    right = {"authorization": f"bearer {TOKEN}", "host": "models.example"}
    assert client.post("/predict/tagger", json={"inputs": "a"}, headers=right).status_code == 200
    assert client.get("/v2/health/ready").status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "models.example"])
def test_another_address_needs_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="needs a token"):
        check(Settings(host=host))
    check(Settings(host=host, token=TOKEN))
    with pytest.raises(ConfigError, match="at least 16"):
        check(Settings(host=host, token="short"))


def test_limits_are_parsed_strictly() -> None:
    with pytest.raises(SpecError, match="max_rows"):
        parse_options(Limits, {"max_row": 3}, where="zoo serve")
    with pytest.raises(SpecError, match="max_queue is 5"):
        parse_options(Limits, {"max_queue": 5}, where="zoo serve")
