"""Methods of the library peft that change layers: LoRA, AdaLoRA, IA3 and their kin. Its quirks stay in this file."""

from __future__ import annotations

import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import peft
import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.training.methods import targets
from zoo.training.methods.plan import Adapted, Plan, Unfit, swap

log = logging.getLogger("zoo.training")

_NAME = "default"
# Fewer steps than this leave no room for a budget to shrink.
_ADALORA_STEPS = 10
# Ways of LoRA's first weights that leave the network's own as they are.
_INITS = (True, False, "gaussian", "orthogonal")


@final
class PeftLayers(Adapted):
    """peft's layers in the place of the network's own."""

    mergeable = True

    def __init__(self, plan: Plan, plain: frozenset[str], tuner: Any) -> None:
        super().__init__(plan, plain)
        self.tuner = tuner
        self.config = tuner.peft_config[_NAME]
        self.adaptive = hasattr(tuner, "rankallocator")
        self.allocates = False

    def merge(self, net: nn.Module) -> None:
        for name, layer in list(net.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                try:
                    layer.merge(safe_merge=False)
                except (NotImplementedError, ValueError, AttributeError) as error:
                    raise ConfigError(
                        f"{type(layer).__name__} of peft can't be merged into the weights ({error}). "
                        "save_adapter() keeps it apart."
                    ) from error
                swap(net, name, layer.get_base_layer())

    def start(self, total: int) -> None:
        if self.adaptive:
            # The paper warms up, then shrinks the budget, then trains what is left; shares as in peft's example.
            self.config.total_step = total
            self.config.tinit, self.config.tfinal = int(0.1 * total), int(0.3 * total)
            self.config.deltaT = max(1, total // 100)
            self.allocates = total >= _ADALORA_STEPS

    def penalty(self) -> Tensor | None:
        """AdaLoRA's: how far its factors are from orthogonal. Upstream adds it to the loss that networks give."""
        if not self.adaptive or not self.config.orth_reg_weight:
            return None
        distances = []
        for name, factor in self.tuner.model.named_parameters():
            if "lora_A" in name or "lora_B" in name:
                product = factor @ factor.T if "lora_A" in name else factor.T @ factor
                distances.append(torch.linalg.norm(product - torch.eye(len(product), device=product.device)))
        penalty: Tensor = torch.stack(distances).mean() * self.config.orth_reg_weight
        return penalty

    def after_step(self, net: nn.Module, step: int) -> None:
        if step == 1:
            _name_idle(net)
        if self.allocates:
            for name, parameter in net.named_parameters():
                # A layer that was left out of this step (layer drop) has none, and upstream multiplies with it.
                if "lora_" in name and parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
            self.tuner.update_and_allocate(step)

    def state(self) -> dict[str, Any]:
        if not self.adaptive:
            return {}
        allocator = self.tuner.rankallocator
        kept = {name: dict(getattr(allocator, name)) for name in ("ipt", "exp_avg_ipt", "exp_avg_unc")}
        return {**kept, "rank_pattern": self.config.rank_pattern}

    def load_state(self, state: Mapping[str, Any]) -> None:
        if self.adaptive:
            devices = {name: p.device for name, p in self.tuner.model.named_parameters()}
            for kept in ("ipt", "exp_avg_ipt", "exp_avg_unc"):
                placed = {name: tensor.to(devices[name]) for name, tensor in state[kept].items()}
                setattr(self.tuner.rankallocator, kept, placed)
            self.config.rank_pattern = state["rank_pattern"]


def insert(module: Any, plan: Plan) -> Adapted:
    """Raises Unfit for a network with nothing to change, ConfigError for options that peft refuses."""
    net = module.net
    plain = frozenset(net.state_dict())
    config = _config(module, plan)
    kind = peft.PEFT_TYPE_TO_TUNER_MAPPING.get(config.peft_type)
    if kind is None or config.is_prompt_learning or config.is_adaption_prompt:
        raise ConfigError(
            f"peft's {config.peft_type.value} does not change layers, which is what a config may do here. "
            'Prompts are method="prompt" and method="prefix".'
        )
    with warnings.catch_warnings(), _no_words(net):
        # Of a transposed weight it says that it will treat it as what it is.
        warnings.simplefilter("ignore")
        try:
            tuner = kind(net, config, adapter_name=_NAME)
        except (ValueError, TypeError, KeyError, NotImplementedError) as error:
            _take_out(net)
            raise ConfigError(f"peft can't do this with {type(net).__name__}: {error}") from error
        finally:
            for left in ("peft_config", "active_adapter"):
                net.__dict__.pop(left, None)
    return PeftLayers(plan, plain, tuner)


def _take_out(net: nn.Module) -> None:
    """The layers that were replaced before one could not be."""
    for name, layer in list(net.named_modules()):
        if isinstance(layer, BaseTunerLayer):
            swap(net, name, layer.get_base_layer())


@contextmanager
def _no_words(net: Any) -> Iterator[None]:
    """peft asks which layers share the embedding of words; upstream's detectors have none, and refuse to answer."""
    try:
        if hasattr(net, "get_input_embeddings"):
            net.get_input_embeddings()
    except NotImplementedError:
        before = net.__dict__.get("_tied_weights_keys", net)
        net._tied_weights_keys = None
        try:
            yield
        finally:
            net.__dict__.pop("_tied_weights_keys") if before is net else setattr(net, "_tied_weights_keys", before)
        return
    yield


def to_options(config: Any) -> dict[str, Any]:
    """A peft config as plain values: what `insert` takes back."""
    return {name: _plain(value) for name, value in config.to_dict().items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return getattr(value, "value", value)


def _config(module: Any, plan: Plan) -> Any:
    options = dict(plan.options)
    if plan.method == "peft":
        return _given(module, options)
    chosen = options.pop("targets", None)
    names = list(targets.named(module, chosen) if chosen else targets.layers(module))
    if not names:
        raise Unfit("changes linear layers and convolutions of the body, and finds none that it can change")
    if plan.method == "ia3":
        behind: Any = _exactly(targets.feed_forward(names)) if targets.feed_forward(names) else []
        return peft.IA3Config(target_modules=_exactly(names), feedforward_modules=behind)
    rank, alpha, dropout = options["rank"], options["alpha"], options["dropout"]
    if plan.method == "adalora":
        return peft.AdaLoraConfig(
            # It starts with half as many again, and shares out what the budget leaves.
            init_r=rank + (rank + 1) // 2, target_r=rank, lora_alpha=alpha, lora_dropout=dropout,
            target_modules=_exactly(names), total_step=_ADALORA_STEPS,
        )  # fmt: skip
    return peft.LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=dropout, target_modules=_exactly(names))


def _given(module: Any, options: dict[str, Any]) -> Any:
    kinds: dict[Any, Any] = dict(peft.PEFT_TYPE_TO_CONFIG_MAPPING)
    kind = kinds.get(str(options.get("peft_type", "")).upper())
    if kind is None:
        known = ", ".join(sorted(str(item.value) for item in kinds))
        raise ConfigError(f"method has peft_type={options.get('peft_type')!r}; peft knows: {known}.")
    try:
        config = kind(**{name: value for name, value in options.items() if name != "peft_type"})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"peft refuses this config: {error}") from error
    _check(module, config)
    if getattr(config, "target_modules", None) is None and hasattr(config, "target_modules"):
        config.target_modules = _exactly(list(targets.layers(module)))
    return config


def _check(module: Any, config: Any) -> None:
    """Refuse what would be left out, or would make another base of the network. Raises ConfigError."""
    outside = [name for name in getattr(config, "modules_to_save", None) or () if not module.in_head(name)]
    if outside:
        raise ConfigError(
            f"modules_to_save names {', '.join(outside)}: of the network itself the head alone is trained, which is "
            f"{', '.join(module.head) or 'empty'} here. Leave it out."
        )
    if getattr(config, "bias", "none") != "none":
        raise ConfigError(f"bias={config.bias!r} would train the frozen body's biases; use bias='none'.")
    first = getattr(config, "init_lora_weights", True)
    if first not in _INITS:
        raise ConfigError(
            f"init_lora_weights={first!r} changes the frozen weights, so that the adapter would fit no base but this "
            f"one. Use one of: {', '.join(map(str, _INITS))}."
        )


def _exactly(names: Sequence[str]) -> str:
    """peft takes a list's entries for endings, and a text for a pattern of the whole name."""
    return "|".join(map(re.escape, names))


def _name_idle(net: nn.Module) -> None:
    parts: list[tuple[str, Any]] = [item for item in net.named_modules() if isinstance(item[1], BaseTunerLayer)]
    idle = [
        name for name, part in parts
        if all(p.grad is None for p in part.parameters()) and any(p.requires_grad for p in part.parameters())
    ]  # fmt: skip
    if idle:
        log.warning("These layers took no part in the first step, so nothing is learned there: %s", ", ".join(idle[:8]))
