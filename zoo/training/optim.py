"""What is trained, how fast, and the schedule: torch's optimisers, transformers' schedules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from zoo.errors import ConfigError
from zoo.training import methods
from zoo.training.config import TrainConfig
from zoo.training.rates import head_learning_rate, learning_rate


def parameter_groups(module: nn.Module, config: TrainConfig, kind: str) -> list[dict[str, Any]]:
    """Up to four groups, body and head with and without weight decay, of the parameters that are trained.

    Vectors and scalars (biases, scales of normalisation) are not decayed.
    """
    head = {id(parameter) for parameter in cast(Any, module).head_parameters()}
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not trained:
        raise ConfigError("There is nothing to train: every parameter of the module is frozen.")
    rates = {False: learning_rate(config, kind), True: head_learning_rate(config, kind)}
    groups = []
    for in_head, rate in rates.items():
        part = [parameter for parameter in trained if (id(parameter) in head) == in_head]
        for decay, chosen in ((config.weight_decay, _matrices(part)), (0.0, _vectors(part))):
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def make_optimizer(module: nn.Module, config: TrainConfig, kind: str) -> Optimizer:
    """AdamW, or SGD with Nesterov momentum; fused where every parameter's device and dtype allow it."""
    groups = parameter_groups(module, config, kind)
    fused = all(_can_fuse(parameter) for group in groups for parameter in group["params"])
    rate = learning_rate(config, kind)
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=config.momentum, nesterov=config.momentum > 0, fused=fused)
    return torch.optim.AdamW(groups, lr=rate, betas=(0.9, 0.999), eps=1e-8, fused=fused)


def make_schedule(optimizer: Optimizer, config: TrainConfig, total: int) -> LRScheduler:
    """total: optimiser steps of the whole run. With fewer than 1 / warmup_ratio of them there is no warm-up."""
    from transformers import get_scheduler

    name = "constant_with_warmup" if config.scheduler == "constant" else config.scheduler
    schedule: LRScheduler = get_scheduler(
        name, optimizer, num_warmup_steps=int(config.warmup_ratio * total), num_training_steps=total
    )
    return schedule


@contextmanager
def trainable(module: nn.Module, config: TrainConfig) -> Iterator[None]:
    """Freeze and prepare what the method says; afterwards the module's flags are as before."""
    flags = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    training = module.training
    if config.method == "head":
        cast(Any, module).set_head_only(True)
    if cast(Any, module).adapted is not None:
        methods.freeze(module)
    if config.gradient_checkpointing:
        _gradient_checkpointing(module, on=True)
    try:
        yield
    finally:
        if config.gradient_checkpointing:
            _gradient_checkpointing(module, on=False)
        if config.method == "head":
            cast(Any, module).set_head_only(False)
        for parameter, before in flags:
            parameter.requires_grad_(before)
            parameter.grad = None
        module.train(training)


def _gradient_checkpointing(module: nn.Module, *, on: bool) -> None:
    net: Any = getattr(module, "net", module)
    if hasattr(net, "set_grad_checkpointing"):  # timm's
        net.set_grad_checkpointing(on)
    elif not getattr(net, "supports_gradient_checkpointing", False):  # transformers'
        raise ConfigError(f"gradient_checkpointing=True: {type(net).__name__} can't do that. Leave it False.")
    elif on:
        net.activation_checkpointing_enable({"use_reentrant": False})
    else:
        net.activation_checkpointing_disable()


def _matrices(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.ndim > 1]


def _vectors(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in parameters if parameter.ndim <= 1]


def _can_fuse(parameter: nn.Parameter) -> bool:
    return parameter.device.type in ("cuda", "cpu") and parameter.dtype in (torch.float32, torch.float64)


def set_schedule(schedule: LRScheduler, step: int) -> None:
    """Put a fresh schedule where a saved one stood, after so many steps. Rates come with the optimiser's state."""
    schedule.last_epoch = step
    schedule._last_lr = [group["lr"] for group in schedule.optimizer.param_groups]
