"""Upstream's cache of keys and values as flat arrays by name, which is what a graph can take and give."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import cast, final

import torch
from torch import Tensor, nn
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedConfig
from transformers.cache_utils import DynamicLayer

from zoo.backends.sequences import EncoderDecoder
from zoo.tasks.caching import CROSS, HIDDEN, KEEP, PAST, PRESENT

_SPARE = 64  # tokens


def can_cache(net: nn.Module) -> bool:
    """Whether every layer keeps the keys and values of all tokens: not of a sliding window, nor a state of its own."""
    taken = {"past_key_values"} if net.config.is_encoder_decoder else {"past_key_values", KEEP}  # type: ignore[union-attr]
    plain = all(type(layer) is DynamicLayer for layer in _empty(net).layers)
    return plain and taken <= set(inspect.signature(net.forward).parameters)


@final
class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values with room for more behind them: a token further is written there, and nothing else is moved.

    Upstream's own copies all of the cache for each token.
    """

    _room: tuple[Tensor, Tensor] | None = None

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        begin = self.get_seq_length()
        end = begin + key_states.shape[-2]
        if self._room is None or end > self._room[0].shape[-2]:
            self._grow(key_states, value_states, begin, 2 * end + _SPARE)
        assert self._room is not None
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, begin:end] = new
        self.keys, self.values = (room[:, :, :end] for room in self._room)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        if self._room is not None:
            end = self.get_seq_length()
            self._room = self._room[0][indices], self._room[1][indices]
            self.keys, self.values = (room[:, :, :end] for room in self._room)

    def _grow(self, keys: Tensor, values: Tensor, begin: int, capacity: int) -> None:
        wider = tuple(new.new_empty((*new.shape[:2], capacity, new.shape[-1])) for new in (keys, values))
        if self.keys is not None and self.values is not None:
            wider[0][:, :, :begin], wider[1][:, :, :begin] = self.keys, self.values
        self._room = wider[0], wider[1]
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


@final
class FixedLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Keys and values in tensors of one size: a token's are written at `place`, int64 `[1]`, and all of them come."""

    def __init__(self, keys: Tensor, values: Tensor, place: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.keys, self.values, self.place = keys, values, place
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True

    def update(self, key_states: Tensor, value_states: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        room: list[Tensor] = [self.keys, self.values]  # type: ignore[list-item]
        for held, new in zip(room, (key_states, value_states), strict=True):
            held.index_copy_(2, self.place, new.to(held.dtype))
        return room[0], room[1]


def can_fix(net: nn.Module) -> bool:
    """Whether a step may run over keys of one size, with its place told by a tensor: upstream knows which networks do.
    A bias by distance (alibi) is counted on the mask, which is another one there."""
    return (
        can_cache(net) and bool(getattr(net, "_can_compile_fullgraph", False)) and not getattr(net.config, "alibi", 0)
    )


def fixed(net: nn.Module, layers: Sequence[Sequence[Tensor]], place: Tensor) -> DynamicCache:
    """A cache of these keys and values, `[B, heads, C, width]`, which are written to at `place`."""
    cache = _empty(net)
    cache.layers = [FixedLayer(keys, values, place) for keys, values in layers]
    return cache


def growing(net: nn.Module) -> DynamicCache:
    """An empty cache that grows without being copied, in those layers that keep the keys and values of all tokens."""
    cache = _empty(net)
    cache.layers = [GrowingLayer() if type(layer) is DynamicLayer else layer for layer in cache.layers]  # type: ignore[no-untyped-call]
    return cache


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
