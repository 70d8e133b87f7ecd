"""Linear layers that answer by oneDNN: the same numbers to rounding, and only where numbers alone are wanted."""

from __future__ import annotations

import copy
import io

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import zoo
import zoo.backends.transformers
from tests.test_import import loaded_by
from zoo.backends import halved, linear
from zoo.backends.transformers.parts import linear_head

pytestmark = pytest.mark.skipif(
    not (torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")),  # type: ignore[no-untyped-call]
    reason="needs a torch with oneDNN",
)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(256, 512)
        self.second = Conv1D(1024, 512)
        self.third = nn.Linear(1024, 256, bias=False)
        self.small = nn.Linear(256, 4)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.small(self.third(self.second(self.first(x))))
        return found


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that oneDNN was given, on any processor."""
    monkeypatch.setattr(linear, "worthwhile", lambda: True)
    shapes: list[tuple[int, ...]] = []
    real = linear.product

    def noted(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        shapes.append(tuple(weight.shape))
        return real(input, weight, bias)

    monkeypatch.setattr(linear, "product", noted)
    return shapes


def quick() -> Net:
    net = Net()
    linear.quicken(net)
    return net


ALL = [(512, 256), (1024, 512), (256, 1024)]


@pytest.mark.parametrize("shape", [(64, 256), (2, 32, 256), (3, 2, 16, 256)])
def test_answers_are_the_same_to_rounding(asked: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(0).normal(size=shape).astype(np.float32))
    plain, net = Net(), quick()
    for context in (torch.no_grad, torch.inference_mode):
        asked.clear()
        with context():
            torch.testing.assert_close(net(x), plain(x), rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(net(x.flip(0)), plain(x.flip(0)), rtol=1e-5, atol=1e-5)
        # The last layer is too small to be worth it.
        assert asked == ALL * 2


def test_what_is_too_little_work_goes_the_short_way(asked: list[tuple[int, ...]]) -> None:
    with torch.inference_mode():
        quick()(torch.zeros(1, 256))
        # A weight that takes long to fetch is worth it for one row.
        assert asked == [(1024, 512)]
        quick()(torch.zeros(0, 256))
        assert asked == [(1024, 512)]


def test_training_is_what_it_was(asked: list[tuple[int, ...]]) -> None:
    x = torch.randn(64, 256)
    plain, net = Net(), quick()
    for each in (plain, net):
        each(x).square().sum().backward()
    assert asked == []
    for one, other in zip(plain.parameters(), net.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    assert plain.state_dict().keys() == net.state_dict().keys()


def test_autocast_and_other_types_are_torchs_own(asked: list[tuple[int, ...]]) -> None:
    x = torch.randn(64, 256)
    with torch.inference_mode():
        with torch.autocast("cpu", torch.bfloat16):
            assert quick()(x).dtype is torch.bfloat16
        assert quick().double()(x.double()).dtype is torch.float64
    assert asked == []


def test_a_copy_is_quick_and_a_graph_is_of_onnx_alone(asked: list[tuple[int, ...]]) -> None:
    net = copy.deepcopy(quick()).eval()
    x = torch.randn(64, 256)
    with torch.inference_mode():
        net(x)
    assert asked == ALL
    asked.clear()
    with torch.no_grad():
        program = torch.onnx.export(net, (x,), dynamo=True, verbose=False)
    assert asked == []
    assert program is not None
    written = io.BytesIO(program.model_proto.SerializeToString())
    assert {node.domain for node in onnx.load(written).graph.node} == {""}


def test_a_saved_module_is_read_again(asked: list[tuple[int, ...]]) -> None:
    assert zoo.backends.transformers
    net, file, x = quick(), io.BytesIO(), torch.randn(64, 256)
    torch.save(net, file)
    file.seek(0)
    found = torch.load(file, weights_only=False)
    with torch.inference_mode():
        assert torch.equal(found(x), net(x))
    assert asked == ALL * 2


def test_layers_of_other_libraries_load_no_transformers() -> None:
    statement = (
        "import torch; from zoo.backends import linear; linear.worthwhile = lambda: True; "
        "linear.quicken(torch.nn.Linear(256, 512))"
    )
    assert loaded_by(statement, ("transformers", "timm")) == []


def test_other_processors_and_kinds_of_layers_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Linear):
        pass

    monkeypatch.setattr(linear, "worthwhile", lambda: True)
    net = nn.ModuleList([Own(256, 512), nn.Bilinear(8, 8, 8)])
    linear.quicken(net)
    assert [type(part) for part in net] == [Own, nn.Bilinear]
    monkeypatch.setattr(linear, "worthwhile", lambda: False)
    monkeypatch.setattr(halved, "possible", lambda: False)
    assert {type(part) for part in quick().children()} == {nn.Linear, Conv1D}


def test_an_output_layer_that_answers_quickly_is_one_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(nn.Linear):
        pass

    net = zoo.load("distilgpt2", weights=None, device="cpu", seed=0).module.net
    assert linear_head(net) is net.get_output_embeddings()
    for kind, expected in ((nn.Linear, True), (linear.Linear, True), (Own, False)):
        monkeypatch.setattr(net.get_output_embeddings(), "__class__", kind)
        assert (linear_head(net) is not None) is expected


@pytest.mark.parametrize(("maker", "expected"), [("AuthenticAMD", True), ("GenuineIntel", False), ("", False)])
def test_it_is_for_the_processors_that_mkl_is_slow_on(
    monkeypatch: pytest.MonkeyPatch, maker: str, expected: bool
) -> None:
    monkeypatch.setattr(linear, "_maker", lambda: maker)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    linear.worthwhile.cache_clear()
    try:
        assert linear.worthwhile() is expected
    finally:
        linear.worthwhile.cache_clear()
