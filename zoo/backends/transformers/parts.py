"""The parts of an upstream model: its body, and what belongs to the task."""

from __future__ import annotations

from typing import Any


def base_of(net: Any) -> Any:
    """The body within a model with a head; the model itself when it has none."""
    return getattr(net, net.base_model_prefix, net)


def head_of(net: Any) -> tuple[str, ...]:
    if base_of(net) is net:
        return ()
    names = [name for name, child in net.named_children() if any(True for _ in child.parameters())]
    return tuple(name for name in (*names, *net._parameters) if name != net.base_model_prefix)
