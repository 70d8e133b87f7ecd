"""Linear layers by oneDNN where torch's own way is slow.

torch multiplies float32 matrices by MKL, which has its quick kernels for Intel's processors alone. On AMD's, oneDNN,
which torch brings for convolutions, takes half the time over the same weights, and rounds a little otherwise. In
bfloat16 it is oneDNN everywhere, and here the weights stay in that precision (`zoo.backends.halved`).
"""

from __future__ import annotations

import functools
import platform
import sys
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from zoo.backends import halved

# oneDNN is asked by way of 20 us a call: worth it for so many multiplications, or so many numbers to fetch.
_WORK = 1 << 21
_LARGE = 1 << 19
_LEAST = 1 << 14  # numbers of a weight that may come to that


def quicken(module: nn.Module) -> None:
    """Let the linear layers of a module answer by oneDNN, where that is quicker. Training goes on as it did."""
    if not worthwhile() and not halved.possible():
        return
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.Linear: Linear, **_conv1d()}
    for part in module.modules():
        # Subclasses have a forward of their own, or are asked for their weight alone.
        if type(part) in kinds and sum(parameter.numel() for parameter in part.parameters()) >= _LEAST:
            part.__class__ = kinds[type(part)]


@functools.cache
def worthwhile() -> bool:
    """Whether torch has both libraries, and the processor is one that MKL is slow on."""
    return (
        _maker() == "AuthenticAMD"
        and torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )


def _maker() -> str:
    """As the processor names it; empty where nobody says."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        # Windows: "AMD64 Family 25 Model 33 Stepping 0, AuthenticAMD".
        return platform.processor().rpartition(" ")[2]
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("vendor_id")), "")


class Quick(nn.Module):
    """Of a layer: what it keeps goes where it learns or moves."""

    def train(self, mode: bool = True) -> Self:
        if mode:
            halved.forget(self)
        return super().train(mode)

    def _apply(self, *given: Any, **named: Any) -> Self:
        halved.forget(self)
        moved: Self = super()._apply(*given, **named)  # type: ignore[no-untyped-call]
        return moved


class Linear(Quick, nn.Linear):
    """torch's own, which answers by oneDNN."""

    def forward(self, input: Tensor) -> Tensor:
        if answers(input, self.weight):
            return product(input, self.weight, self.bias)
        if halved.answers(input, self.weight):
            return halved.product(self, input)
        return super().forward(input)


def _conv1d() -> dict[type[nn.Module], type[nn.Module]]:
    """transformers' layer of that kind; nothing where no model of transformers was built, which has none."""
    if "zoo.backends.transformers" not in sys.modules:
        return {}
    from transformers.pytorch_utils import Conv1D

    from zoo.backends.transformers.conv1d import QuickConv1D

    return {Conv1D: QuickConv1D}


def answers(input: Tensor, weight: Tensor) -> bool:
    """Whether nothing but numbers is asked for: no gradient, no graph, no other precision; and enough of them."""
    size = weight.numel()
    return (
        not torch.is_grad_enabled()
        and type(input) is Tensor
        and (size >= _LARGE or input.numel() // max(input.shape[-1], 1) * size >= _WORK)
        and input.numel() > 0
        and input.is_cpu
        and weight.is_cpu
        and input.dtype is torch.float32
        and weight.dtype is torch.float32
        and bool(torch.backends.mkldnn.enabled)
        and not torch.is_autocast_enabled("cpu")
        and worthwhile()
        and not (torch.compiler.is_compiling() or torch.compiler.is_exporting())
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
    )


def product(input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    found: Tensor = _operator()(input, weight, bias, "none", [], "")
    return found


@functools.cache
def _operator() -> Any:
    return torch.ops.mkldnn._linear_pointwise.default
