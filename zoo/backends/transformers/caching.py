"""Upstream's cache of keys and values as flat arrays by name, which is what a graph can take and give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from zoo.backends.sequences import EncoderDecoder
from zoo.tasks.caching import CROSS, HIDDEN, KEEP, PAST, PRESENT


def can_cache(net: nn.Module) -> bool:
    """Whether every layer keeps the keys and values of all tokens: not of a sliding window, nor a state of its own."""
    taken = {"past_key_values"} if net.config.is_encoder_decoder else {"past_key_values", KEEP}  # type: ignore[union-attr]
    plain = all(type(layer) is DynamicLayer for layer in _empty(net).layers)
    return plain and taken <= set(inspect.signature(net.forward).parameters)


def filled(net: nn.Module, arrays: Mapping[str, Tensor], group: str = PAST) -> DynamicCache:
    """arrays: `{group}.N.key` and `.value`, `[B, heads, P, width]` each, of every layer N; or none of that group."""
    cache = _empty(net)
    for i, layer in enumerate(_layers(cache) if f"{group}.0.key" in arrays else ()):
        # Not by update(), which would put the concatenation with an empty tensor into a graph.
        keys, values = arrays[f"{group}.{i}.key"], arrays[f"{group}.{i}.value"]
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        layer.dtype, layer.device = keys.dtype, keys.device
    return cache


def flat(cache: DynamicCache, group: str = PRESENT) -> dict[str, Tensor]:
    """`{group}.N.key` and `.value` of every layer N."""
    return {
        f"{group}.{i}.{kind}": tensor
        for i, layer in enumerate(_layers(cache))
        for kind, tensor in (("key", layer.keys), ("value", layer.values))
        if tensor is not None
    }


def begin(module: EncoderDecoder, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`EncoderDecoder.begin`: the decoder runs once, of which a graph keeps what is asked for."""
    hidden = module.encode(**inputs)[HIDDEN]
    memory = {name: inputs[name] for name in module.memory if name in inputs}
    # Any token does: the keys and values of the input do not depend on it.
    token = hidden[:, :1, 0].new_zeros((hidden.shape[0], 1), dtype=torch.long)
    cache = module.cached(token, hidden, memory, _pair(module.net, {}))[1]
    return {HIDDEN: hidden, **flat(cache.cross_attention_cache, CROSS)}


def go_on(module: EncoderDecoder, tokens: Tensor, arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`EncoderDecoder.go_on`."""
    key = arrays[f"{CROSS}.0.key"]
    width: int = module.net.config.hidden_size  # type: ignore[union-attr, assignment]
    # Their shape alone is looked at: their keys and values are there already.
    hidden = key.new_zeros((key.shape[0], key.shape[2], width))
    memory = {name: arrays[name] for name in module.memory if name in arrays}
    logits, cache = module.cached(tokens, hidden, memory, _pair(module.net, arrays))
    return {"logits": logits, **flat(cache.self_attention_cache)}


def _empty(net: nn.Module) -> DynamicCache:
    config: PreTrainedConfig = net.config  # type: ignore[assignment]
    return DynamicCache(config=config)


def _pair(net: nn.Module, arrays: Mapping[str, Tensor]) -> EncoderDecoderCache:
    return EncoderDecoderCache(filled(net, arrays), filled(net, arrays, CROSS))


def _layers(cache: DynamicCache) -> list[DynamicLayer]:
    return cast("list[DynamicLayer]", cache.layers)
