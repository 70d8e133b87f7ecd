"""Parameter-efficient fine-tuning: what is put into a network, trained there, kept apart, merged.

adapt(module, config)          insert what the config's method needs, unless it is there
merged(module)                 a copy without it, its effect in the weights
tensors(module), restored(...) what was trained, and back
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from zoo.errors import AdapterError, ConfigError
from zoo.training.config import TrainConfig
from zoo.training.methods.plan import Adapted, Plan, Unfit, plain_key

__all__ = [
    "Adapted",
    "Plan",
    "adapt",
    "body_digest",
    "fitting",
    "freeze",
    "insert",
    "merge",
    "merged",
    "plain_state",
    "plan_of",
    "restored",
    "tensors",
]

_MODULES = {
    "lora": "peft", "adalora": "peft", "ia3": "peft", "peft": "peft", "adapter": "bottleneck",
    "prefix": "prompts", "prompt": "prompts",
}  # fmt: skip


def plan_of(config: TrainConfig) -> Plan | None:
    """What a config's method inserts; None for "full" and "head"."""
    method = config.method
    if not isinstance(method, str):
        return Plan("peft", method)
    if method in ("lora", "adalora"):
        targets = list(config.lora_targets) if config.lora_targets else None
        options = {"rank": config.lora_rank, "alpha": config.lora_alpha, "dropout": config.lora_dropout}
        return Plan(method, {**options, "targets": targets})
    if method == "ia3":
        return Plan(method, {"targets": list(config.lora_targets) if config.lora_targets else None})
    if method == "adapter":
        return Plan(method, {"size": config.adapter_size})
    return Plan(method, {"length": config.prompt_length}) if method in ("prefix", "prompt") else None


def adapt(module: Any, config: TrainConfig) -> None:
    """Insert what the method needs. What an earlier run inserted is trained on by the same method, else merged first.

    Raises ConfigError for a network that the method can't change, or when the earlier one's can't be merged.
    """
    plan = plan_of(config)
    before: Adapted | None = module.adapted
    if before is not None:
        if before.plan == plan:
            return
        if not before.mergeable:
            raise ConfigError(
                f"The model holds what method={before.plan.method!r} inserted, which can't be merged into its weights, "
                f"so method={config.method!r} can't follow. Train on with the same method and options, or load the "
                "base again."
            )
        merge(module)
    if plan is not None:
        insert(module, plan, seed=config.seed)


def insert(module: Any, plan: Plan, *, seed: int) -> None:
    """seed: of the new parameters; the global generators stay as they were."""
    _check(module)
    maker = importlib.import_module(f"zoo.training.methods.{_MODULES[plan.method]}")
    training = module.training
    flags = {plain_key(name): p.requires_grad for name, p in module.net.named_parameters()}
    devices = [p.device for p in list(module.parameters())[:1] if p.device.type == "cuda"]
    try:
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(seed)
            module.adapted = maker.insert(module, plan)
    except Unfit as why:
        raise ConfigError(
            f"method={plan.method!r} {why}. {type(module.net).__name__} takes: {', '.join(fitting(module))}."
        ) from why
    finally:
        for name, parameter in module.net.named_parameters():
            # peft freezes the network at once; here the run does, and only while it lasts.
            if plain_key(name) in flags:
                parameter.requires_grad_(flags[plain_key(name)])
    module.train(training)


def fitting(module: Any) -> tuple[str, ...]:
    """The methods by name that a module can be fine-tuned with."""
    from zoo.training.methods import prompts, targets

    found = ["full"] + ["head"] * any(True for _ in module.head_parameters())
    found += ["lora", "adalora", "ia3"] * bool(targets.layers(module)) + ["adapter"] * bool(targets.outputs(module))
    for method in ("prefix", "prompt"):
        with suppress(Unfit):
            prompts.body_of(module.net, method)
            found.append(method)
    return tuple(found)


def _check(module: Any) -> None:
    if module.adapted is not None:
        raise ConfigError("The model holds adapters already; merge() puts them into its weights.")


def merge(module: Any) -> None:
    """Put what was inserted into the weights, in place. Raises ConfigError where that can't be."""
    if module.adapted is not None:
        module.adapted.merge(module.net)
        module.adapted = None


def merged(module: Any) -> Any:
    """The module itself when there is nothing to merge; else a copy with all that can be merged in its weights."""
    if module.adapted is None or not module.adapted.mergeable:
        return module
    found = copy.deepcopy(module)
    merge(found)
    return found


def plain_state(module: Any) -> dict[str, Tensor]:
    """The state of the network as it would be without what was inserted, in its own names."""
    state: dict[str, Tensor] = module.net.state_dict()
    adapted: Adapted | None = module.adapted
    if adapted is None:
        return state
    return {plain_key(key): tensor for key, tensor in state.items() if not adapted.is_adapter(key)}


def tensors(module: Any) -> dict[str, Tensor]:
    """What was trained: the inserted tensors and the head's, by their names in the network; and optional parts of the
    body, which another process may have drawn at random.
    """
    adapted: Adapted = module.adapted
    state: dict[str, Tensor] = module.net.state_dict()
    # A head that is tied to the embeddings is the body's, and frozen with it.
    body = {t.data_ptr() for key, t in state.items() if not module.in_head(key) and t.numel()}
    return {
        key: tensor
        for key, tensor in state.items()
        if adapted.is_adapter(key) or module.is_optional(key) or (module.in_head(key) and tensor.data_ptr() not in body)
    }


def restored(module: Any, plan: Plan, state: Mapping[str, Tensor]) -> Any:
    """A copy with what `tensors` gave. Raises AdapterError when it does not fit this network."""
    module = copy.deepcopy(module)
    try:
        insert(module, plan, seed=0)
    except ConfigError as error:
        raise AdapterError(f"The adapter is not for this network: {error}") from error
    wanted = tensors(module)
    faults = [f"{key} is missing" for key in wanted if key not in state]
    faults += [f"{key} is of a layer that is not there" for key in state if key not in wanted]
    faults += [
        f"{key} is {list(state[key].shape)}, not {list(wanted[key].shape)}"
        for key in wanted
        if key in state and state[key].shape != wanted[key].shape
    ]
    if faults:
        more = f", and {len(faults) - 4} more" if len(faults) > 4 else ""
        raise AdapterError(f"The adapter is not for this network: {'; '.join(faults[:4])}{more}.")
    module.net.load_state_dict(dict(state), strict=False)
    return module


def body_digest(module: Any) -> str:
    """A hash of the frozen body's tensors and their names: what an adapter was trained on."""
    found = hashlib.sha256()
    for key, tensor in sorted(plain_state(module).items()):
        if not module.in_head(key) and not module.is_optional(key) and tensor.numel():
            array = tensor.detach().cpu().contiguous()
            found.update(json.dumps([key, str(array.dtype), list(array.shape)]).encode())
            found.update(array.view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def freeze(module: Any) -> None:
    """All but what was inserted and the head; what is inserted and never trained stays as it is."""
    adapted: Adapted = module.adapted
    for name, parameter in module.net.named_parameters():
        if not adapted.is_adapter(name):
            parameter.requires_grad_(module.in_head(name))
