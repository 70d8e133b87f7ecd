"""Dropout on a CPU, where torch draws one number after another for it: a fifth of a step of a small BERT, as measured.

Here a 64-bit number of torch's generator is four numbers of 16 bits, each of which decides on one value. So the share
that is dropped is a multiple of 1/65,536, and what is kept is scaled by just that; seeds, and what a checkpoint
restores, hold as before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

_STEPS = 1 << 16
_RARE = 1e-3  # a share below this is not told well in steps; it is torch's own then


@contextmanager
def quick(device: torch.device, *, unless: bool = False) -> Iterator[None]:
    """In this block dropout of float32 and bfloat16 on a CPU, and that of attention, is as this module has it.

    unless: not where layers run again in the backward pass, in which torch turns such blocks off, so that others would
    be dropped there; nor where a compiler makes kernels of its own.
    """
    if device.type != "cpu" or unless:
        yield
        return
    with _Quick():
        yield


@final
class _Quick(TorchFunctionMode):
    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        own = _OWN.get(func)
        found = own(*args, **(kwargs or {})) if own is not None else None
        return func(*args, **(kwargs or {})) if found is None else found


def _dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor | None:
    if not training or inplace or not _fits(input, p):
        return None
    return input * _noise(input, p)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> Tensor | None:  # fmt: skip
    # With dropout torch has no fused kernel on a CPU either, and does these same steps.
    if is_causal or enable_gqa or not _fits(query, dropout_p):
        return None
    scores = query * (scale or 1 / math.sqrt(query.shape[-1])) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        hidden = torch.zeros(attn_mask.shape).masked_fill_(~attn_mask, torch.finfo(torch.float32).min)
        scores = scores + hidden
    elif attn_mask is not None:
        scores = scores + attn_mask
    shares = scores.softmax(dim=-1, dtype=torch.float32).to(value.dtype)
    return shares * _noise(shares, dropout_p) @ value


_OWN: dict[Any, Callable[..., Tensor | None]] = {
    functional.dropout: _dropout,
    functional.scaled_dot_product_attention: _attention,
}


def _fits(values: Tensor, p: float) -> bool:
    return _RARE <= p < 1 and values.dtype in (torch.float32, torch.bfloat16) and values.device.type == "cpu"


def _noise(like: Tensor, p: float) -> Tensor:
    """Nought for what is dropped, and what makes up for it for all else."""
    steps = round((1 - p) * _STEPS)
    count = like.numel()
    drawn = torch.empty(-(-count // 4), dtype=torch.int64).random_(-(1 << 63), None).view(torch.int16)[:count]
    # Written as numbers at once: turning truth values into them takes longer than drawing.
    return (
        torch.lt(drawn, steps - _STEPS // 2, out=torch.empty(count, dtype=like.dtype))
        .mul_(_STEPS / steps)
        .view(like.shape)
    )
