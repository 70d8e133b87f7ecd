"""Small NumPy functions that tasks share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from zoo.modalities.base import Array, Example
from zoo.spec import ModelSpec


def softmax(logits: Array) -> Array:
    """Probabilities over the last axis, in the dtype of `logits`."""
    shifted = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=-1, keepdims=True))


def log_softmax(logits: Array) -> Array:
    """Log-probabilities over the last axis, in the dtype of `logits`."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True)))


def sigmoid(logits: Array) -> Array:
    """Probabilities of each number on its own, in the dtype of `logits`."""
    return np.asarray(np.where(logits >= 0, 1.0, np.exp(-np.abs(logits))) / (1.0 + np.exp(-np.abs(logits))))


def vocabulary_size(spec: ModelSpec) -> int:
    """What a language model's logits are of; 1 where the spec does not say."""
    size = spec.config.get("vocab_size", 1)
    return size if isinstance(size, int) else 1


def by_length(rows: Sequence[Array], windows: Sequence[Example]) -> Array:
    """The mean over windows `[D]`, each counted by its length: a short last window says less."""
    if len(rows) == 1:
        return np.asarray(rows[0])
    return np.asarray(np.average(np.stack(rows), axis=0, weights=[max(window.length, 1) for window in windows]))


def unpadded(rows: Array, length: int, *, left: bool) -> Array:
    """`[T, ...]` without the padding of its batch: `[length, ...]`."""
    return rows[len(rows) - length :] if left else rows[:length]
