"""Optimisers and schedules: upstream's steps, and runs that go on as if nothing had happened."""

from __future__ import annotations

import copy
import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm.optim
import torch
from torch.optim import lr_scheduler

from tests.training.tiny import World, distance, run, text_world, timeless, weights
from zoo.errors import ConfigError, MissingDependency
from zoo.training import TrainConfig, optim, rates
from zoo.training.engine import Run
from zoo.training.schedules import Schedule

FAST: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3}
STEADY: dict[str, Any] = {**FAST, "scheduler": "constant", "warmup_ratio": 0.0, "max_grad_norm": None}


def _gradients(module: Any) -> None:
    torch.manual_seed(0)
    for parameter in module.parameters():
        parameter.grad = torch.randn_like(parameter)


def _steps(optimizer: torch.optim.Optimizer, module: Any, count: int = 3) -> None:
    _gradients(module)
    for _ in range(count):
        optimizer.step()


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        ("adamw", lambda p: torch.optim.AdamW(p, lr=1e-3, weight_decay=0.1)),
        ("adam", lambda p: torch.optim.Adam(p, lr=1e-3, weight_decay=0.1)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=1e-3, weight_decay=0.1, momentum=0.9, nesterov=True)),
        ("adagrad", lambda p: torch.optim.Adagrad(p, lr=1e-3, weight_decay=0.1)),
        ("lion", lambda p: timm.optim.Lion(p, lr=1e-3, weight_decay=0.1)),
    ],
)
def test_matrices_take_upstreams_steps(name: str, reference: Any) -> None:
    ours = text_world().module
    theirs = copy.deepcopy(ours)
    config = TrainConfig(optimizer=name, learning_rate=1e-3, weight_decay=0.1)
    _steps(optim.make_optimizer(ours, config, "text"), ours)
    _steps(reference([p for p in theirs.parameters() if p.ndim > 1]), theirs)
    before = weights(text_world().module)
    for key, tensor in theirs.named_parameters():
        if tensor.ndim > 1:
            assert torch.allclose(dict(ours.named_parameters())[key], tensor, atol=1e-7), key
            assert not torch.equal(tensor, before[key])


def test_muon_is_for_hidden_matrices_and_adamw_for_the_rest() -> None:
    ours = text_world().module
    theirs = copy.deepcopy(ours)
    config = TrainConfig(optimizer="muon", learning_rate=1e-3, weight_decay=0.1)
    _steps(optim.make_optimizer(ours, config, "text"), ours, 1)
    names = dict(theirs.named_parameters())
    hidden = [p for key, p in names.items() if p.ndim == 2 and "embeddings" not in key and "classifier" not in key]
    others = [p for p in names.values() if all(p is not one for one in hidden)]
    assert len(hidden) > 10
    muon = timm.optim.Muon(hidden, lr=1e-3, weight_decay=0.1)
    groups = [
        {"params": [p for p in others if p.ndim > 1], "weight_decay": 0.1},
        {"params": [p for p in others if p.ndim <= 1], "weight_decay": 0.0},
    ]
    _steps(muon, theirs, 1)
    _steps(torch.optim.AdamW(groups, lr=1e-3, eps=1e-7), theirs, 1)
    for key, tensor in ours.named_parameters():
        assert torch.allclose(tensor, names[key], atol=1e-7), key


def test_eight_bits_follow_thirty_two(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("bitsandbytes")
    losses = {name: run(text_world(), optimizer=name, **STEADY)[1] for name in ("adamw", "adamw_8bit")}
    assert losses["adamw_8bit"] == pytest.approx(losses["adamw"], abs=5e-3)
    assert losses["adamw_8bit"] != losses["adamw"]
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else found(name))
    with pytest.raises(MissingDependency, match=r'pip install "polyzoo\[bitsandbytes\]"'):
        run(text_world(), optimizer="adamw_8bit", **FAST)


def test_rates_where_none_is_given() -> None:
    def rate(optimizer: Any, kind: str = "text", **options: Any) -> float:
        return rates.learning_rate(TrainConfig(optimizer=optimizer, **options), kind)

    assert rate("adamw") == rate("adam") == rate("adamw_8bit") == rate("muon") == 5e-5
    assert rate("lion", "image") == pytest.approx(3e-5)
    assert rate("adagrad") == pytest.approx(5e-4)
    assert (rate("sgd"), rate("sgd", "image"), rate("sgd", method="lora")) == (1e-3, 1e-2, 5e-3)
    assert rate("lion", learning_rate=0.1) == 0.1


# Schedules.


def _rates(total: int, **options: Any) -> list[float]:
    module = torch.nn.Linear(2, 2)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.5)
    schedule, found = Schedule(optimizer, TrainConfig(**options), total, 0.5), []
    for _ in range(total):
        found.append(schedule.rate)
        optimizer.step()
        schedule.step()
    return found


def test_warmup_in_steps_comes_before_its_ratio() -> None:
    assert _rates(10, scheduler="constant", warmup_steps=4, warmup_ratio=0.9)[:6] == [0, 0.125, 0.25, 0.375, 0.5, 0.5]
    assert _rates(10, scheduler="linear", warmup_steps=0)[0] == 0.5
    with pytest.raises(ConfigError, match=r"warmup_steps=10, and the run has 10 steps in all"):
        _rates(10, warmup_steps=10)


def test_one_cycle_is_torchs() -> None:
    reference = torch.optim.AdamW(torch.nn.Linear(2, 2).parameters(), lr=0.5)
    expected = lr_scheduler.OneCycleLR(reference, 0.5, total_steps=20, pct_start=0.25)
    found = _rates(20, scheduler="one_cycle", warmup_ratio=0.25)
    for rate in found:
        assert rate == pytest.approx(reference.param_groups[0]["lr"])
        reference.step()
        expected.step()
    assert found[0] == pytest.approx(0.02)
    assert max(found) == pytest.approx(0.5)


@pytest.mark.parametrize("total", [1, 2, 3, 10])
@pytest.mark.parametrize("steps", [0, 1, 2])
def test_one_cycle_of_few_steps(total: int, steps: int) -> None:
    found = _rates(total, scheduler="one_cycle", warmup_steps=min(steps, total - 1))
    assert all(0 <= rate <= 0.5 for rate in found)
    assert total < 3 or max(found) > 0.2


def test_one_cycle_moves_momentum_the_other_way(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    close = Run._close_epoch

    def note(self: Run, record: Any) -> None:
        seen.append(self.optimizer.param_groups[0]["betas"][0])
        close(self, record)

    monkeypatch.setattr(Run, "_close_epoch", note)
    run(text_world(), scheduler="one_cycle", warmup_ratio=0.5, **FAST)
    assert seen == pytest.approx([0.85, 0.95], abs=0.02)


def _metric(monkeypatch: pytest.MonkeyPatch, scores: list[float]) -> None:
    original = Run._record

    def record(self: Run) -> dict[str, Any]:
        return {**original(self), "accuracy": scores[self.state.epoch]}

    monkeypatch.setattr(Run, "_record", record)


def test_plateau_lowers_the_rate_after_epochs_without_a_better_metric(monkeypatch: pytest.MonkeyPatch) -> None:
    _metric(monkeypatch, [0.5, 0.5, 0.4, 0.6, 0.6, float("nan"), 0.7])
    options = {**FAST, "epochs": 7, "plateau_factor": 0.1, "warmup_steps": 2}
    seen: list[float] = []
    history, _ = run(text_world(), scheduler="plateau", on_step=lambda step: seen.append(step.note.rate), **options)
    assert seen[:3] == pytest.approx([0, 5e-4, 1e-3])
    found = [record["learning_rate"] for record in history]
    assert found == pytest.approx([1e-3, 1e-3, 1e-3, 1e-4, 1e-4, 1e-4, 1e-5])
    with pytest.raises(ConfigError, match=r'scheduler="plateau" looks at .*give val=, or scheduler="cosine"'):
        run(text_world(), val=False, scheduler="plateau")


# Going on.


class Killed(BaseException):
    """What a test raises in place of a signal."""


def check_resumes(
    folder: Path, *, at: int, make: Callable[[], World] = lambda: text_world(dropout=0.1), **options: Any
) -> None:
    """A run that is gone at a step, and goes on from a checkpoint inside the epoch, ends as one that was not."""
    options = {**FAST, "epochs": 3, "checkpoint_steps": 3, "resume": True, **options}

    def stop(seen: Any) -> None:
        if seen.note.step == at:
            raise Killed

    whole, gone, resumed = (make() for _ in range(3))
    history, losses = run(whole, output_dir=folder / "whole", **options)
    with pytest.raises(Killed):
        run(gone, output_dir=folder / "run", on_step=stop, **options)
    after, left = run(resumed, output_dir=folder / "run", **options)
    assert len(left) < len(losses)
    assert left == losses[-len(left) :]
    assert timeless(after) == timeless(history)
    assert distance(weights(resumed.module), weights(whole.module)) == 0.0


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        ("adam", "linear"),
        ("sgd", "one_cycle"),
        ("adagrad", "plateau"),
        ("lion", "constant"),
        ("muon", "one_cycle"),
        ("adamw_8bit", "plateau"),
    ],
)
def test_resumed_equals_uninterrupted(optimizer: str, scheduler: str, tmp_path: Path) -> None:
    if optimizer == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    # The first epoch's metric is never passed: the rate falls at the second's end, between kill and checkpoint.
    check_resumes(tmp_path, at=11, optimizer=optimizer, scheduler=scheduler, plateau_patience=0)
