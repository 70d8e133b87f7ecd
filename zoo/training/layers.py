"""How deep each parameter lies: embeddings at the bottom, the head on top, the network's blocks between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from zoo.errors import ConfigError
from zoo.training import optimizers

# Convolutions before a speech model's layers, which are its embedding.
_FRONT = ("feature_extractor", "pos_conv_embed")


def depths(module: Any) -> tuple[dict[str, int], int]:
    """Of each parameter of `module.net` by name, 0 for the embeddings; and the depth of the top, which has the head.

    timm's models say themselves (`group_matcher`). In others each block of a list of like blocks is a layer, in the
    order in which they are registered: what comes before the first is the bottom, what comes after the last the top.
    Raises ConfigError for a network without such lists.
    """
    net: Any = module.net
    if hasattr(net, "group_matcher"):
        from timm.models import group_parameters

        found: dict[str, int] = group_parameters(net, net.group_matcher(coarse=False), reverse=True)
        return found, max(found.values())
    places = {name: place for place, names in enumerate(_blocks(module, net), 1) for name in names}
    if not places:
        raise ConfigError(
            f"{type(net).__name__} has no layers one above the other, which layer_decay and gradual_unfreezing need."
        )
    top = max(places.values()) + 1
    tables, seen, found = optimizers.embeddings(net), 0, {}
    for name, parameter in net.named_parameters():
        inside = _place(name, places)
        seen = max(seen, inside or 0)
        outside = 0 if id(parameter) in tables else top if seen == top - 1 else seen
        found[name] = top if module.in_head(name) else outside if inside is None else inside
    return found, top


def _blocks(module: Any, net: nn.Module, prefix: str = "") -> Iterator[list[str]]:
    """The names of the parts of each block, from the bottom up: itself, or what lies around it in its stage."""
    for name, child in net.named_children():
        path = f"{prefix}{name}"
        if name in _FRONT or module.in_head(path):
            continue
        if not _alike(child):
            yield from _blocks(module, child, f"{path}.")
            continue
        for number, block in child.named_children():
            yield from list(_stage(block, f"{path}.{number}.")) or [[f"{path}.{number}"]]


def _stage(stage: nn.Module, prefix: str) -> Iterator[list[str]]:
    """The blocks of a stage, if it is one: what comes before them goes with the first, after them with the last."""
    if _alike(stage):
        yield from ([f"{prefix}{number}"] for number, _ in stage.named_children())
        return
    children = list(stage.named_children())
    place = next((i for i, (_, child) in enumerate(children) if _alike(child)), None)
    if place is None:
        return
    found = [[f"{prefix}{children[place][0]}.{number}"] for number, _ in children[place][1].named_children()]
    found[0] += [f"{prefix}{name}" for name, _ in children[:place]]
    found[-1] += [f"{prefix}{name}" for name, _ in children[place + 1 :]]
    yield from found


def _alike(module: nn.Module) -> bool:
    """Whether it is a list of blocks of one kind, that have parts themselves."""
    children = list(module.children())
    return (
        isinstance(module, (nn.ModuleList, nn.Sequential))
        and len({type(child) for child in children}) == 1
        and any(True for _ in children[0].children())
        and all(any(True for _ in child.parameters()) for child in children)
    )


def _place(name: str, places: dict[str, int]) -> int | None:
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        found = places.get(".".join(parts[:length]))
        if found is not None:
            return found
    return None
