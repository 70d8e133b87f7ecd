"""Weights rounded all channels at once are what ONNX Runtime's own quantizers make of them, to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import base_quantizer, qdq_quantizer
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.onnx_quantizer import ONNXQuantizer
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from tests.conformance.conftest import tiny_model
from zoo.modalities.base import Array
from zoo.precision import int8, quantizers
from zoo.precision.source import Source

STATIC = (*int8.MATRICES, *int8.CONVOLUTIONS, *int8.BETWEEN)


@pytest.fixture(scope="module", params=[("gpt2", "text-generation"), ("resnet50", "image-classification")])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Source:
    name, task = request.param
    folder = tmp_path_factory.mktemp("model") / "a.bundle"
    return Source(tiny_model(name, task).export(folder).folder / "model.onnx")


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Source:
    """Columns of nothing, of almost nothing, of one sign, of ties, of numbers whose range float32 can't hold; and a
    bias that makes scales larger."""
    rng = np.random.default_rng(0)
    weights = rng.standard_normal((16, 12)).astype(np.float32)
    weights[:, 0], weights[:, 1], weights[:, 2], weights[:, 3] = 0, 1e-42, np.abs(weights[:, 2]), -np.abs(weights[:, 3])
    weights[:, 4], weights[:, 5], weights[0, 6] = np.arange(16) - 8 + 0.5, 3e38, 3e38
    weights[::2, 5] *= -1
    given = {"w": weights, "b": np.full(12, 1e12, dtype=np.float32), "v": rng.standard_normal((12, 12)).astype("f")}
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["y"], "first"),
        helper.make_node("MatMul", ["y", "v"], ["z"], "second"),
    ]
    ends = [helper.make_tensor_value_info(name, 1, ["batch", size]) for name, size in (("x", 16), ("z", 12))]
    graph = helper.make_graph(
        nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(array, name) for name, array in given.items()]
    )
    path = tmp_path_factory.mktemp("odd") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    return Source(path)


def ranges_of(source: Source) -> Any:
    names = {name for node in source.nodes for name in (*node.input, *node.output)} - source.weights.keys()
    return TensorsData(CalibrationMethod.MinMax, {name: (np.float32(-3), np.float32(4)) for name in names})


def arrays(model: Any) -> dict[str, Array]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def assert_same(found: Any, expected: Any) -> None:
    ours, theirs = arrays(found), arrays(expected)
    assert ours.keys() == theirs.keys()
    for name, array in theirs.items():
        assert ours[name].dtype == array.dtype
        np.testing.assert_array_equal(ours[name], array, err_msg=name)
    assert [node.SerializeToString() for node in found.graph.node] == [
        node.SerializeToString() for node in expected.graph.node
    ]


def both(source: Source, way: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    """Made by ours, which may not round a single channel as upstream does, and by theirs."""

    def made() -> Any:
        conversion = int8.dynamic() if way == "dynamic" else int8.static(STATIC, ranges_of(source))
        return conversion(source.copy(), frozenset())

    with monkeypatch.context() as patched:
        patched.setattr(base_quantizer.BaseQuantizer, "quantize_weight_per_channel_impl", unexpected)
        original = qdq_quantizer.quantize_onnx_initializer
        patched.setattr(
            qdq_quantizer,
            "quantize_onnx_initializer",
            lambda weight, kind, zero, scale, axis=None, *more, **named: (
                unexpected() if axis is not None else original(weight, kind, zero, scale, axis, *more, **named)
            ),
        )
        ours = made()
    monkeypatch.setattr(quantizers, "DynamicQuantizer", ONNXQuantizer)
    monkeypatch.setattr(quantizers, "StaticQuantizer", QDQQuantizer)
    return ours, made()


def unexpected(*given: Any, **named: Any) -> Any:
    raise AssertionError("Upstream rounds a channel.")


@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_graphs_are_those_of_upstream(source: Source, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = both(source, way, monkeypatch)
    assert_same(ours, theirs)
    if way == "static" or "MatMul" in {node.op_type for node in source.nodes}:
        assert any(array.dtype == np.int8 and array.ndim > 1 for array in arrays(ours).values())


@pytest.mark.parametrize("way", ["dynamic", "static"])
def test_odd_weights_are_rounded_as_upstream_does(odd: Source, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_same(*both(odd, way, monkeypatch))


def test_what_someone_wants_otherwise_is_left_to_upstream(odd: Source) -> None:
    def made(kind: Any) -> Any:
        wanted = {"TensorQuantOverrides": {"w": [{"axis": 1, "symmetric": False}]}, "MinimumRealRange": 1e-3}
        options = {"DefaultTensorType": 1, **wanted}
        quantizer = kind(odd.copy(), True, True, 3, 2, ranges_of(odd), [], [], ["MatMul", "Gemm"], options)
        quantizer.quantize_model()
        return quantizer.model.model

    assert_same(made(quantizers.StaticQuantizer), made(QDQQuantizer))
