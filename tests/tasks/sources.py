"""Specs, windows and batches made by hand, so that tasks are tested without an encoder."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from zoo.modalities.base import Array, Example
from zoo.modalities.text import TextSource
from zoo.spec import ModelSpec
from zoo.strict import read

TEXT = {"kind": "text", "max_length": 64}
IMAGE = {"kind": "image", "size": (32, 32), "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
AUDIO = {"kind": "audio", "sampling_rate": 16000, "max_seconds": 2.0}
_MODALITY = {"text": ("text", TEXT), "image": ("vision", IMAGE), "audio": ("audio", AUDIO)}


def spec(task: str, kind: str = "text", *, extra: Sequence[str] = (), **input_changes: Any) -> ModelSpec:
    modality, given = _MODALITY[kind]
    return read(
        ModelSpec,
        {
            "name": "tiny",
            "modality": modality,
            "tasks": (task, *extra),
            "backend": "transformers",
            "architecture": "tiny",
            "input": {**given, **input_changes},
        },
        where="tiny",
    )


def pieces(text: str, size: int) -> tuple[list[tuple[int, int]], list[int], list[tuple[int, int]]]:
    """Sub-words of at most `size` characters of pieces cut at white space and around punctuation, as BERT's are:
    their offsets, the piece each is of, and the pieces' spans."""
    offsets, words, spans = [], [], []
    for index, match in enumerate(re.finditer(r"\w+|[^\w\s]", text)):
        spans.append(match.span())
        for start in range(match.start(), match.end(), size):
            offsets.append((start, min(start + size, match.end())))
            words.append(index)
    return offsets, words, spans


def text_windows(
    raw: str | Sequence[str], *, size: int = 3, content: int = 1000, step: int | None = None
) -> list[Example]:
    """Windows of `content` sub-words between two special tokens; each begins `step` after the one before."""
    presplit = not isinstance(raw, str)
    text = " ".join(raw) if presplit else str(raw)
    offsets, words, spans = pieces(text, size)
    if presplit:
        ends = np.cumsum([len(word) + 1 for word in raw])
        spans = [(int(end - len(word) - 1), int(end - 1)) for word, end in zip(raw, ends, strict=True)]
        words = [int(np.searchsorted(ends, start, side="right")) for start, _ in offsets]
    starts = list(range(0, max(len(offsets) - content, 0) + (step or content), step or content))
    cuts = [(start, min(start + content, len(offsets))) for start in starts if start < len(offsets) or start == 0]
    while len(cuts) > 1 and cuts[-2][1] >= len(offsets):
        cuts.pop()
    return [
        Example(
            inputs={"input_ids": np.arange(stop - start + 2)},
            length=stop - start + 2,
            source=TextSource(
                text,
                np.array([(0, 0), *offsets[start:stop], (0, 0)], dtype=np.int64),
                np.array([True, *[False] * (stop - start), True]),
                np.array([-1, *words[start:stop], -1], dtype=np.int64),
                np.array(spans, dtype=np.int64).reshape(-1, 2),
                presplit,
                start,
            ),
            window=index,
            windows=len(cuts),
        )
        for index, (start, stop) in enumerate(cuts)
    ]


def plain_window(length: int = 1, **targets: Any) -> Example:
    return Example(inputs={}, length=length, targets={name: np.asarray(value) for name, value in targets.items()})


def one_hot(ids: Sequence[int], size: int, scale: float = 9.0) -> Array:
    """Logits float32 `[len(ids), size]` that answer with these ids."""
    out = np.zeros((len(ids), size), dtype=np.float32)
    out[np.arange(len(ids)), ids] = scale
    return out
