"""How the learning rate goes: transformers' and torch's schedules, stepped with the optimiser and judged by epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

import torch
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR, ReduceLROnPlateau

from zoo.errors import ConfigError
from zoo.training.config import TrainConfig


@final
class Schedule:
    """The rates of all groups of an optimiser over a run.

    total: optimiser steps of the whole run. peak: the learning rate as it was asked for, which `rate` is a part of.
    """

    def __init__(self, optimizer: Optimizer, config: TrainConfig, total: int, peak: float) -> None:
        self._optimizer = optimizer
        self._peak = peak
        self._first: float = optimizer.param_groups[0]["lr"]
        self._plateau = _Plateau(config) if config.scheduler == "plateau" else None
        self._schedule = _make(optimizer, config, total, self._plateau)

    @property
    def rate(self) -> float:
        """The learning rate of the next step, where no layer's or head's own rate applies."""
        return float(self._optimizer.param_groups[0]["lr"]) / self._first * self._peak

    def step(self) -> None:
        """After each step of the optimiser."""
        self._schedule.step()

    def judge(self, value: float, *, higher: bool) -> None:
        """After each epoch, with the metric on the validation data; higher: whether that is better."""
        if self._plateau is not None and self._plateau.judge(value if higher else -value):
            assert isinstance(self._schedule, LambdaLR)
            groups = self._optimizer.param_groups
            for group, base, part in zip(groups, self._schedule.base_lrs, self._schedule.lr_lambdas, strict=True):
                group["lr"] = base * part(self._schedule.last_epoch)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the optimiser's state, which has the rates themselves."""
        return {"step": self._schedule.last_epoch, "plateau": self._plateau.state() if self._plateau else {}}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """What `state` gave; the optimiser's comes first."""
        self._schedule.last_epoch = state["step"]
        self._schedule._last_lr = [group["lr"] for group in self._optimizer.param_groups]
        if self._plateau is not None:
            self._plateau.load_state(state["plateau"])


@final
class _Plateau:
    """torch's ReduceLROnPlateau over one number, the share of the peak: the warm-up multiplies it on its own."""

    def __init__(self, config: TrainConfig) -> None:
        self._share = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._schedule = ReduceLROnPlateau(
            self._share, "max", factor=config.plateau_factor, patience=config.plateau_patience,
            threshold=0.0, threshold_mode="abs", eps=0.0,
        )  # fmt: skip

    @property
    def share(self) -> float:
        return float(self._share.param_groups[0]["lr"])

    def judge(self, value: float) -> bool:
        """Whether the rate is lower now. value: the higher the better."""
        before = self.share
        self._schedule.step(value)
        return self.share < before

    def state(self) -> dict[str, Any]:
        schedule = self._schedule
        return {"share": self.share, "best": schedule.best, "waited": schedule.num_bad_epochs}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._share.param_groups[0]["lr"] = state["share"]
        self._schedule.best, self._schedule.num_bad_epochs = state["best"], state["waited"]


def warmup(config: TrainConfig, total: int) -> int:
    """Steps of warm-up. With fewer than 1 / warmup_ratio steps in all there is none."""
    if config.warmup_steps is None:
        return int(config.warmup_ratio * total)
    if config.warmup_steps >= total:
        raise ConfigError(
            f"warmup_steps={config.warmup_steps}, and the run has {total} steps in all. Give fewer, or more epochs."
        )
    return config.warmup_steps


def _make(optimizer: Optimizer, config: TrainConfig, total: int, plateau: _Plateau | None) -> LRScheduler:
    from transformers import get_scheduler

    steps = warmup(config, total)
    if plateau is not None:
        return LambdaLR(optimizer, lambda step: plateau.share * (step / steps if step < steps else 1.0))
    if config.scheduler == "one_cycle":
        return _one_cycle(optimizer, steps, total)
    name = "constant_with_warmup" if config.scheduler == "constant" else config.scheduler
    found: LRScheduler = get_scheduler(name, optimizer, num_warmup_steps=steps, num_training_steps=total)
    return found


def _one_cycle(optimizer: Optimizer, steps: int, total: int) -> OneCycleLR:
    peaks = [group["lr"] for group in optimizer.param_groups]
    moving = "betas" in optimizer.defaults or bool(optimizer.defaults.get("momentum"))
    # Its phases end one step before, and it divides by their length: one step of rise is none.
    steps = steps if 1 < steps < total - 1 else 0
    return OneCycleLR(
        optimizer, max_lr=peaks, total_steps=max(total, 2), pct_start=steps / total, cycle_momentum=moving
    )
