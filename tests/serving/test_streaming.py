"""`POST /predict/{name}/stream`: the pieces of a text, as events, and what else may be asked meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import zoo
from zoo.runtime import BundleModel

Serve = Callable[..., TestClient]
OPTIONS = {"max_new_tokens": 24, "do_sample": True, "temperature": 5.0, "seed": 3}
ASKED = {"inputs": "Once upon", "options": OPTIONS}


def take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """As encoder-decoder models do, and all on a GPU."""
    monkeypatch.setattr(BundleModel, "flight", lambda self: None)


def events(text: str) -> list[tuple[str, dict[str, Any]]]:
    found = []
    for event in text.strip().split("\n\n"):
        *name, data = event.split("\n")
        found.append((name[0].removeprefix("event: ") if name else "", json.loads(data.removeprefix("data: "))))
    return found


@pytest.mark.parametrize("together", [True, False])
def test_the_pieces_are_the_text_and_the_end_is_the_result(
    serve: Serve, bundles: dict[str, Path], monkeypatch: pytest.MonkeyPatch, together: bool
) -> None:
    if not together:
        take_turns(monkeypatch)
    answer = serve("writer").post("/predict/writer/stream", json=ASKED)
    assert answer.headers["content-type"].startswith("text/event-stream")
    *pieces, (name, last) = events(answer.text)
    expected = zoo.runtime.load(bundles["writer"]).predict("Once upon", **OPTIONS)
    assert len(pieces) > 3
    assert "".join(piece["text"] for _, piece in pieces) == expected.text
    assert (name, last["result"]) == ("end", expected.to_dict())


@pytest.mark.parametrize(
    ("name", "asked", "status"),
    [
        ("tagger", ASKED | {"options": {}}, 400),
        ("writer", ASKED | {"inputs": ["a", "b"]}, 400),
        ("writer", ASKED | {"options": {"max_new_tokens": 5000}}, 413),
        ("writer", ASKED | {"options": {"max_tokens": 5}}, 400),
        ("writer", ASKED | {"inputs": "a" * 5000}, 400),
        ("other", ASKED, 404),
    ],
)
def test_what_can_not_be_streamed_is_refused_before_it_begins(
    serve: Serve, name: str, asked: dict[str, Any], status: int
) -> None:
    client = serve("tagger", "writer", max_streams=1)
    for _ in range(2):
        refused = client.post(f"/predict/{name}/stream", json=asked)
        assert refused.status_code == status, refused.text
        assert set(refused.json()) == {"error"}
    # A refused one holds no place.
    assert client.post("/predict/writer/stream", json=ASKED).status_code == 200


def test_streams_are_counted_take_turns_and_tell_no_internal_error(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_turns(monkeypatch)
    client = serve("writer", max_streams=1)
    streams: Any = client.app._streams  # type: ignore[attr-defined]
    other: list[Any] = []

    def slow(self: BundleModel, prompt: str, **options: Any) -> Any:
        def pieces() -> Any:
            yield "a"
            # The model's thread goes on with others between two pieces, so nothing here may wait for them.
            yield "b"
            other.append(streams.running)
            raise RuntimeError("/secret")

        return pieces()

    monkeypatch.setattr(BundleModel, "stream", slow)
    with client.stream("POST", "/predict/writer/stream", json=ASKED) as answer:
        found = events("".join(answer.iter_text()))
    assert [data.get("text") for _, data in found[:2]] == ["a", "b"]
    assert found[2][0] == "error"
    assert "secret" not in found[2][1]["error"]
    assert other == [1]
    end = time.monotonic() + 5
    while streams.running:
        assert time.monotonic() < end
        time.sleep(0.01)
    streams.running = 1
    full = client.post("/predict/writer/stream", json=ASKED)
    assert (full.status_code, full.headers["retry-after"]) == (429, "1")
