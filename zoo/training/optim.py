"""What is trained, and how fast: groups of parameters for the optimiser, and the module while it is trained."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

from torch import nn
from torch.optim import Optimizer

from zoo.errors import ConfigError
from zoo.training import layers, methods, optimizers
from zoo.training.config import TrainConfig
from zoo.training.rates import head_learning_rate, learning_rate


def parameter_groups(module: nn.Module, config: TrainConfig, kind: str) -> list[dict[str, Any]]:
    """What is trained, in groups of one rate and one weight decay: the body's first, then the head's.

    Vectors and scalars (biases, scales of normalisation) are not decayed. For muon, `use_fallback` marks what it is
    not for: vectors, embeddings, the head.
    """
    head = {id(parameter) for parameter in cast(Any, module).head_parameters()}
    tables = optimizers.embeddings(module)
    rates = {False: learning_rate(config, kind), True: head_learning_rate(config, kind)}
    shares = _shares(module, config.layer_decay)
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for parameter in module.parameters():
        if not parameter.requires_grad:
            continue
        in_head, vector = id(parameter) in head, parameter.ndim <= 1
        rate = rates[in_head] * (1.0 if in_head else shares.get(id(parameter), 1.0))
        options = {"lr": rate, "weight_decay": 0.0 if vector else config.weight_decay}
        if config.optimizer == "muon":
            options["use_fallback"] = in_head or vector or id(parameter) in tables
        key = (in_head, vector, *options.values())
        groups.setdefault(key, {"params": [], **options})["params"].append(parameter)
    if not groups:
        raise ConfigError("There is nothing to train: every parameter of the module is frozen.")
    return [groups[key] for key in sorted(groups)]


def _shares(module: nn.Module, decay: float | None) -> dict[int, float]:
    """Each parameter's share of the body's rate, by id."""
    if decay is None:
        return {}
    places, top = layers.depths(module)
    return {id(p): decay ** (top - places[name]) for name, p in cast(Any, module).net.named_parameters()}


def make_optimizer(module: nn.Module, config: TrainConfig, kind: str) -> Optimizer:
    return optimizers.make(parameter_groups(module, config, kind), config, learning_rate(config, kind))


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
