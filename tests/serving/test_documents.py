"""The OpenAPI document describes what is there; the page has all it needs within itself."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from starlette.testclient import TestClient

Serve = Callable[..., TestClient]


def test_the_document_has_every_route_and_its_schemas_hold(serve: Serve) -> None:
    client = serve("tagger")
    found = client.get("/openapi.json").json()
    routes = {(method.upper(), path) for path, operations in found["paths"].items() for method in operations}
    assert routes == set(client.app.routes)  # type: ignore[attr-defined]
    names = [operation["operationId"] for operations in found["paths"].values() for operation in operations.values()]
    assert len(set(names)) == len(names)
    schemas = found["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for reference in re.findall(r"#/components/schemas/(\w+)", client.get("/openapi.json").text):
        assert reference in schemas

    def holds(name: str, value: Any) -> None:
        jsonschema.validate(value, {"$ref": f"#/components/schemas/{name}", "components": found["components"]})

    asked = {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}]}
    holds("InferRequest", asked)
    holds("InferResponse", client.post("/v2/models/tagger/infer", json=asked).json())
    for inputs in ("a", ["a"]):
        holds("Question", {"inputs": inputs})
        holds("Answer", client.post("/predict/tagger", json={"inputs": inputs}).json())
    holds("Error", client.get("/v2/models/other").json())
    assert "security" not in found
    token = "a-token-of-some-length"
    guarded = serve("tagger", token=token).get("/openapi.json", headers={"authorization": f"Bearer {token}"}).json()
    assert guarded["security"] == [{"token": []}]


def test_the_page_loads_nothing_and_may_run_nothing_else(serve: Serve) -> None:
    answer = serve("tagger", token="a-token-of-some-length").get("/")
    assert answer.status_code == 200
    assert not re.findall(r"""(?:src|href)=["'](?!data:,")|url\(|https?://|innerHTML|\beval\b|\son\w+=""", answer.text)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        inline = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        assert len(inline) == 1
        assert f"'sha256-{base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()}'" in policy


def test_the_page_says_what_was_measured_under_load(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent.parent
    monkeypatch.syspath_prepend(str(root))
    module = runpy.run_path(str(root / "benchmarks" / "serving_load.py"))
    found = json.loads(module["RESULT"].read_text(encoding="utf-8"))
    assert module["told"](found) in (root / "docs" / "serving.md").read_text(encoding="utf-8").replace("\n", " ")
    assert found["requests"] >= 100_000
    assert (found["wrong"], found["lost"]) == (0, 0)
    assert found["resident bytes"]["growth"] < 0.05
