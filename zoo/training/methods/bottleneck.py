"""Bottleneck adapters: a small network behind a frozen layer, added to what that layer gives."""

from __future__ import annotations

from typing import Any, final

from torch import Tensor, nn

from zoo.errors import ConfigError
from zoo.training.methods import targets
from zoo.training.methods.plan import Adapted, Plan, Unfit, swap


@final
class Bottleneck(nn.Module):
    """`y + up(gelu(down(y)))` of the frozen layer's `y`: `[..., D]` of a linear one, `[B, C, H, W]` of a convolution.

    Houlsby et al. 2019 (behind attention and feed-forward, before the residual sum); for convolutions 1 x 1 ones, as
    the residual adapters of Rebuffi et al. 2017. `up` starts at zero, so that nothing changes at first.
    """

    def __init__(self, layer: nn.Module, size: int) -> None:
        super().__init__()
        self.base_layer = layer
        if isinstance(layer, nn.Conv2d):
            width = layer.out_channels
            self.down: nn.Module = nn.Conv2d(width, min(size, width), 1)
            self.up: nn.Module = nn.Conv2d(min(size, width), width, 1)
        else:
            width = _width(layer)
            self.down = nn.Linear(width, min(size, width))
            self.up = nn.Linear(min(size, width), width)
        weight = self.weight
        self.down.to(weight.device, weight.dtype)
        self.up.to(weight.device, weight.dtype)
        for part in (self.down, self.up):
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.down.weight, std=1e-2)
        nn.init.zeros_(self.up.weight)

    # Some networks look at a layer's weight, for its dtype.
    @property
    def weight(self) -> Tensor:
        found: Any = self.base_layer.weight
        assert isinstance(found, Tensor)
        return found

    @property
    def bias(self) -> Tensor | None:
        found: Any = self.base_layer.bias
        return found if isinstance(found, Tensor) else None

    def forward(self, *args: Any, **kwargs: Any) -> Tensor:
        y: Tensor = self.base_layer(*args, **kwargs)
        added: Tensor = self.up(nn.functional.gelu(self.down(y)))
        return y + added


@final
class Bottlenecks(Adapted):
    """method="adapter". It is part of the graph for ever: there is no weight that it could be merged into."""

    def merge(self, net: nn.Module) -> None:
        raise ConfigError(
            'What method="adapter" inserts can\'t be merged into the weights; save(), save_adapter() and export() '
            "keep it beside them."
        )


def insert(module: Any, plan: Plan) -> Adapted:
    """Raises Unfit for a network with nothing to put an adapter behind."""
    plain = frozenset(module.net.state_dict())
    found = targets.outputs(module)
    if not found:
        raise Unfit("goes behind the layers of a transformer or behind convolutions, and finds none")
    for name, layer in found.items():
        swap(module.net, name, Bottleneck(layer, int(plan.options["size"])))
    return Bottlenecks(plan, plain)


def _width(layer: Any) -> int:
    return int(layer.nf) if targets.is_conv1d(layer) else int(layer.out_features)
