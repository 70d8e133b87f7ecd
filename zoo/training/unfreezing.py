"""Gradual unfreezing: the head first, then the body's layers from the top down (Howard & Ruder 2018, ULMFiT)."""

from __future__ import annotations

from typing import Any, final

from torch import nn

from zoo.training import layers


@final
class Unfreezing:
    """Which layers a step trains. They thaw one after another, evenly, until all do after `share` of `total` steps."""

    def __init__(self, module: Any, share: float, total: int) -> None:
        places, top = layers.depths(module)
        self._module = module
        found: dict[int, list[nn.Parameter]] = {}
        for name, parameter in module.net.named_parameters():
            # What the user has frozen stays so; the head and what lies around it is never frozen.
            if parameter.requires_grad and not module.in_head(name) and places[name] < top:
                found.setdefault(places[name], []).append(parameter)
        self._frozen = [found[place] for place in sorted(found, reverse=True)]
        # Without a head of its own there is something to train all the same.
        first = 0 if any(True for _ in module.head_parameters()) else 1
        self._first = min(first, len(self._frozen))
        self._pace = share * total / max(1, len(self._frozen) - self._first)
        self._thawed = -1

    def at(self, step: int) -> None:
        """Before the step after `step` of them: freezes and thaws what that one needs."""
        thawed = min(len(self._frozen), self._first + int(step / self._pace))
        if thawed == self._thawed:
            return
        self._thawed = thawed
        for place, parameters in enumerate(self._frozen):
            for parameter in parameters:
                parameter.requires_grad_(place < thawed)
        # Statistics of frozen batch norms rest, too.
        self._module.train(self._module.training)
