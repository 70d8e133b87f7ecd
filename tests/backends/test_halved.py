"""Linear layers in bfloat16: autocast's numbers, by weights that are laid out once and never out of date."""

from __future__ import annotations

import copy
import gc

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

import zoo
import zoo.backends.transformers
from zoo.backends import halved, linear

pytestmark = pytest.mark.skipif(not halved.possible(), reason="needs oneDNN with bfloat16 for this processor")


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Linear(256, 512)
        self.second = Conv1D(384, 512)
        self.third = nn.Linear(384, 256, bias=False)
        nn.init.normal_(self.second.bias)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.third(self.second(self.first(x)))
        return found


@pytest.fixture
def laid(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The shapes of the weights that were laid out, `[out, in]`."""
    shapes: list[tuple[int, ...]] = []
    real = halved._laid_out

    def noted(weight: Tensor) -> Tensor:
        shapes.append(tuple(weight.shape))
        return real(weight)

    monkeypatch.setattr(halved, "_laid_out", noted)
    return shapes


ALL = [(512, 256), (384, 512), (256, 384)]
X = torch.from_numpy(np.random.default_rng(0).normal(size=(24, 256)).astype(np.float32))


def quick() -> Net:
    net = Net().eval()
    linear.quicken(net)
    return net


def answer(net: nn.Module, x: Tensor = X, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        found: Tensor = net(x)
    return found.clone()


@pytest.mark.parametrize("shape", [(24, 256), (1, 256), (2, 3, 4, 256), (300, 256)])
def test_answers_are_those_of_autocast(laid: list[tuple[int, ...]], shape: tuple[int, ...]) -> None:
    x = torch.from_numpy(np.random.default_rng(1).normal(size=shape).astype(np.float32))
    net, wanted = quick(), answer(Net(), x)
    for given in (x, x.bfloat16(), x):
        found = answer(net, given)
        assert found.dtype is torch.bfloat16
        torch.testing.assert_close(found, wanted, rtol=2e-2, atol=2e-2)
    assert laid == ALL


def test_a_weight_that_changed_is_laid_out_anew(laid: list[tuple[int, ...]]) -> None:
    net, plain = quick(), Net()
    answer(net)

    def anew() -> list[tuple[int, ...]]:
        laid.clear()
        torch.testing.assert_close(answer(net), answer(plain), rtol=2e-2, atol=2e-2)
        return list(laid)

    for each in (net, plain):
        with torch.no_grad():
            each.first.weight.mul_(-2)
    assert anew() == [(512, 256)]
    for each in (net, plain):
        with torch.no_grad():
            each.first.weight[3, 5] += 9.0
    assert anew() == [(512, 256)]
    for each in (net, plain):
        # Not counted by torch; so do peft's adapters merge.
        each.second.weight.data += 0.5
    assert anew() == [(384, 512)]
    for each in (net, plain):
        each.second.bias.data += 3
    assert anew() == [(384, 512)]
    for each in (net, plain):
        each.third.weight = nn.Parameter(each.third.weight.detach().flip(0))
    assert anew() == [(256, 384)]
    state = {name: tensor.flip(0) for name, tensor in net.state_dict().items()}
    for each in (net, plain):
        each.load_state_dict(state)
    assert anew() == ALL
    assert anew() == []


def test_what_is_kept_goes_where_the_layer_learns_moves_or_ends(laid: list[tuple[int, ...]]) -> None:
    gc.collect()
    before = len(halved._kept)
    net = quick()
    answer(net)
    assert len(halved._kept) == before + 3
    net.eval()
    assert len(halved._kept) == before + 3
    net.train()
    assert len(halved._kept) == before
    answer(net)
    net.double()
    assert len(halved._kept) == before
    net.float()
    answer(net)
    del net
    gc.collect()
    assert len(halved._kept) == before


def test_a_copy_lays_out_its_own(laid: list[tuple[int, ...]]) -> None:
    net = quick()
    answer(net)
    other = copy.deepcopy(net)
    with torch.no_grad():
        other.first.weight.zero_()
    laid.clear()
    assert not torch.equal(answer(other), answer(net))
    assert laid == ALL


def test_nothing_is_kept_for_what_learns_is_traced_or_asked_for_in_other_numbers(laid: list[tuple[int, ...]]) -> None:
    net, plain = quick(), Net()
    for each in (net, plain):
        with torch.autocast("cpu", torch.bfloat16):
            each(X).float().square().sum().backward()
    for one, other in zip(net.parameters(), plain.parameters(), strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert torch.equal(one.grad, other.grad)
    assert torch.equal(answer(net, dtype=torch.float16), answer(plain, dtype=torch.float16))
    with torch.inference_mode():
        torch.testing.assert_close(net(X), plain(X), rtol=1e-5, atol=1e-5)
        made = quick()
        answer(made)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        graph = torch.export.export(quick(), (X,)).graph
    assert not any("mkldnn" in str(node.target) for node in graph.nodes)
    assert laid == []


def test_a_model_that_learned_on_answers_by_what_it_learned() -> None:
    model = zoo.load("bert-tiny", weights=None, task="text-classification", labels=["a", "b"], seed=0, precision="bf16")
    rows = [("red " * 9, "a"), ("blue " * 9, "b")] * 4
    before = model.predict(rows[0][0])
    model.finetune(rows, None, epochs=6, batch_size=4, learning_rate=1e-3, precision="bf16", progress=False, lint=False)
    after = model.predict(rows[0][0])
    assert after.top != before.top
    model.precision = "fp32"
    wanted = {item.label: item.score for item in model.predict(rows[0][0]).top}
    assert {item.label: item.score for item in after.top} == pytest.approx(wanted, abs=2e-2)
