"""The one preprocessing of the project: raw input to NumPy, and examples to a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Example:
    """One window of one raw input, without a batch axis.

    inputs: the module's inputs by name: text int64 `input_ids [T]`, `attention_mask [T]`; image uint8
        `pixel_values [3, H, W]`; audio float32 `input_values [S]` and int64 `attention_mask [S]`.
    length: what the batch is padded to and what it costs: tokens, samples, or 1 for an image.
    source: what decoding needs of the raw input (a `TextSource` for text).
    targets: what `Task.attach` adds, by name.
    row, window, windows: which raw input of the call this is, and which window of how many.
    """

    inputs: Mapping[str, Array]
    length: int
    source: Any = None
    targets: Mapping[str, Array] = field(default_factory=dict)
    row: int = 0
    window: int = 0
    windows: int = 1

    def at(self, row: int) -> Example:
        return replace(self, row=row)


class Encoder(ABC):
    """A modality. Abstract or final: `TextEncoder`, `ImageEncoder`, `AudioEncoder`."""

    @abstractmethod
    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One raw input as one or more windows, in order.

        overlap: the share of a window, in [0, 0.9], that it repeats of the one before it.
        Raises InputError that says what came and what is accepted.
        """

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """Examples as arrays `[B, ...]`, padded to the longest."""

    @abstractmethod
    def describe(self, raw: Any) -> str:
        """A short name of a raw input for messages: the path, or the first words."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write what `spec.input` does not say (a tokenizer) beside it."""


def pad(rows: Sequence[Array], value: float, *, left: bool = False) -> Array:
    """One-dimensional (or `[T, ...]`) rows as one array `[B, max T, ...]`, padded with `value`."""
    longest = max(len(row) for row in rows)
    out = np.full((len(rows), longest, *rows[0].shape[1:]), value, dtype=rows[0].dtype)
    for index, row in enumerate(rows):
        out[index, longest - len(row) if left else 0 :][: len(row)] = row
    return out
