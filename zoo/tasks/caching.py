"""A language model's graph with a cache: the names of its arrays, and what goes in besides tokens. NumPy alone.

Keys and values of each layer N go in as `past_key_values.N.key` and `.value`, `[B, heads, P, width]`, and come out as
`present.N.key` and `.value`, `[B, heads, P + T, width]`, those of the T new tokens behind. At the beginning P is 0.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.modalities.base import Array

PAST, PRESENT, KEEP, POSITIONS = "past_key_values", "present", "logits_to_keep", "position_ids"
_AXES: dict[str, tuple[int | str, ...]] = {
    "input_ids": ("batch", "length"),
    "attention_mask": ("batch", "total"),
    POSITIONS: ("batch", "length"),
    KEEP: ("kept",),
    "logits": ("batch", "kept"),
    PAST: ("batch", "heads", "past"),
    PRESENT: ("batch", "heads", "total"),
}
_FIXED = ("heads",)


def axes(name: str, array: Array) -> tuple[int | str, ...]:
    """The shape of an array of the graph: a name where an axis is of any length, a number elsewhere."""
    named = _AXES[name.split(".")[0]]
    return tuple(named[i] if i < len(named) and named[i] not in _FIXED else size for i, size in enumerate(array.shape))


def is_past(name: str) -> bool:
    return name.startswith(f"{PAST}.")


def past_of(present: str) -> str:
    """The input that goes on from this output."""
    return present.replace(PRESENT, PAST, 1)


def positions(attention_mask: Array) -> Array:
    """int64 `[B, T]`: real tokens counted from 0, on whichever side the padding is."""
    return np.maximum(np.cumsum(attention_mask, axis=1, dtype=np.int64) - 1, 0)


def step(ids: Array, mask: Array, keep: Array, past: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs of one run.

    ids: int64 `[B, T]`, new tokens. mask: int64 `[B, P + T]`, of the earlier ones too. keep: int64 `[K]`, places in T
    whose logits are wanted.
    """
    return {
        "input_ids": ids,
        "attention_mask": mask,
        POSITIONS: positions(mask)[:, -ids.shape[1] :],
        KEEP: keep,
        **past,
    }
