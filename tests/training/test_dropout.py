"""Dropout on a CPU: as often as was asked, as a seed has it, and torch's own wherever ours does not hold."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.training.tiny import run, text_world
from zoo.training import dropout

CPU = torch.device("cpu")


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_as_often_as_asked_and_scaled_by_what_is_kept(p: float) -> None:
    torch.manual_seed(0)
    with dropout.quick(CPU):
        found = functional.dropout(torch.ones(1000, 1001), p)
    kept = found != 0
    # Six standard deviations of a million throws.
    assert abs(float(kept.float().mean()) - (1 - p)) < 6 * (p * (1 - p) / found.numel()) ** 0.5
    assert len(found[kept].unique()) == 1
    assert float(found[kept][0]) == pytest.approx(1 / (1 - p), rel=2e-4)
    # No place knows of its neighbour's, though four come of one number.
    for step in (1, 2, 3, 4):
        flat = kept.flatten().float()
        both = float((flat[:-step] * flat[step:]).mean())
        assert both == pytest.approx((1 - p) ** 2, abs=3e-3)


def test_a_seed_gives_the_same_and_the_next_call_another() -> None:
    layer = nn.Dropout(0.3)
    values = torch.randn(7, 9)

    def drawn() -> list[torch.Tensor]:
        torch.manual_seed(3)
        with dropout.quick(CPU):
            return [layer(values), layer(values)]

    first, again = drawn(), drawn()
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], first[1])


def test_gradients_are_the_mask() -> None:
    values = torch.randn(50, 40, requires_grad=True)
    torch.manual_seed(0)
    with dropout.quick(CPU):
        found = functional.dropout(values, 0.25)
    found.sum().backward()
    assert values.grad is not None
    torch.testing.assert_close(found.detach(), values.detach() * values.grad)
    assert 0.2 < float((values.grad == 0).float().mean()) < 0.3


def test_in_bfloat16_the_same_is_dropped_and_all_stays_in_it() -> None:
    values = torch.randn(40, 50)
    query, key, value = torch.randn(3, 2, 4, 16, 8)
    found = []
    for dtype in (torch.float32, torch.bfloat16):
        torch.manual_seed(0)
        with dropout.quick(CPU), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            found.append(functional.dropout(values.to(dtype), 0.3))
            found.append(
                functional.scaled_dot_product_attention(*(t.to(dtype) for t in (query, key, value)), None, 0.3)
            )
    assert [one.dtype for one in found] == [torch.float32] * 2 + [torch.bfloat16] * 2
    assert torch.equal(found[0] == 0, found[2] == 0)
    for exact, rounded in (found[::2], found[1::2]):
        torch.testing.assert_close(rounded.float(), exact, rtol=2e-2, atol=5e-2)


@pytest.mark.parametrize("kind", ["bool", "float", "none"])
def test_attention_is_torchs(kind: str) -> None:
    """Where almost nothing is dropped, and on average where much is."""
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    seen = torch.rand(2, 1, 6, 6) < 0.7
    seen[..., 0] = True
    mask = {"bool": seen, "float": torch.where(seen, 0.0, -1e9), "none": None}[kind]
    wanted = functional.scaled_dot_product_attention(query, key, value, mask)
    with dropout.quick(CPU):
        assert torch.equal(functional.scaled_dot_product_attention(query, key, value, mask), wanted)
        found = [functional.scaled_dot_product_attention(query, key, value, mask, 0.2) for _ in range(3000)]
    assert not torch.allclose(found[0], found[1])
    torch.testing.assert_close(torch.stack(found).mean(dim=0), wanted, rtol=0, atol=0.1)


def test_torchs_own_where_it_must_be() -> None:
    values = torch.randn(64, 64)

    def both(how: Any) -> None:
        torch.manual_seed(1)
        wanted = how()
        torch.manual_seed(1)
        with dropout.quick(CPU):
            assert torch.equal(how(), wanted)

    both(lambda: functional.dropout(values, 0.5, training=False))
    both(lambda: functional.dropout(values, 0.0))
    both(lambda: functional.dropout(values, 1.0))
    both(lambda: functional.dropout(values, 1e-4))
    both(lambda: functional.dropout(values.double(), 0.5))
    both(lambda: functional.dropout(values.clone(), 0.5, inplace=True))
    both(
        lambda: functional.scaled_dot_product_attention(
            *values.view(1, 4, 16, 64).repeat(3, 1, 1, 1, 1), None, 0.3, True
        )
    )
    with pytest.raises(ValueError, match="between 0 and 1"), dropout.quick(CPU):
        functional.dropout(values, 1.5)


def test_only_on_a_cpu_and_unless_told() -> None:
    values = torch.ones(64, 64)
    for block in (dropout.quick(torch.device("cuda")), dropout.quick(CPU, unless=True)):
        torch.manual_seed(1)
        wanted = functional.dropout(values, 0.5)
        torch.manual_seed(1)
        with block:
            assert torch.equal(functional.dropout(values, 0.5), wanted)


@pytest.mark.parametrize("checkpointed", [False, True])
def test_fine_tuning_uses_it_but_where_layers_run_again(checkpointed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []
    own = dropout._noise
    monkeypatch.setattr(dropout, "_noise", lambda like, p: drawn.append(p) or own(like, p))
    world = text_world("text-classification", rows=8)
    for part in world.module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.1
    run(world, epochs=1, batch_size=4, gradient_checkpointing=checkpointed)
    assert bool(drawn) is not checkpointed
