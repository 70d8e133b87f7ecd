"""The Open Inference Protocol v2: its metadata, its tensors, and requests that break it."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

import zoo
from zoo.runtime.serve import tensors
from zoo.runtime.serve.refusals import Refusal

Serve = Callable[..., TestClient]
LENGTH = "inference-header-content-length"


def tensor(name: str, array: list[list[int]], datatype: str = "INT64") -> dict[str, Any]:
    return {"name": name, "shape": list(np.shape(array)), "datatype": datatype, "data": array}


def ids(array: list[list[int]]) -> dict[str, Any]:
    ones, zeros = [[1] * len(row) for row in array], [[0] * len(row) for row in array]
    named = {"input_ids": array, "attention_mask": ones, "token_type_ids": zeros}
    return {"inputs": [tensor(name, values) for name, values in named.items()]}


def test_metadata_states_the_graph_and_what_stands_for_it(serve: Serve) -> None:
    client = serve("tagger")
    assert client.get("/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]
    for path in ("/v2/models/tagger", "/v2/models/tagger/versions/1"):
        found = client.get(path).json()
        assert found["inputs"][0] == {"name": "input_ids", "datatype": "INT64", "shape": [-1, -1]}
        assert found["outputs"] == [{"name": "logits", "datatype": "FP32", "shape": [-1, -1, 3]}]
        assert found["parameters"]["raw_input"]["name"] == "text"
        assert found["parameters"]["labels"] == ["O", "B-PER", "I-PER"]
    assert client.get("/v2/models/tagger/ready").json() == {"ready": True}
    for path in ("/v2/models/other", "/v2/models/tagger/versions/2", "/v2/models/other/ready"):
        assert client.get(path).status_code == 404
    assert client.post("/v2/models/other/infer", json=ids([[1]])).status_code == 404


def test_tensors_give_the_graphs_outputs(serve: Serve, bundles: dict[str, Path]) -> None:
    client = serve("tagger")
    asked = {**ids([[1, 70, 71, 2], [1, 72, 2, 0]]), "id": "seven"}
    answer = client.post("/v2/models/tagger/infer", json=asked).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("tagger", "1", "seven")
    inputs = {entry["name"]: np.array(entry["data"]) for entry in asked["inputs"]}
    expected = zoo.runtime.load(bundles["tagger"]).session.run(inputs)["logits"]
    (output,) = answer["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("logits", "FP32", list(expected.shape))
    np.testing.assert_allclose(np.array(output["data"]).reshape(output["shape"]), expected, atol=1e-6)


def test_a_raw_input_gives_results_as_the_plain_route_does(serve: Serve) -> None:
    client = serve("tagger")
    texts = ["Ada Lovelace lives in London.", '{"not": "columns"}']
    asked = {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": texts}]}
    (output,) = client.post("/v2/models/tagger/infer", json=asked).json()["outputs"]
    assert (output["name"], output["datatype"], output["shape"]) == ("result", "BYTES", [2])
    plain = client.post("/predict/tagger", json={"inputs": texts}).json()["results"]
    assert [json.loads(text) for text in output["data"]] == plain
    asked["parameters"] = {"topk": 1}  # type: ignore[assignment]
    assert client.post("/v2/models/tagger/infer", json=asked).status_code == 400


def broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    asked = ids([[1, 70, 2]])
    change(asked)
    return asked


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, 'list "inputs"'),
        ({"inputs": []}, 'list "inputs"'),
        ({"inputs": ["a"]}, "an object with name"),
        ({"inputs": [tensor("a", [[1]])], "parameters": 1}, "parameters is an object"),
        (broken(lambda a: a["inputs"].pop()), "The inputs are: input_ids"),
        (broken(lambda a: a["inputs"].append(a["inputs"][0])), "have one name"),
        (broken(lambda a: a["inputs"][0].update(datatype="INT32")), "is of INT64, and INT32 came"),
        (broken(lambda a: a["inputs"][0].update(datatype="BF16")), "datatype is one of"),
        # Found by the fuzzer that coverage leads.
        (broken(lambda a: a["inputs"][0].update(datatype={})), "datatype is one of"),
        (broken(lambda a: a["inputs"][0].update(shape=[1, 4])), "data has 3 elements"),
        (broken(lambda a: a["inputs"][0].update(shape=[3], data=[1, 2, 3])), "has the shape [-1, -1], and [3] came"),
        (broken(lambda a: a["inputs"][0].update(shape=[1, -3])), "shape is a list"),
        (broken(lambda a: a["inputs"][0].update(shape=[0, 3], data=[])), "and [0, 3] came"),
        (broken(lambda a: a["inputs"][0].update(shape=[1] * 9)), "shape is a list"),
        (broken(lambda a: a["inputs"][0].update(data=[1, [2], 3])), "differ in length"),
        (broken(lambda a: a["inputs"][0].update(data=[1, 2.5, 3])), "no INT64"),
        (broken(lambda a: a["inputs"][0].update(data=[1, "2", 3])), "no INT64"),
        (broken(lambda a: a["inputs"][0].update(data=[1, None, 3])), "no INT64"),
        (broken(lambda a: a["inputs"][0].update(data=[1, 2**63, 3])), "no INT64"),
        (broken(lambda a: a["inputs"][0].update(data=[1, 10**30, 3])), "no INT64"),
        (broken(lambda a: a["inputs"][0].update(tensor("input_ids", [[1, 2]]))), "differ in an axis"),
        (broken(lambda a: a["inputs"][0].update(data=[1, 10**6, 2])), "can't take these values"),
        (broken(lambda a: a["inputs"][0].update(parameters={"binary_data_size": 8})), "no number of bytes"),
        (broken(lambda a: a.update(outputs=[{"name": "other"}])), "no output 'other'"),
        (broken(lambda a: a.update(outputs="logits")), "outputs is a list"),
        (broken(lambda a: a.update(parameters={"top_k": 1})), "Options go with the input text"),
        ({"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [1]}]}, "a list of texts"),
        ({"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": ["a"]}]}, "has 1 elements"),
        ({"inputs": [{"name": "text", "shape": [0], "datatype": "BYTES", "data": []}]}, "empty list"),
    ],
)
def test_requests_that_break_the_contract_are_400(serve: Serve, asked: dict[str, Any], said: str) -> None:
    answer = serve("tagger").post("/v2/models/tagger/infer", json=asked)
    assert answer.status_code == 400, answer.text
    assert said in answer.json()["error"]


def test_more_rows_and_longer_ones_than_allowed_are_413(serve: Serve) -> None:
    client = serve("tagger", max_rows=2)
    assert client.post("/v2/models/tagger/infer", json=ids([[1]] * 3)).status_code == 413
    assert client.post("/v2/models/tagger/infer", json=ids([[1] * 100_000])).status_code == 413


def test_the_binary_extension_carries_tensors_both_ways(serve: Serve) -> None:
    client = serve("tagger")
    asked = ids([[1, 70, 2]])
    expected = client.post("/v2/models/tagger/infer", json=asked).json()["outputs"][0]["data"]
    body = b""
    for entry in asked["inputs"]:
        raw = np.array(entry.pop("data"), dtype="<i8").tobytes()
        entry["parameters"] = {"binary_data_size": len(raw)}
        body += raw
    asked["outputs"] = [{"name": "logits", "parameters": {"binary_data": True}}]
    head = json.dumps(asked).encode()
    headers = {LENGTH: str(len(head))}
    answer = client.post("/v2/models/tagger/infer", content=head + body, headers=headers)
    size = int(answer.headers[LENGTH])
    (output,) = json.loads(answer.content[:size])["outputs"]
    raw = answer.content[size:]
    assert output["parameters"] == {"binary_data_size": len(raw)}
    np.testing.assert_allclose(np.frombuffer(raw, dtype="<f4"), expected, atol=1e-6)
    for length in ("-1", "x", str(len(head) + len(body) + 1), "9" * 5000):
        wrong = client.post("/v2/models/tagger/infer", content=head + body, headers={LENGTH: length})
        assert wrong.status_code == 400
    longer = client.post("/v2/models/tagger/infer", content=head + body + b"x", headers=headers)
    assert "1 bytes came that no input" in longer.json()["error"]


def test_bytes_in_binary_are_read_to_their_end_or_refused() -> None:
    entry = {"name": "text", "datatype": "BYTES", "shape": [2]}
    whole = b"".join(struct.pack("<I", len(raw)) + raw for raw in (b"ab", b""))
    assert tensors.read(entry, memoryview(whole)).data == [b"ab", b""]
    for damaged in (whole[:-1], whole[:3], whole + b"\0", struct.pack("<I", 2**32 - 1) + b"a"):
        with pytest.raises(Refusal, match=r"end in the middle|elements"):
            tensors.read(entry, memoryview(damaged))


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    datatype=st.sampled_from(sorted(tensors.DTYPES)),
    shape=st.lists(st.integers(0, 3), max_size=3),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_datatype_survives_both_forms(datatype: str, shape: list[int], seed: int) -> None:
    dtype = np.dtype(tensors.DTYPES[datatype])
    raw = np.random.default_rng(seed).integers(0, 2 if datatype == "BOOL" else 100, size=shape)
    array = np.asarray(raw).astype(dtype)
    made = tensors.Tensor("x", datatype, array.shape, array)
    binary = tensors.read({"name": "x", "datatype": datatype, "shape": shape}, memoryview(tensors.to_binary(made)))
    text = json.loads(json.dumps(tensors.to_json(made)))
    for found in (binary, tensors.read(text, None)):
        assert found.shape == array.shape
        np.testing.assert_array_equal(found.data, array)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
_ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["input_ids", "attention_mask", "token_type_ids", "text"]) | _JSON,
        "shape": st.lists(st.integers(-1, 3), max_size=3) | _JSON,
        "datatype": st.sampled_from(["INT64", "BYTES", "FP32"]) | _JSON,
        "data": st.lists(st.integers(0, 9) | st.text(max_size=3), max_size=9) | _JSON,
        "parameters": st.dictionaries(st.sampled_from(["binary_data_size"]), st.integers(-1, 9) | _JSON) | _JSON,
    },
)
_ASKED = st.fixed_dictionaries(
    {}, optional={"inputs": st.lists(_ENTRY, max_size=4) | _JSON, "outputs": _JSON, "parameters": _JSON, "id": _JSON}
)


def test_no_request_gives_an_internal_error(serve: Serve) -> None:
    client = serve("tagger")

    @settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(asked=_ASKED | _JSON, inputs=_JSON, options=_JSON)
    def ask(asked: Any, inputs: Any, options: Any) -> None:
        assert client.post("/v2/models/tagger/infer", json=asked).status_code < 500
        plain = client.post("/predict/tagger", json={"inputs": inputs, "options": options})
        assert plain.status_code < 500

    ask()
