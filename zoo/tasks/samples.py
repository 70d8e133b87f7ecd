"""Built-in raw inputs: what the parity check and the conformance tests run on where the user gives none."""

from __future__ import annotations

from typing import Any

import numpy as np

from zoo.modalities.base import Array
from zoo.spec import AudioInput, ImageInput, InputSpec, MelInput, ModelSpec, TabularInput


def samples_of(spec: ModelSpec) -> list[Any]:
    """Raw inputs of ragged length for a model's modality, the same on every machine; of both sides for two towers."""
    if spec.text is not None:
        return [*_samples(spec.input), *({"text": text} for text in _samples(spec.text))]
    return _samples(spec.input)


def _samples(given: InputSpec) -> list[Any]:
    rng = np.random.default_rng(0)
    if isinstance(given, ImageInput):
        return [_image(rng, height, width) for height, width in ((180, 240), (97, 61), (256, 256), (40, 300))]
    if isinstance(given, (AudioInput, MelInput)):
        return [_sound(rng, given.sampling_rate, seconds) for seconds in (0.6, 1.0, 0.25, 1.7)]
    if isinstance(given, TabularInput):
        return [_row(given, rng, kind) for kind in ("known", "known", "unknown", "missing", "known", "known")]
    words = [
        "The",
        "quick",
        "brown",
        "fox",
        "of",
        "Zürich",
        "met",
        "3",
        "engineers",
        "from",
        "New",
        "York,",
        "who",
        "spoke",
        "中文",
        "and",
        "drank",
        "tea.",
    ]
    # Six tokens a word at the most (a byte each), so that a model without windows sees every sample whole.
    length = min(given.max_length // 10, 60)
    return [" ".join(words[i % len(words)] for i in range(n)) for n in (3, 1, max(length // 2, 2), max(length, 3), 7)]


def _image(rng: np.random.Generator, height: int, width: int) -> Array:
    y, x = np.mgrid[0:height, 0:width]
    smooth = np.stack([127 + 120 * np.sin(x / (9 + 7 * c) + y / (13 + 5 * c)) for c in range(3)], axis=-1)
    return np.clip(smooth + rng.normal(0, 12, smooth.shape), 0, 255).astype(np.uint8)


def _sound(rng: np.random.Generator, rate: int, seconds: float) -> tuple[Array, int]:
    t = np.arange(int(rate * seconds)) / rate
    wave = 0.4 * np.sin(2 * np.pi * (180 + 400 * t) * t) * np.exp(-t) + rng.normal(0, 0.02, t.shape)
    return wave.astype(np.float32), rate


def _row(table: TabularInput, rng: np.random.Generator, kind: str) -> dict[str, Any]:
    """A row of a table: of known categories, of ones that training never saw, or with every other cell missing."""
    row: dict[str, Any] = {}
    for place, column in enumerate(table.columns):
        known = column.values or ("a", "b", "c")
        picked = [known[int(rng.integers(len(known)))] for _ in range(min(column.width, 3))]
        if kind == "missing" and place % 2:
            row[column.name] = None
        elif column.kind == "numeric":
            row[column.name] = column.mean + column.std * float(rng.normal())
        elif kind == "unknown":
            row[column.name] = f"unseen {place} 中文"
        else:
            row[column.name] = picked if column.kind == "set" else picked[0]
    return row
