"""The optimisers: torch's own, timm's, and the 8-bit one of bitsandbytes."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer

from zoo.errors import missing
from zoo.training.config import TrainConfig

_BETAS = (0.9, 0.999)
_EPS = 1e-8


def check_installed(config: TrainConfig) -> None:
    """Raise MissingDependency for an optimiser of a package that is not there."""
    if config.optimizer == "adamw_8bit" and importlib.util.find_spec("bitsandbytes") is None:
        raise missing("bitsandbytes", "bitsandbytes", 'optimizer="adamw_8bit"')


def make(groups: list[dict[str, Any]], config: TrainConfig, rate: float) -> Optimizer:
    """groups: with `params`, `lr`, `weight_decay`, and for muon `use_fallback`. rate: the peak."""
    momentum = config.momentum
    if config.optimizer == "sgd":
        momentum = 0.9 if momentum is None else momentum
        return torch.optim.SGD(groups, lr=rate, momentum=momentum, nesterov=momentum > 0, fused=_fused(groups))
    if config.optimizer == "adagrad":
        return torch.optim.Adagrad(groups, lr=rate)
    if config.optimizer == "lion":
        from timm.optim.lion import Lion

        return Lion(groups, lr=rate)
    if config.optimizer == "muon":
        from timm.optim.muon import Muon

        # With the rate adjusted to AdamW's size of steps, one rate serves both kinds of groups.
        momentum = 0.95 if momentum is None else momentum
        return Muon(groups, lr=rate, momentum=momentum, betas=_BETAS, adjust_lr_fn="match_rms_adamw")
    if config.optimizer == "adamw_8bit":
        eight: Any = importlib.import_module("bitsandbytes.optim")
        return cast(Optimizer, eight.AdamW8bit(groups, lr=rate, betas=_BETAS, eps=_EPS))
    kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate, betas=_BETAS, eps=_EPS, fused=_fused(groups))


def embeddings(module: nn.Module) -> set[int]:
    """The ids of the parameters of tables that are looked up, also where an output layer shares one."""
    return {
        id(parameter)
        for child in module.modules()
        if isinstance(child, (nn.Embedding, nn.EmbeddingBag))
        for parameter in child.parameters(recurse=False)
    }


def _fused(groups: Iterable[dict[str, Any]]) -> bool:
    return all(_can_fuse(parameter) for group in groups for parameter in group["params"])


def _can_fuse(parameter: nn.Parameter) -> bool:
    return parameter.device.type in ("cuda", "cpu") and parameter.dtype in (torch.float32, torch.float64)
