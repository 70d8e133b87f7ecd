"""Learned positions before a text: prompt tuning at the input, prefix tuning in every layer's attention.

Texts keep the positions that they had: what is learned shares the first ones, so no length is lost.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, final

import peft
import torch
from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedModel

from zoo.errors import ConfigError
from zoo.training.methods.plan import Adapted, Plan, Unfit

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
_CHILD = "learned_prompt"


@final
class Prompts(Adapted):
    """Learned tensors of the network's body, and the hooks that use them."""

    def merge(self, net: nn.Module) -> None:
        raise ConfigError(
            f"What method={self.plan.method!r} learns is input, not weights, and can't be merged; save(), "
            "save_adapter() and export() keep it beside them."
        )


def insert(module: Any, plan: Plan) -> Adapted:
    """Raises Unfit for a network that is no transformer over one text."""
    net = module.net
    plain = frozenset(net.state_dict())
    body = body_of(net, plan.method)
    deep = plan.method == "prefix"
    learned = _prefix(body, plan) if deep else _prompt(body, plan)
    weight = body.get_input_embeddings().weight
    body.add_module(_CHILD, learned.to(weight.device, weight.dtype))
    body.register_forward_pre_hook(PrefixBefore() if deep else PromptBefore(), with_kwargs=True)
    if not deep:
        body.register_forward_hook(PromptAfter(), with_kwargs=True)
    return Prompts(plan, plain)


def body_of(net: Any, method: str) -> Any:
    """The part of a network that reads a text. Raises Unfit when it is no transformer over one text."""
    if not isinstance(net, PreTrainedModel):
        raise Unfit("is for text models of transformers")
    body = getattr(net, net.base_model_prefix, net)
    wanted = "past_key_values" if method == "prefix" else "inputs_embeds"
    takes = inspect.signature(body.forward).parameters
    if net.config.is_encoder_decoder or not {"input_ids", "position_ids", wanted} <= set(takes):
        raise Unfit(f"needs a network over one text that takes position_ids and {wanted}")
    return body


def _prompt(body: Any, plan: Plan) -> nn.Module:
    words = body.get_input_embeddings()
    config = peft.PromptTuningConfig(
        num_virtual_tokens=int(plan.options["length"]), token_dim=words.embedding_dim, num_transformer_submodules=1,
        prompt_tuning_init="SAMPLE_VOCAB",
    )  # fmt: skip
    make: Any = peft.PromptEmbedding
    learned: nn.Module = make(config, words)
    return learned


def _prefix(body: Any, plan: Plan) -> nn.Module:
    heads, width = _heads(body.config)
    config = peft.PrefixTuningConfig(
        num_virtual_tokens=int(plan.options["length"]), token_dim=heads * width,
        num_layers=body.config.num_hidden_layers, num_attention_heads=heads, num_transformer_submodules=1,
    )  # fmt: skip
    make: Any = peft.PrefixEncoder
    learned: nn.Module = make(config)
    # As large as keys and values at random weights are; a unit normal would drown the text at first.
    nn.init.normal_(learned.embedding.weight, std=0.02)  # type: ignore[union-attr, arg-type]
    return learned


def _heads(config: Any) -> tuple[int, int]:
    """The heads of keys and values, and the width of one."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return int(heads), int(width)


@final
class PromptBefore:
    """Texts as embeddings, with what was learned before them; a cache has that already."""

    def __call__(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        given = _named(body, args, kwargs)
        learned = getattr(body, _CHILD).embedding.weight
        length = len(learned)
        if not _cached(given):
            words = body.get_input_embeddings()(given["input_ids"])
            batch = words.shape[0]
            own = learned.to(words.dtype).unsqueeze(0).expand(batch, -1, -1)
            before = _positions(body, torch.ones(batch, length, dtype=torch.long, device=words.device))
            given["position_ids"] = torch.cat((before, _own_positions(body, given)), dim=1)
            given["inputs_embeds"] = torch.cat((own, words), dim=1)
            given["input_ids"] = None
            if given.get("token_type_ids") is not None:
                given["token_type_ids"] = _longer(given["token_type_ids"], length, fill=0)
        given["attention_mask"] = _longer(given["attention_mask"], length)
        return (), given


@final
class PromptAfter:
    """Cuts the learned positions off again, and pools the text's own first one."""

    def __call__(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if kwargs.get("inputs_embeds") is None:
            return output
        length = len(getattr(body, _CHILD).embedding.weight)
        output["last_hidden_state"] = output["last_hidden_state"][:, length:]
        if output.get("pooler_output") is not None:
            output["pooler_output"] = _pooled(body, output["last_hidden_state"])
        return output


@final
class PrefixBefore:
    """A cache of learned keys and values under every layer's own."""

    def __call__(self, body: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Arguments:
        given = _named(body, args, kwargs)
        learned = getattr(body, _CHILD)
        length = learned.embedding.num_embeddings
        mask = given["attention_mask"]
        if not _cached(given):
            given["position_ids"] = _own_positions(body, given)
            given["past_key_values"] = _cache(body, learned, given["input_ids"].shape[0], length)
        mask = _longer(mask, length)
        if _bidirectional(body):
            # Upstream's mask of an encoder is as long as its texts alone.
            mask = mask[:, None, None, :].bool().expand(-1, 1, given["input_ids"].shape[1], -1)
        given["attention_mask"] = mask
        return (), given


def _pooled(body: Any, states: Tensor) -> Tensor:
    # ALBERT's pooler is a bare layer.
    bare = hasattr(body, "pooler_activation")
    pooled: Tensor = body.pooler_activation(body.pooler(states[:, 0])) if bare else body.pooler(states)
    return pooled


def _cache(body: Any, learned: Any, batch: int, length: int) -> DynamicCache:
    heads, width = _heads(body.config)
    flat: Tensor = learned(torch.arange(length, device=learned.embedding.weight.device))
    # [P, layers * 2 * heads * width] as [layers * 2, batch, heads, P, width]
    parts = flat.view(length, -1, heads, width).permute(1, 2, 0, 3).unsqueeze(1).expand(-1, batch, -1, -1, -1)
    cache = DynamicCache()
    for layer in range(parts.shape[0] // 2):
        cache.update(parts[2 * layer], parts[2 * layer + 1], layer)
    return cache


def _named(body: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    names = list(inspect.signature(type(body).forward).parameters)[1:]
    return {**dict(zip(names, args, strict=False)), **kwargs}


def _cached(given: Mapping[str, Any]) -> bool:
    cache = given.get("past_key_values")
    return cache is not None and cache.get_seq_length() > 0


def _longer(mask: Tensor, length: int, fill: int = 1) -> Tensor:
    return torch.cat((mask.new_full((mask.shape[0], length), fill), mask), dim=1)


def _own_positions(body: Any, given: Mapping[str, Any]) -> Tensor:
    if given.get("position_ids") is not None:
        positions: Tensor = given["position_ids"]
        return positions
    return _positions(body, torch.ones_like(given["input_ids"]))


def _positions(body: Any, ones: Tensor) -> Tensor:
    """Counted from 0; RoBERTa and its kin count from behind the padding's."""
    embeddings: Any = getattr(body, "embeddings", None)
    first = 0
    if hasattr(embeddings, "create_position_ids_from_input_ids"):
        first = int(embeddings.padding_idx) + 1
    return ones.long().cumsum(dim=1) - 1 + first


def _bidirectional(body: Any) -> bool:
    return not any(getattr(part, "is_causal", False) is True for part in body.modules())
