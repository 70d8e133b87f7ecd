"""Upstream's cache of keys and values as flat arrays by name, which is what a graph can take and give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn
from transformers import DynamicCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from zoo.tasks.caching import KEEP, PAST, PRESENT


def can_cache(net: nn.Module) -> bool:
    """Whether every layer keeps the keys and values of all tokens: not of a sliding window, nor a state of its own."""
    taken = inspect.signature(net.forward).parameters
    return {"past_key_values", KEEP} <= set(taken) and all(type(layer) is DynamicLayer for layer in _empty(net).layers)


def filled(net: nn.Module, arrays: Mapping[str, Tensor]) -> DynamicCache:
    """arrays: `past_key_values.N.key` and `.value`, `[B, heads, P, width]` each, of every layer N; or none at all."""
    cache = _empty(net)
    for i, layer in enumerate(_layers(cache) if arrays else ()):
        # Not by update(), which would put the concatenation with an empty tensor into a graph.
        keys, values = arrays[f"{PAST}.{i}.key"], arrays[f"{PAST}.{i}.value"]
        layer.keys, layer.values, layer.is_initialized = keys, values, True
        layer.dtype, layer.device = keys.dtype, keys.device
    return cache


def flat(cache: DynamicCache) -> dict[str, Tensor]:
    """`present.N.key` and `.value` of every layer N."""
    return {
        f"{PRESENT}.{i}.{kind}": tensor
        for i, layer in enumerate(_layers(cache))
        for kind, tensor in (("key", layer.keys), ("value", layer.values))
        if tensor is not None
    }


def _empty(net: nn.Module) -> DynamicCache:
    config: PreTrainedConfig = net.config  # type: ignore[assignment]
    return DynamicCache(config=config)


def _layers(cache: DynamicCache) -> list[DynamicLayer]:
    return cast("list[DynamicLayer]", cache.layers)
