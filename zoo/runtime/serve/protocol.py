"""The Open Inference Protocol v2, with its binary extension: what `tritonclient.http` speaks.

A model takes the tensors of its graph and gives the graph's outputs; or it takes one raw input as BYTES (`text`,
`image`, `audio`, `row`) and gives `result`, each element a typed result as JSON. Source: the protocol's specification,
`docs/predict-api-v2/required_api.md`, and Triton's `extension_binary_data.md` and `extension_model_repository.md`.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from starlette.requests import Request
from starlette.responses import Response

import zoo
from zoo.bundle import TensorSpec
from zoo.errors import BundleError
from zoo.results import RowError
from zoo.runtime.raw import OWN_PARAMETERS, RESULT
from zoo.runtime.serve import tensors
from zoo.runtime.serve.answers import awaited, parsed
from zoo.runtime.serve.bodies import Budget, body_of
from zoo.runtime.serve.contract import check_tensors
from zoo.runtime.serve.inputs import json_of, option_names
from zoo.runtime.serve.refusals import Refusal, reply
from zoo.runtime.serve.settings import Limits
from zoo.runtime.serve.shelf import Loaded, Shelf
from zoo.runtime.serve.tensors import Tensor

VERSION = "1"
_LENGTH = "Inference-Header-Content-Length"


class Asked(NamedTuple):
    """A request to infer, read. wanted: names of outputs and whether each is binary, or None for all."""

    id: Any
    inputs: list[Tensor]
    options: dict[str, Any]
    wanted: dict[str, bool] | None
    binary: bool


def server_metadata() -> dict[str, Any]:
    return {"name": "polyzoo", "version": zoo.__version__, "extensions": ["binary_tensor_data", "model_repository"]}


def model_metadata(loaded: Loaded) -> dict[str, Any]:
    """inputs, outputs: of the graph; of a bundle with several graphs the raw input and its result."""
    reader, card = loaded.reader, loaded.model.card
    raw = {"name": reader.kind, "datatype": "BYTES", "shape": [-1]}
    result = {"name": RESULT, "datatype": "BYTES", "shape": [-1]}
    inputs, outputs = loaded.graph or ((), ())
    return {
        "name": loaded.name,
        "versions": [VERSION],
        "platform": "onnxruntime_onnx",
        "inputs": [_stated(item) for item in inputs] or [raw],
        "outputs": [_stated(item) for item in outputs] or [result],
        "parameters": {
            "task": card.task,
            "model": card.spec.name,
            "raw_input": raw,
            "raw_output": result,
            "columns": list(reader.columns),
            "optional_columns": list(reader.optional),
            "options": option_names(loaded.model),
            "labels": list(loaded.model.labels),
        },
    }


def _stated(item: TensorSpec) -> dict[str, Any]:
    shape = [axis if isinstance(axis, int) else -1 for axis in item.shape]
    return {"name": item.name, "datatype": tensors.DATATYPES.get(item.dtype, "BF16"), "shape": shape}


async def infer(request: Request, shelf: Shelf, limits: Limits, budget: Budget) -> Response:
    name = request.path_params["name"]
    check_version(request)
    async with body_of(request, limits, budget) as body:
        with shelf.use(name) as loaded:
            request.state.model = name
            asked = await parsed(len(body), functools.partial(_read, body, request.headers.get(_LENGTH)))
            outputs = await _outputs(request, loaded, asked, limits)
            size = sum(len(item.data) for item in outputs) + len(body)
            return await parsed(size, functools.partial(_answer, loaded, asked, outputs))


def check_version(request: Request) -> None:
    if request.path_params.get("version", VERSION) != VERSION:
        raise Refusal(404, f"There is no such version of the model: each has one, {VERSION}.")


async def _outputs(request: Request, loaded: Loaded, asked: Asked, limits: Limits) -> list[Tensor]:
    raw = next((item for item in asked.inputs if item.name == loaded.reader.kind and item.datatype == "BYTES"), None)
    if raw is not None:
        if len(asked.inputs) > 1:
            raise Refusal(400, f"{raw.name} is the whole input; {len(asked.inputs) - 1} more came.")
        return [await _results(request, loaded, raw, asked.options, limits)]
    given = {item.name: item.data for item in asked.inputs}
    check_tensors(loaded, asked.inputs, limits)
    if asked.options:
        raise Refusal(400, f"Options go with the input {loaded.reader.kind}; tensors have none.")
    try:
        found = await awaited(request, loaded.run(given), seconds=limits.timeout)
    except BundleError as error:
        # An id beyond the vocabulary, say: the graph's own check, whose message names its inside.
        raise Refusal(400, "The graph can't take these values, as an id beyond its vocabulary.") from error
    outputs = {name: np.stack([row[name] for row in found]) for name in found[0]}
    return [Tensor(name, tensors.DATATYPES[str(array.dtype)], array.shape, array) for name, array in outputs.items()]


async def _results(request: Request, loaded: Loaded, raw: Tensor, options: dict[str, Any], limits: Limits) -> Tensor:
    """One result for each element of a BYTES input."""
    reader = loaded.reader
    key, _ = reader.options(options)
    size = sum(map(len, raw.data))
    rows, _ = await parsed(size, lambda: reader.rows([reader.element(e) for e in raw.data]), heavy=reader.media)
    found = await awaited(request, loaded.predict(rows, options, key), seconds=limits.timeout)
    for index, result in enumerate(found):
        if isinstance(result, RowError):
            raise Refusal(400, f"Element {index}: {result.message}")
    return Tensor(RESULT, "BYTES", raw.shape, [json.dumps(result, separators=(",", ":")) for result in found])


def _read(body: bytes, length: str | None) -> Asked:
    head, rest = body, memoryview(b"")
    if length is not None:
        if not length.isdecimal() or len(length) > 12 or int(length) > len(body):
            raise Refusal(400, f"{_LENGTH} is no number of bytes within the body.")
        head, rest = body[: int(length)], memoryview(body)[int(length) :]
    given = json_of(head)
    if not isinstance(given, dict) or not isinstance(given.get("inputs"), list) or not given["inputs"]:
        raise Refusal(400, 'The body is an object with a list "inputs" of at least one tensor.')
    parameters = _parameters(given)
    inputs = []
    for entry in given["inputs"]:
        size = _parameters(entry).get("binary_data_size")
        inputs.append(tensors.read(entry, None if size is None else _part(size, rest)))
        rest = rest[size or 0 :]
    if len(rest):
        raise Refusal(400, f"{len(rest)} bytes came that no input's binary_data_size counts.")
    if len({item.name for item in inputs}) < len(inputs):
        raise Refusal(400, "Two inputs have one name.")
    binary = parameters.get("binary_data_output") is True
    options = {name: value for name, value in parameters.items() if name not in OWN_PARAMETERS}
    return Asked(given.get("id"), inputs, options, _wanted(given, binary), binary)


def _parameters(given: Any) -> Mapping[str, Any]:
    found = given.get("parameters", {}) if isinstance(given, dict) else {}
    if not isinstance(found, dict):
        raise Refusal(400, "parameters is an object.")
    return found


def _part(size: Any, rest: memoryview) -> memoryview:
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size <= len(rest):
        raise Refusal(400, "binary_data_size is no number of bytes within the body.")
    return rest[:size]


def _wanted(given: dict[str, Any], binary: bool) -> dict[str, bool] | None:
    outputs = given.get("outputs")
    if not outputs:
        return None
    if not isinstance(outputs, list) or not all(
        isinstance(o, dict) and isinstance(o.get("name"), str) for o in outputs
    ):
        raise Refusal(400, "outputs is a list of objects with a name.")
    return {output["name"]: _parameters(output).get("binary_data", binary) is True for output in outputs}


def _name(output: Any) -> Any:
    return output.get("name") if isinstance(output, dict) else None


def _answer(loaded: Loaded, asked: Asked, outputs: list[Tensor]) -> Response:
    known = {item.name: item for item in outputs}
    wanted = asked.wanted if asked.wanted is not None else dict.fromkeys(known, asked.binary)
    for name in wanted:
        if name not in known:
            raise Refusal(400, f"There is no output {name[:80]!r}. The outputs are: {', '.join(known)}.")
    entries, parts = [], []
    for name, binary in wanted.items():
        if not binary:
            entries.append(tensors.to_json(known[name]))
            continue
        part = tensors.to_binary(known[name])
        parts.append(part)
        entries.append(
            {"name": name, "datatype": known[name].datatype, "shape": list(known[name].shape),
             "parameters": {"binary_data_size": len(part)}}
        )  # fmt: skip
    content = {"model_name": loaded.name, "model_version": VERSION, "outputs": entries}
    if isinstance(asked.id, str):
        content["id"] = asked.id[:200]
    answer = reply(content)
    if not parts:
        return answer
    head = bytes(answer.body)
    return Response(b"".join([head, *parts]), 200, {_LENGTH: str(len(head))}, media_type="application/octet-stream")
