"""A moving average of the weights beside those that are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


@final
class Average:
    """The average of a module's trained parameters and of its buffers (those of whole numbers are the newest).

    Tied weights are one. The module is as it was when this is made: on its device, with what a method has inserted.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self._module = module
        self._decay = decay
        trained = {name: tensor for name, tensor in module.named_parameters() if tensor.requires_grad}
        self._live: dict[str, Tensor] = {
            name: tensor.detach() for name, tensor in {**trained, **dict(module.named_buffers())}.items()
        }
        self._kept = {name: tensor.clone() for name, tensor in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After the optimiser's step, counted from 1: the first weights shall not weigh on a short run."""
        names = [name for name, tensor in self._live.items() if tensor.is_floating_point()]
        kept, live = [self._kept[name] for name in names], [self._live[name] for name in names]
        decay = min(self._decay, (1 + step) / (10 + step))
        mean: Callable[..., None] = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        mean(kept, live, step)
        for name in self._live.keys() - set(names):
            self._kept[name].copy_(self._live[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module with the average as its weights, for a while."""
        before = {name: tensor.clone() for name, tensor in self._live.items()}
        self._put(self._kept)
        try:
            yield
        finally:
            self._put(before)

    def apply(self) -> None:
        """The same for good."""
        self._put(self._kept)

    def state(self) -> dict[str, Tensor]:
        """A whole state of the module, as the average has it."""
        with self.applied():
            return {name: tensor.detach().clone() for name, tensor in self._module.state_dict().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """What `state` gave."""
        for name, tensor in self._kept.items():
            if name in state:
                tensor.copy_(state[name])

    @torch.no_grad()
    def _put(self, tensors: Mapping[str, Tensor]) -> None:
        for name, tensor in self._live.items():
            tensor.copy_(tensors[name])
