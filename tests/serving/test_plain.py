"""`POST /predict/{name}` answers as the bundle does, and opens nothing that a client names."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import zoo
from tests.serving.conftest import png, wav
from zoo.results import to_plain

Serve = Callable[..., TestClient]
TEXTS = ["Ada Lovelace lives in London.", "Bob", "The quick brown fox of Zürich met 3 engineers from New York."]


@pytest.fixture(scope="module")
def expected(bundles: dict[str, Path]) -> Callable[[str, Any], Any]:
    models = {name: zoo.runtime.load(folder) for name, folder in bundles.items()}
    return lambda name, raw: rounded(to_plain(models[name].predict(raw)))


def rounded(value: Any) -> Any:
    """Padding and the order of sums move the last digits."""
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


def test_texts_are_answered_as_the_bundle_answers_them(serve: Serve, expected: Callable[[str, Any], Any]) -> None:
    client = serve("tagger")
    one = client.post("/predict/tagger", json={"inputs": TEXTS[0]}).json()
    assert (one["model"], one["task"]) == ("tagger", "token-classification")
    assert rounded(one["result"]) == expected("tagger", TEXTS[0])
    several = client.post("/predict/tagger", json={"inputs": TEXTS}).json()
    assert rounded(several["results"]) == expected("tagger", TEXTS)
    fields = client.post("/predict/tagger", files=[("text", (None, text)) for text in TEXTS]).json()
    assert fields["results"] == several["results"]


@pytest.mark.parametrize(("name", "content"), [("animals", png()), ("speech", wav())], ids=["image", "recording"])
def test_files_are_answered_by_form_and_by_base64(
    serve: Serve, expected: Callable[[str, Any], Any], name: str, content: bytes
) -> None:
    client = serve(name)
    uploaded = client.post(f"/predict/{name}", files={"file": ("/etc/x", content)}).json()
    assert rounded(uploaded["result"]) == expected(name, content)
    encoded = {"base64": base64.b64encode(content).decode()}
    assert client.post(f"/predict/{name}", json={"inputs": [encoded, encoded]}).json()["results"] == (
        [uploaded["result"]] * 2
    )


def test_options_are_those_of_predict(serve: Serve, expected: Callable[[str, Any], Any]) -> None:
    client = serve("animals", "speech")
    given = {"file": ("a.png", png()), "options": (None, '{"top_k": 1}')}
    assert len(client.post("/predict/animals", files=given).json()["result"]["top"]) == 1
    wrong = client.post("/predict/animals", json={"inputs": {"base64": ""}, "options": {"topk": 1}})
    assert wrong.status_code == 400
    given["options"] = (None, '{"topk": 1}')
    assert "Did you mean 'top_k'" in client.post("/predict/animals", files=given).json()["error"]
    given = {"file": ("a.wav", wav()), "options": (None, '{"lm": "/etc/passwd"}')}
    refused = client.post("/predict/speech", files=given)
    assert refused.status_code == 400
    assert "names a file" in refused.json()["error"]


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: [s], lambda s: {"path": s}, lambda s: {"bytes": s}])
@pytest.mark.parametrize("name", ["animals", "speech"])
def test_no_path_and_no_address_of_a_client_is_opened(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wrap: Callable[[str], Any]
) -> None:
    from zoo.modalities import image, recordings

    def opened(*given: Any) -> Any:
        raise AssertionError(f"opened {given}")

    file = tmp_path / "there"
    file.write_bytes(png() if name == "animals" else wav())
    client = serve(name)
    for module in (image, recordings):
        monkeypatch.setattr(module, "local_file", opened)
    for text in (str(file), f"file://{file}", "http://localhost/x", "data:image/png;base64,AAAA"):
        for answer in (
            client.post(f"/predict/{name}", json={"inputs": wrap(text)}),
            client.post(f"/predict/{name}", files={"file": (None, text)}),
        ):
            assert answer.status_code == 400
            assert "No path and no address is opened" in answer.json()["error"]


def test_a_bad_input_refuses_the_request_or_stands_in_its_place(serve: Serve) -> None:
    client = serve("animals")
    files = [("file", ("a", png())), ("file", ("b", png()[:200]))]
    refused = client.post("/predict/animals", files=files)
    assert refused.status_code == 400
    assert refused.json()["error"].startswith("Input 1: an image of 200 bytes can't be decoded")
    kept = client.post("/predict/animals", files=[*files, ("on_error", (None, "return"))]).json()["results"]
    assert "label" in kept[0]
    assert "can't be decoded" in kept[1]["error"]


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b'{"inputs": "a"', "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b"[1]", "application/json", 400),
        (b'{"inputs": NaN}', "application/json", 400),
        (b'{"inputs": 1}', "application/json", 400),
        (b'{"inputs": []}', "application/json", 400),
        (b'{"inputs": [null]}', "application/json", 400),
        (b'{"inputs": {"text": "a", "x": 1}}', "application/json", 400),
        (b'{"inputs": "a", "option": {}}', "application/json", 400),
        (b'{"inputs": "a", "options": []}', "application/json", 400),
        (b'{"inputs": "a", "options": {"a": ' + b"[" * 900 + b"]" * 900 + b"}}", "application/json", 400),
        (b'{"inputs": "a", "on_error": 1}', "application/json", 400),
        (b'{"inputs": "\\ud800"}', "application/json", 400),
        (b'{"inputs": "a", "\\ud800": 1}', "application/json", 400),
        (b'{"inputs": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "application/json", 400),
        (b'{"inputs": ' + b"1" * 5000 + b"}", "application/json", 400),
        (b"text", "text/plain", 415),
        (b"--x", "multipart/form-data", 400),
        (b"--x\r\n", "multipart/form-data; boundary=x", 400),
        (b"--y\r\n\r\n\r\n--y--", "multipart/form-data; boundary=x", 400),
        (b"--x--\r\n", "multipart/form-data; boundary=x", 400),
    ],
)
def test_a_malformed_body_is_the_clients_fault(serve: Serve, body: bytes, kind: str, status: int) -> None:
    answer = serve("tagger").post("/predict/tagger", content=body, headers={"content-type": kind})
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error"}


def test_an_internal_error_tells_the_log_and_not_the_client(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from zoo.runtime import BundleModel

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("at /secret/place")

    client = serve("tagger")
    monkeypatch.setattr(BundleModel, "predict_iter", fail)
    with caplog.at_level(logging.INFO, logger="zoo.serve"):
        answer = client.post("/predict/tagger", json={"inputs": "private words"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"] in answer.json()["error"]
    assert "/secret/place" in caplog.text
    assert "private words" not in caplog.text
    line = next(record.fields for record in caplog.records if record.message == "request")  # type: ignore[attr-defined]
    assert (line["route"], line["model"], line["status"]) == ("/predict/{name}", "tagger", 500)
    assert json.dumps(line)


def test_metrics_count_requests_and_batches(serve: Serve) -> None:
    client = serve("tagger")
    client.post("/predict/tagger", json={"inputs": TEXTS})
    client.get("/no/such/route")
    text = client.get("/metrics").text
    assert 'zoo_requests_total{model="tagger",route="/predict/{name}",status="200"} 1.0' in text
    assert 'zoo_requests_total{model="",route="",status="404"} 1.0' in text
    assert 'zoo_batch_rows_sum{model="tagger"} 3.0' in text
    assert 'zoo_model_ready{model="tagger"} 1.0' in text
    assert "no/such" not in text
