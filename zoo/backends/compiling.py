"""Modules by torch's compiler, where that was asked for: a slow first answer, and quicker ones after it.

Nothing of it stays in a module: it goes on as it was wherever it isn't called from here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from zoo.backends.module import ZooModule

_IMAGE_AXES = 4


def forward_of(module: ZooModule) -> Callable[..., dict[str, Tensor]]:
    """The module's forward pass, compiled: a graph for batches of all sizes, and another for a batch of one row."""

    def call(**inputs: Tensor) -> dict[str, Tensor]:
        found: dict[str, Tensor] = _compiled(_forward, _dynamic(inputs))(module, inputs)
        return found

    return call


def embed_of(module: ZooModule, pooling: str | None) -> Callable[..., Tensor]:
    """The same of `module.embed`."""

    def call(**inputs: Tensor) -> Tensor:
        found: Tensor = _compiled(_embed, _dynamic(inputs))(module, pooling, inputs)
        return found

    return call


def _dynamic(inputs: Mapping[str, Tensor]) -> bool | None:
    """None for images: kernels are made for their one size, until a last batch shows that their number varies."""
    return None if any(tensor.dim() >= _IMAGE_AXES for tensor in inputs.values()) else True


@cache
def _compiled(function: Callable[..., Any], dynamic: bool | None) -> Callable[..., Any]:
    # One for all modules, which torch tells apart by itself: to make another for each batch takes a millisecond.
    return torch.compile(function, dynamic=dynamic)


def _forward(module: ZooModule, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = module(**inputs)
    return found


def _embed(module: ZooModule, pooling: str | None, inputs: Mapping[str, Tensor]) -> Tensor:
    return module.embed(pooling, **inputs)
