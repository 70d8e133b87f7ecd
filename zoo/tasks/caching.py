"""Graphs with a cache: the names of their arrays, and what goes in besides tokens. NumPy alone.

Keys and values of each layer N go in as `past_key_values.N.key` and `.value`, `[B, heads, P, width]`, and come out as
`present.N.key` and `.value`, `[B, heads, P + T, width]`, those of the T new tokens behind. At the beginning P is 0.
Of an encoder-decoder model `cross.N.key` and `.value`, `[B, heads, S, width]`, are what the decoder sees of the input:
its encoder gives them, once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from zoo.modalities.base import Array

PAST, PRESENT, CROSS = "past_key_values", "present", "cross"
KEEP, POSITIONS, TOKENS, HIDDEN = "logits_to_keep", "position_ids", "decoder_input_ids", "encoder_hidden"
# Of a language model's graph with shortlists: the places of the new tokens whose successors are wanted, and those.
LISTED, LISTS = "shortlist_of", ("candidates", "candidate_logits", "rest")
Axes = Mapping[str, tuple[str, ...]]
_CACHE: Axes = {PAST: ("batch", "heads", "past"), PRESENT: ("batch", "heads", "total")}
LANGUAGE: Axes = {
    "input_ids": ("batch", "length"),
    "attention_mask": ("batch", "total"),
    POSITIONS: ("batch", "length"),
    KEEP: ("kept",),
    "logits": ("batch", "kept"),
    "hidden": ("batch", "length"),  # within the graph alone
    **_CACHE,
}
# Of what is heard, windows have one length, and no mask.
SPEECH: Axes = {
    "input_features": ("batch",),
    HIDDEN: ("batch",),
    CROSS: ("batch",),
    TOKENS: ("batch", "target"),
    "logits": ("batch", "target"),
    **_CACHE,
}
TEXTS: Axes = {
    **SPEECH,
    "input_ids": ("batch", "length"),
    "attention_mask": ("batch", "length"),
    HIDDEN: ("batch", "length"),
    CROSS: ("batch", "heads", "length"),
}


def axes(name: str, array: Array, named: Axes) -> tuple[int | str, ...]:
    """The shape of an array of a graph: a name where an axis is of any length, a number elsewhere."""
    names = named[name.split(".")[0]]
    return tuple(names[i] if i < len(names) and names[i] != "heads" else size for i, size in enumerate(array.shape))


def is_cache(name: str) -> bool:
    """Whether a graph's array is keys or values, on either side."""
    return name.split(".")[0] in (PAST, PRESENT, CROSS)


def is_past(name: str) -> bool:
    return name.startswith(f"{PAST}.")


def past(outputs: Mapping[str, Array]) -> dict[str, Array]:
    """What goes on from these outputs, by its inputs' names."""
    return {past_of(name): array for name, array in outputs.items() if name.startswith(f"{PRESENT}.")}


def past_of(present: str) -> str:
    """The input that goes on from this output."""
    return present.replace(PRESENT, PAST, 1)


def positions(attention_mask: Array) -> Array:
    """int64 `[B, T]`: real tokens counted from 0, on whichever side the padding is."""
    return np.maximum(np.cumsum(attention_mask, axis=1, dtype=np.int64) - 1, 0)


def empty(shape: Sequence[int | str], batch: int, dtype: str) -> Array:
    """Keys or values of no tokens. shape: as `axes` gives it."""
    sizes = {"batch": batch, "past": 0}
    return np.zeros([size if isinstance(size, int) else sizes[size] for size in shape], dtype=dtype)


def step(ids: Array, mask: Array, keep: Array, past: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs of one run of a language model.

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
