"""What an exported graph is made of: whole attentions, norms and GELUs, folded constants, a stated opset, any size."""

from __future__ import annotations

import collections
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
import pytest

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny
from zoo import runtime, tracing


def _operators(path: Path) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in onnx.load(str(path), load_external_data=False).graph.node)


def _as_run(path: Path, folder: Path) -> collections.Counter[str]:
    """What ONNX Runtime's CPU provider makes of a graph when it opens it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return _operators(folder / "optimized.onnx")


@pytest.mark.parametrize(
    ("name", "task", "graphs", "fused"),
    [
        ("bert-base-cased", "text-classification", {"model": 2}, {"SkipLayerNormalization", "BiasGelu"}),
        ("vit-base-patch16-224", "image-classification", {"model": 2}, {"BiasGelu"}),
        ("gpt2", "text-generation", {"model": 2}, {"Gelu"}),
        ("qwen2.5-0.5b", "text-generation", {"model": 2}, {"RMSNormalization", "RotaryEmbedding"}),
        ("whisper-tiny", "automatic-speech-recognition", {"encoder": 1, "decoder": 2}, {"BiasGelu"}),
    ],
)
def test_attentions_norms_and_gelus_are_one_operator_each(
    tmp_path: Path, name: str, task: str, graphs: dict[str, int], fused: set[str]
) -> None:
    """graphs: the attentions of each of the tiny network's; fused: what ONNX Runtime puts together further."""
    folder = tmp_path / "a.bundle"
    card = tiny_model(name, task).export(folder).card
    assert card.export is not None
    for graph, attentions in graphs.items():
        path = folder / f"{graph}.onnx"
        found = _operators(path)
        assert found["Attention"] == attentions
        assert not {"Softmax", "Erf", "Constant", "Dropout"} & {*found}
        assert fused <= {*_as_run(path, tmp_path)}
        # ONNX's own operators alone, at the opset that the card states.
        stated = {item.domain: item.version for item in onnx.load(str(path), load_external_data=False).opset_import}
        assert stated == {"": card.export.opset}
        assert card.export.opset == tracing.OPSET


def test_transposed_weights_are_copied_when_they_are_written(tmp_path: Path) -> None:
    """NumPy writes a view number by number, which took a sixth of an export."""
    weights = np.arange(6, dtype=np.float32).reshape(2, 3).T
    given = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["b", 3]))
    held = {
        name: ir.Value(name=name, const_value=ir.Tensor(array, name=name))
        for name, array in (("view", weights), ("rows", np.ascontiguousarray(weights)))
    }
    product = ir.node("MatMul", [given, held["view"]])
    total = ir.node("MatMul", [given, held["rows"]])
    both = ir.node("Add", [product.outputs[0], total.outputs[0]])
    graph = ir.Graph(
        [given], both.outputs, nodes=[product, total, both], initializers=list(held.values()), opset_imports={"": 23}
    )
    tracing._lay_out_rows(graph)
    assert isinstance(held["view"].const_value, ir.LazyTensor)
    assert isinstance(held["rows"].const_value, ir.Tensor)
    for beside in (None, "data"):
        ir.save(ir.Model(graph, ir_version=10), tmp_path / "a.onnx", external_data=beside)
        for tensor in onnx.load(str(tmp_path / "a.onnx")).graph.initializer:
            np.testing.assert_array_equal(onnx.numpy_helper.to_array(tensor), weights)


def test_batch_norms_are_folded_where_the_graph_is_run(tmp_path: Path) -> None:
    tiny_model("resnet18").export(tmp_path / "a.bundle")
    assert "BatchNormalization" not in _as_run(tmp_path / "a.bundle" / "model.onnx", tmp_path)


def test_a_model_of_more_than_two_gigabytes_is_exported_whole(tmp_path: Path) -> None:
    """More than one protobuf message can hold: weights stand beside the graph, and the gate compares the answers."""
    if "ZOO_TEST_LARGE" not in os.environ:
        pytest.skip("needs minutes, 14 GB of memory and 8 GB of disk: set ZOO_TEST_LARGE=1 to run it")
    spec = tiny(zoo.info("gpt2"))
    spec = spec.evolve(config={**spec.config, "vocab_size": 2_200_000, "n_embd": 256})
    made = zoo.load(spec, weights=None, device="cpu", seed=0).export(
        tmp_path / "a.bundle", samples=["one two", "three"]
    )
    folder = tmp_path / "a.bundle"
    assert (folder / "model.onnx.data").stat().st_size > 2**31
    assert (folder / "model.onnx").stat().st_size < 2**20
    said = made.predict("one two", max_new_tokens=2, do_sample=False)
    assert runtime.load(folder).predict("one two", max_new_tokens=2, do_sample=False) == said
