"""Which rows make which step: shuffled, of similar length, the same on every process and after a resume."""

from __future__ import annotations

from itertools import pairwise
from math import ceil

import numpy as np

from zoo.modalities.base import Array

# Steps whose rows are sorted together: enough for little padding, few enough for random steps.
_WINDOW = 32

_DEFAULT = {
    ("text", False): 16,
    ("text", True): 32,
    ("image", False): 16,
    ("image", True): 64,
    ("audio", False): 4,
    ("audio", True): 16,
    ("tabular", False): 256,
    ("tabular", True): 1024,
    ("mel", False): 4,
    ("mel", True): 16,
}


def heuristic(kind: str, items: int, *, accelerated: bool) -> int:
    """Where batch_size="auto" starts. Small data gets smaller batches: an epoch has at least about eight steps."""
    small = 1 << max(2, (max(items, 1) // 8).bit_length() - 1)
    return min(_DEFAULT[kind, accelerated], small)


def steps(lengths: Array, size: int, *, seed: int, epoch: int, classes: Array | None = None) -> list[Array]:
    """An epoch's optimiser steps: each the items, int64 `[n]` with n <= size, that it counts.

    Every item comes once. Steps are as equal in size as can be, so that no leftover step of one row weighs as
    much as a full one. Items of a step are of similar length, longest first. Depends on the arguments alone.

    classes: int64 `[N]`, of each item: then as many items come in all, and equally many of each class.
    """
    random = np.random.default_rng([seed, epoch])
    order = random.permutation(len(lengths)) if classes is None else random.permutation(balanced(classes, random))
    count = ceil(len(lengths) / size)
    bounds = np.linspace(0, len(lengths), count + 1).astype(np.int64)
    for first in range(0, count, _WINDOW):
        part = slice(bounds[first], bounds[min(first + _WINDOW, count)])
        order[part] = order[part][np.argsort(-lengths[order[part]], kind="stable")]
    found = [order[start:end] for start, end in pairwise(bounds)]
    found = [found[i] for i in random.permutation(count)]
    if epoch == 0 and found:
        # The costliest step first: memory runs out in the first second, or not at all.
        longest = max(range(count), key=lambda i: (int(lengths[found[i]].max()), -i))
        found[0], found[longest] = found[longest], found[0]
    return found


def balanced(classes: Array, random: np.random.Generator) -> Array:
    """int64 `[N]`: as many items as there are, equally many of each class, but for what doesn't divide.

    All of a class come equally often, but for one: within an epoch nothing is left out for chance to repeat another.
    """
    kinds = random.permutation(np.unique(classes))
    wanted = np.diff(np.linspace(0, len(classes), len(kinds) + 1).astype(np.int64))
    found = []
    for kind, count in zip(kinds, wanted, strict=True):
        members = random.permutation(np.flatnonzero(classes == kind))
        found.append(np.resize(members, count))
    return np.concatenate(found)


def share(step: Array, *, rank: int, world: int, size: int) -> list[Array]:
    """One process's forward passes of a step: equally many on every process, each of at most `size` items.

    A step of fewer items than processes leaves some with an empty pass.
    """
    passes = ceil(ceil(len(step) / world) / size)
    return np.array_split(step[rank::world], passes)
