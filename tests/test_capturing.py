"""What is exported is traced once, and its graph is what the exporter's own three traces lead to."""

from __future__ import annotations

import collections
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch.nn import functional

import zoo
from tests.conformance.conftest import tiny_model
from zoo import tracing
from zoo.capturing import capture

# What takes the time: the rest is shapes.
_HEAVY = ("Attention", "Conv", "Gelu", "Gemm", "LayerNormalization", "MatMul", "Softmax")


@pytest.fixture
def retraced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one whenever a program is traced again."""
    found: list[str] = []
    again = torch.export.ExportedProgram.run_decompositions

    def spied(program: Any, *args: Any, **more: Any) -> Any:
        found.append("again")
        return again(program, *args, **more)

    monkeypatch.setattr(torch.export.ExportedProgram, "run_decompositions", spied)
    return found


def _made_elsewhere(x: Any) -> Any:
    y = x * 2
    y.relu_()
    return y + 1


def _before_and_after(x: Any) -> Any:
    y = x * 2
    total = y.sum()
    y.relu_()
    return y * total


def _twice(x: Any) -> Any:
    y = x * 2
    y.relu_()
    y.add_(1)
    return y


def _of_a_dropout(x: Any) -> Any:
    # A dropout that drops nothing gives its input itself.
    y = x * 2
    functional.dropout(y, training=False).relu_()
    return y + 1


def _given_back(x: Any) -> Any:
    return (x * 2).relu_()


def _pooled(x: Any) -> Any:
    return functional.adaptive_avg_pool2d(x, 1).flatten(1)


def _logic(x: Any) -> Any:
    return ((x > 0) & (x < 1)).float() + ((x < -1) | (x > 1)).float() + torch.min(x, x * 3) + torch.max(x, x * 3)


def _cast(x: Any) -> Any:
    return x.to(torch.float64).to(torch.float32).to("cpu") * 2


def _normed(x: Any) -> Any:
    mean, variance = torch.arange(3.0), torch.arange(1.0, 4.0)
    return functional.batch_norm(x, mean, variance, eps=0.1).relu_()


def _same_shape(x: Any) -> Any:
    return x.reshape(x.shape[0], 3, -1).reshape(x.shape[0], 3, -1).expand(x.shape[0], 3, 16) * 2


def _in_windows(x: Any) -> Any:
    # [batch, windows, heads, T, D]
    windows = x.reshape(x.shape[0], 3, 2, 2, 4)
    return functional.scaled_dot_product_attention(windows, windows * 2, windows + 1, scale=0.5).flatten(1)


def _weight_of_length_and_direction(x: Any) -> Any:
    direction, length = torch.arange(1.0, 13.0).reshape(3, 4), torch.arange(1.0, 4.0).reshape(3, 1)
    return torch._weight_norm(direction, length, 0) * x[:, :, 0]


def _through_a_view(x: Any) -> Any:
    y = x * 2
    flat = y.view(-1)
    y.relu_()
    return flat + 1


def _part_of_it(x: Any) -> Any:
    y = x * 2
    y[:, 0] = 0
    return y


def _into_the_input(x: Any) -> Any:
    y = x * 1
    y.view(-1).mul_(3)
    return y


SHORT = [
    _made_elsewhere, _before_and_after, _twice, _of_a_dropout, _given_back, _pooled, _logic, _cast, _normed,
    _same_shape, _in_windows, _weight_of_length_and_direction,
]  # fmt: skip
LONG = [_through_a_view, _part_of_it, _into_the_input]


def _exported(given: Any, x: Any, path: Path) -> list[Any]:
    with torch.no_grad():
        program = torch.onnx.export(given, (x,), opset_version=tracing.OPSET, verbose=False)
    program.save(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return list(session.run(None, {session.get_inputs()[0].name: x.numpy()}))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", [*SHORT, *LONG], ids=lambda function: function.__name__.strip("_"))
def test_the_graph_answers_as_the_function_does(
    function: Callable[[Any], Any], tmp_path: Path, retraced: list[str]
) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return function(x)

    x = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    module = Module().eval()
    with torch.no_grad():
        program = capture(module, (x,), ({0: torch.export.Dim.DYNAMIC},))
    (found,) = _exported(program, x, tmp_path / "a.onnx")
    np.testing.assert_allclose(found, function(x.clone()).numpy(), rtol=1e-5, atol=1e-5)
    assert bool(retraced) == (function in LONG)


@pytest.mark.filterwarnings("ignore")
def test_the_exporter_finds_another_way_into_what_is_not_traced_so(tmp_path: Path) -> None:
    class Module(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            # The batch is said to be of any size, and is of two here for ever.
            return x + torch.zeros(2, 3)

    module, x = Module().eval(), torch.ones(2, 3)
    assert capture(module, (x,), ({0: torch.export.Dim.DYNAMIC},)) is module


@pytest.mark.parametrize("name", ["bert-base-cased", "resnet18", "gpt2", "vit-base-patch16-224", "wav2vec2-base"])
def test_known_architectures_are_traced_once_to_a_graph_as_good_as_that_of_three_traces(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, retraced: list[str]
) -> None:
    model = tiny_model(name)
    model.export(tmp_path / "once.bundle")
    assert not retraced
    monkeypatch.setattr("zoo.capturing.capture", lambda module, inputs, dynamic_shapes: module)
    model.export(tmp_path / "thrice.bundle")
    assert retraced
    once, thrice = (_operators(tmp_path / f"{path}.bundle" / "model.onnx") for path in ("once", "thrice"))
    assert {kind: once[kind] for kind in _HEAVY} == {kind: thrice[kind] for kind in _HEAVY}
    assert once.total() <= thrice.total()


def _operators(path: Path) -> collections.Counter[str]:
    return collections.Counter(node.op_type for node in onnx.load(str(path)).graph.node)


def test_a_network_without_a_graph_is_refused_with_the_operator_that_onnx_lacks(tmp_path: Path) -> None:
    class Module(torch.nn.Module):
        def forward(self, numbers: Any) -> dict[str, Any]:
            return {"logits": torch.linalg.eigvals(numbers).abs()}

    example = {"numbers": np.eye(3, dtype=np.float32)[None].repeat(2, axis=0)}
    with pytest.raises(zoo.ConfigError, match=r"can't be exported to ONNX by torch .*linalg_eig") as raised:
        tracing.write_graph(Module(), example, tmp_path / "a.onnx")  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)


def test_the_exporter_reads_no_sources_of_its_operators_for_the_same_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxscript.function_libs.torch_lib.ops  # noqa: F401  # Reads some of its own when it is imported.
    from onnxscript._internal import ast_utils, values

    read, sources = ast_utils.get_src_and_ast, []
    monkeypatch.setattr(ast_utils, "get_src_and_ast", lambda function: sources.append(function) or read(function))
    parsing, model = vars(values.TracedOnnxFunction)["function_ir"], tiny_model("resnet18")
    model.export(tmp_path / "unread.bundle")
    assert sources == []
    assert vars(values.TracedOnnxFunction)["function_ir"] is parsing
    monkeypatch.setattr(tracing, "_parsing", lambda: (object, None))
    model.export(tmp_path / "read.bundle")
    assert len(sources) > 100
    unread, other = (tmp_path / f"{name}.bundle" / "model.onnx" for name in ("unread", "read"))
    assert unread.read_bytes() == other.read_bytes()
