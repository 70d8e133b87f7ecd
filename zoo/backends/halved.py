"""Weights of linear layers in bfloat16, kept from answer to answer.

Under autocast each batch turns every weight into bfloat16 anew, which for one text of 40 tokens takes longer than all
of its products. Here oneDNN's own layout of them is kept beside the layer, half as large as the weight itself, and made
anew where the weight has changed since.
"""

from __future__ import annotations

import functools
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

_SAMPLES = 7


class Layer(Protocol):
    @property
    def weight(self) -> Tensor: ...

    @property
    def bias(self) -> Tensor | None: ...


class _Kept(NamedTuple):
    weight: Tensor
    bias: Tensor | None
    state: tuple[object, ...]


_kept: WeakKeyDictionary[object, _Kept] = WeakKeyDictionary()


@functools.cache
def possible() -> bool:
    """Whether torch has oneDNN, and that has products in bfloat16 on this processor, which are slow on some."""
    return (
        torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and all(hasattr(torch.ops.mkldnn, name) for name in ("_linear_pointwise", "_is_mkldnn_bf16_supported"))
        and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def answers(input: Tensor, weight: Tensor) -> bool:
    """Whether autocast asks for bfloat16 on a CPU, and for nothing but numbers: no gradient and no graph."""
    # First: a compiler is to see nothing of all this.
    if torch.compiler.is_compiling():
        return False
    return (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") is torch.bfloat16
        and not torch.is_grad_enabled()
        and type(input) is Tensor
        and input.is_cpu
        and weight.is_cpu
        and input.numel() > 0
        and input.dtype in (torch.float32, torch.bfloat16)
        and weight.dtype is torch.float32
        # Nothing counts the changes of one that was made in a block of inference.
        and not weight.is_inference()
        and bool(torch.backends.mkldnn.enabled)
        and possible()
        and not torch.compiler.is_exporting()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def product(layer: Layer, input: Tensor, *, turned: bool = False) -> Tensor:
    """bfloat16, as of autocast. turned: its weight is `[in, out]`, and not `[out, in]`."""
    weight, bias = layer.weight, layer.bias
    state = (_state(weight), None if bias is None else _state(bias))
    kept = _kept.get(layer)
    if kept is None or kept.state != state:
        kept = _kept[layer] = _Kept(
            _laid_out(weight.t() if turned else weight), None if bias is None else bias.bfloat16(), state
        )
    found: Tensor = _operator()(input.bfloat16(), kept.weight, kept.bias, "none", [], "")
    return found


def forget(layer: object) -> None:
    """Give the memory back."""
    _kept.pop(layer, None)


def _state(tensor: Tensor) -> tuple[object, ...]:
    """What tells a change: torch's count, and some of the numbers, for what is written by way of `.data`, as merged
    adapters are, is not counted."""
    flat = tensor.detach().flatten()
    return tensor.data_ptr(), tensor._version, *flat[:: max(len(flat) // _SAMPLES, 1)].tolist()


@torch.inference_mode()
def _laid_out(weight: Tensor) -> Tensor:
    found: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.bfloat16())
    return found


@functools.cache
def _operator() -> torch._ops.OpOverload:
    return torch.ops.mkldnn._linear_pointwise.default
