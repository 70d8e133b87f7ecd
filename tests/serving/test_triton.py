"""A model repository of Triton, held to Triton's own message types; its Python model behind a stand-in of the backend.

The server itself is not run: it has no package, and needs its own container.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnxruntime
import pytest

import zoo
from tests.serving.conftest import png, wav
from tests.test_cli import fails, ok
from zoo import layouts

_ORT = {"tensor(float)": "TYPE_FP32", "tensor(int64)": "TYPE_INT64", "tensor(uint8)": "TYPE_UINT8"}
_NUMPY = {"TYPE_FP32": np.float32, "TYPE_INT64": np.int64, "TYPE_UINT8": np.uint8}
OPTIONS = {"writer": {"max_new_tokens": 4, "do_sample": False}, "animals": {"top_k": 2}}


def config(folder: Path) -> Any:
    """config.pbtxt as the server parses it: an unknown field, a wrong type or a wrong word is an error."""
    messages = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="needs tritonclient's gRPC messages")
    from google.protobuf import text_format

    return text_format.Parse((folder / "config.pbtxt").read_text(encoding="utf-8"), messages.ModelConfig())


def word(message: Any, field: str) -> str:
    return str(message.DESCRIPTOR.fields_by_name[field].enum_type.values_by_number[getattr(message, field)].name)


def raws(name: str) -> list[Any]:
    if name == "animals":
        return [png(60, 40), png(33, 90)]
    if name == "speech":
        return [wav(0.4), wav(0.9)]
    return ["Ada Lovelace lives in London.", "Zürich"]


class Backend(ModuleType):
    """`triton_python_backend_utils` as its README describes it, over a repository's graphs in ONNX Runtime.

    It refuses what the server would: a tensor that is not in the configuration, of another type or shape, or a batch
    beyond max_batch_size.
    """

    TRITONSERVER_MEMORY_CPU = 0

    class Tensor:
        def __init__(self, name: str, array: Any) -> None:
            self._name, self._array = name, array

        def name(self) -> str:
            return self._name

        def as_numpy(self) -> Any:
            return self._array

    class TritonError:
        INVALID_ARG, INTERNAL = "INVALID_ARG", "INTERNAL"

        def __init__(self, message: str, code: str = "INTERNAL") -> None:
            self._message, self._code = message, code

        def message(self) -> str:
            return self._message

        def code(self) -> str:
            return self._code

    class InferenceResponse:
        def __init__(self, output_tensors: Sequence[Any] = (), error: Any = None) -> None:
            self._tensors, self._error = list(output_tensors), error

        def output_tensors(self) -> list[Any]:
            return self._tensors

        def has_error(self) -> bool:
            return self._error is not None

        def error(self) -> Any:
            return self._error

    class PreferredMemory:
        def __init__(self, kind: int, device: int) -> None:
            self.kind, self.device = kind, device

    class Logger:
        logged: list[str]

    def __init__(self, repository: Path) -> None:
        super().__init__("triton_python_backend_utils")
        backend, self.batches, logged = self, list[int](), list[str]()

        class Logger:
            @staticmethod
            def log_error(message: str) -> None:
                logged.append(message)

        class InferenceRequest:
            def __init__(
                self, model_name: str, requested_output_names: list[str], inputs: list[Any], preferred_memory: Any
            ) -> None:
                self._given = (model_name, requested_output_names, inputs)
                assert preferred_memory.kind == backend.TRITONSERVER_MEMORY_CPU, "as_numpy() of what a GPU holds fails"

            def exec(self) -> Any:
                return backend.run(repository, *self._given)

        self.logged = logged
        self.Logger = Logger  # type: ignore[assignment,misc]
        self.InferenceRequest = InferenceRequest

    @staticmethod
    def get_input_tensor_by_name(request: Any, name: str) -> Any:
        return next((tensor for tensor in request.inputs if tensor.name() == name), None)

    def run(self, repository: Path, model: str, outputs: list[str], inputs: list[Any]) -> Any:
        said = config(repository / model)
        rows = {len(tensor.as_numpy()) for tensor in inputs}
        assert len(rows) == 1
        assert {tensor.name() for tensor in inputs} == {item.name for item in said.input}
        if max(rows) > said.max_batch_size:
            return self.InferenceResponse(error=self.TritonError(f"batch {rows} is over {said.max_batch_size}"))
        arrays = {tensor.name(): tensor.as_numpy() for tensor in inputs}
        for item in said.input:
            array = arrays[item.name]
            assert array.dtype == _NUMPY[word(item, "data_type")]
            assert len(array.shape) == len(item.dims) + 1
            assert all(dim in (-1, size) for dim, size in zip(item.dims, array.shape[1:], strict=True))
            if item.HasField("reshape"):
                arrays[item.name] = array.reshape(len(array), *item.reshape.shape)
        self.batches += rows
        session = onnxruntime.InferenceSession(repository / model / "1" / "model.onnx")
        found = dict(zip(outputs, session.run(outputs, arrays), strict=True))
        for item in said.output:
            if item.HasField("reshape"):
                found[item.name] = found[item.name].reshape(-1, *item.dims)
        return self.InferenceResponse([self.Tensor(name, array) for name, array in found.items()])


class Request:
    def __init__(self, name: str, elements: Sequence[bytes], **parameters: Any) -> None:
        self.inputs = [Backend.Tensor(name, np.array(elements, dtype=np.object_).reshape(-1, 1))]
        self._parameters = json.dumps(parameters) if parameters else ""

    def parameters(self) -> str:
        return self._parameters


Start = Callable[[str], tuple[Any, Backend, Any]]


@pytest.fixture
def start(bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """start("tagger") lays the bundle out and initializes its model as the Python backend does."""

    def begin(name: str) -> tuple[Any, Backend, Any]:
        layouts.triton(bundles[name], tmp_path)
        from google.protobuf import json_format

        backend, said = Backend(tmp_path), config(tmp_path / name)
        monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
        spec = importlib.util.spec_from_file_location("model", tmp_path / name / "1" / "model.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        model = module.TritonPythonModel()
        model.initialize({
            "model_config": json_format.MessageToJson(said, preserving_proto_field_name=True),
            "model_instance_kind": "CPU",
            "model_name": name,
        })  # fmt: skip
        return model, backend, said

    return begin


@pytest.mark.parametrize("name", ["tagger", "animals", "speech", "writer"])
def test_bytes_in_and_the_bundles_results_out(name: str, start: Start, bundles: dict[str, Path]) -> None:
    model, backend, said = start(name)
    (taken,) = said.input
    given = [raw.encode() if isinstance(raw, str) else raw for raw in raws(name)]
    options = OPTIONS.get(name, {})
    requests = [Request(taken.name, given[:1], **options), Request(taken.name, [given[1], given[0]], **options)]
    responses = model.execute(requests)
    direct = zoo.runtime.load(bundles[name])
    for response, wanted in zip(responses, ([0], [1, 0]), strict=True):
        assert not response.has_error(), response.error().message()
        (tensor,) = response.output_tensors()
        assert (tensor.name(), tensor.as_numpy().shape) == (said.output[0].name, (len(wanted), 1))
        for text, place in zip(tensor.as_numpy().ravel(), wanted, strict=True):
            assert_same(json.loads(text), zoo.results.to_plain(direct.predict(raws(name)[place], **options)))
    # The writer's graphs take turns, which the server's own batches can't.
    assert bool(backend.batches) == (name != "writer")


def assert_same(found: Any, expected: Any) -> None:
    """As they are, but for what rounding does to a score."""
    if isinstance(expected, float):
        assert found == pytest.approx(expected, abs=1e-5)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, (list, tuple)):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_same(one, other)
    else:
        assert found == expected


def test_a_bad_request_is_refused_alone_and_a_fault_of_ours_names_nothing(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, backend, _ = start("animals")
    bad = [b"no picture", b"/etc/hostname"]
    first, second, third = model.execute(
        [Request("image", [png()]), Request("image", bad), Request("image", [png()], top_q=1)]
    )
    assert not first.has_error()
    assert second.error().code() == "INVALID_ARG"
    assert "no picture" in second.error().message() or "image" in second.error().message()
    assert (third.error().code(), "no option 'top_q'" in third.error().message()) == ("INVALID_ARG", True)
    assert backend.logged == []

    def failing(*_: Any) -> Any:
        return backend.InferenceResponse(error=backend.TritonError("out of memory on /secret/place"))

    monkeypatch.setattr(backend, "run", failing)
    (failed,) = model.execute([Request("image", [png()])])
    assert (failed.error().code(), "secret" in failed.error().message()) == ("INTERNAL", False)
    assert "out of memory" in backend.logged[0]


def test_no_batch_is_larger_than_the_graphs_model_takes(start: Start) -> None:
    model, backend, said = start("tagger")
    # A long text is many windows.
    (response,) = model.execute([Request("text", [b"Ada lives in London. " * 400] * 3)])
    assert not response.has_error(), response.error().message()
    assert sum(backend.batches) > said.max_batch_size >= max(backend.batches)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_configuration_is_one_of_tritons_and_says_what_the_graph_is(
    device: Any, bundles: dict[str, Path], tmp_path: Path
) -> None:
    for name, bundle in bundles.items():
        models = layouts.triton(bundle, tmp_path, device=device)
        kinds = {"cpu": "KIND_CPU", "cuda": "KIND_GPU"}
        for model in models:
            said = config(tmp_path / model)
            assert said.name == model
            assert said.HasField("dynamic_batching")
            assert said.max_batch_size > 1
            prepares = len(models) == 2 and model == name
            assert word(said.instance_group[0], "kind") == ("KIND_CPU" if prepares else kinds[device])
            assert (
                tmp_path / model / "1" / {"python": "model.py", "onnxruntime": "model.onnx"}[said.backend]
            ).is_file()
        if len(models) == 2:
            assert config(tmp_path / name).parameters["graph"].string_value == models[1]
            session = onnxruntime.InferenceSession(tmp_path / models[1] / "1" / "model.onnx")
            graph = config(tmp_path / models[1])
            pairs = ((graph.input, session.get_inputs()), (graph.output, session.get_outputs()))
            for stated, real in pairs:
                assert {item.name: word(item, "data_type") for item in stated} == {r.name: _ORT[r.type] for r in real}
                for item in stated:
                    shape = next(r.shape for r in real if r.name == item.name)
                    dims = item.reshape.shape if item.HasField("reshape") else item.dims
                    for dim, axis in zip(dims, shape[1:], strict=True):
                        assert dim == (axis if isinstance(axis, int) else -1)
        assert zoo.verify(tmp_path / name / "1" / "bundle")
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_the_command_lays_out_a_bundle_and_a_model(bundles: dict[str, Path], tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    said = ok("export", bundles["tagger"], "-o", repository, "--layout", "triton")
    assert f"Wrote {repository / 'tagger'} and {repository / 'tagger_graph'}" in said
    # Once more, in its own place.
    assert json.loads(ok("export", bundles["tagger"], "-o", repository, "--layout", "triton", "--json"))["models"]
    (repository / "animals").mkdir()
    (repository / "animals" / "config.pbtxt").write_text('name: "animals"')
    assert "did not write" in fails("export", bundles["animals"], "-o", repository, "--layout", "triton")
    assert "it is bundle or triton" in fails("export", bundles["tagger"], "-o", repository, "--layout", "tritn")
    from tests.conformance.conftest import tiny_model

    tiny_model("resnet18", "image-classification").save(tmp_path / "saved")
    said = ok("export", tmp_path / "saved", "-o", repository, "--layout", "triton")
    assert f"Wrote {repository / 'saved'} and {repository / 'saved_graph'}" in said
    assert sorted(path.name for path in repository.iterdir()) == [
        "animals", "saved", "saved_graph", "tagger", "tagger_graph",
    ]  # fmt: skip
