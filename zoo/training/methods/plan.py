"""What is inserted into a network to fine-tune it: the plan, and the contract of what was inserted."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

# peft's name for the layer inside of one of its own, and ours: without it a key is the plain network's.
BASE = "base_layer"


class Unfit(Exception):
    """A network has no place for what a method inserts. The text goes on a sentence: `method="prefix" ...`."""


@dataclass(frozen=True)
class Plan:
    """method: "lora", "adalora", "ia3", "adapter", "prefix", "prompt" or "peft". options: plain values."""

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)


class Adapted(ABC):
    """What a method has put into a network, in place. Abstract; one final kind a family of methods.

    plain: the keys of the network's state before. mergeable: whether `merge` can put it into the weights.
    """

    mergeable = False

    def __init__(self, plan: Plan, plain: frozenset[str]) -> None:
        self.plan = plan
        self.plain = plain

    def is_adapter(self, key: str) -> bool:
        """Whether a key of the network's state is of what was inserted."""
        return plain_key(key) not in self.plain

    @abstractmethod
    def merge(self, net: nn.Module) -> None:
        """Take it out of the network again, its effect put into the weights. Only if `mergeable`."""

    def start(self, total: int) -> None:  # noqa: B027
        """Before the first of `total` optimiser steps."""

    def penalty(self) -> Tensor | None:
        """Added to the loss of a step, if anything."""
        return None

    def after_step(self, net: nn.Module, step: int) -> None:  # noqa: B027
        """After the optimiser's step, counted from 1, while the gradients are still there."""

    def state(self) -> dict[str, Any]:
        """What a checkpoint must hold beside the tensors of the network."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027
        """What `state` gave."""


def plain_key(key: str) -> str:
    return key.replace(f".{BASE}.", ".")


def swap(net: nn.Module, name: str, new: nn.Module) -> None:
    """Put another module in the place of one."""
    parent, _, last = name.rpartition(".")
    setattr(net.get_submodule(parent), last, new)
