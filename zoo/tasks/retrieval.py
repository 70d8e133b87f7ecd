"""Retrieval: how often the right caption of an image or recording is among the nearest k, and the other way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import numpy as np

from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.tasks.arrays import by_length
from zoo.tasks.base import Outputs, Scorer

_DEPTHS = (1, 5, 10)
_CHUNK = 1024  # rows compared with all others at once


@final
class RetrievalScorer(Scorer):
    """recall@1, @5 and @10 both ways, among all rows that were measured; the metrics depend on how many there are.

    Holds both vectors of each row: 4 KB for 512 numbers. A caption, or an image, that several rows have is right for
    all of them. Equally near ones that are wrong count before the right one: a model that gives everything one vector
    finds nothing.
    """

    def __init__(self, task: str, side: str) -> None:
        self._task = task
        self._side = side
        self._media: list[Array] = []
        self._texts: list[Array] = []
        self._hashes: list[tuple[int, int]] = []

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        media = by_length([output[f"{self._side}_embeds"] for output in outputs], windows)
        self._media.append(_unit(media))
        self._texts.append(_unit(outputs[0]["text_embeds"]))
        self._hashes.append((int(windows[0].targets["media"]), int(windows[0].targets["caption"])))

    def compute(self) -> Report:
        metrics: dict[str, float] = {}
        if self._media:
            media, texts, hashes = np.stack(self._media), np.stack(self._texts), np.array(self._hashes)
            for name, ranks in (
                (f"{self._side}_to_text", _ranks(media, texts, hashes)),
                (f"text_to_{self._side}", _ranks(texts, media, hashes)),
            ):
                metrics |= {f"{name}_recall@{k}": float((ranks < k).mean()) for k in _DEPTHS}
        for k in _DEPTHS:
            found = [value for name, value in metrics.items() if name.endswith(f"_recall@{k}")]
            metrics[f"mean_recall@{k}"] = float(np.mean(found)) if found else float("nan")
        return Report(task=self._task, metrics=metrics, rows=len(self._media))


def _ranks(asked: Array, found: Array, hashes: Array) -> Array:
    """int64 `[N]`: how many wrong rows come before, or as near as, the nearest right one."""
    ranks = np.zeros(len(asked), dtype=np.int64)
    for start in range(0, len(asked), _CHUNK):
        rows = slice(start, start + _CHUNK)
        scores = asked[rows] @ found.T
        right = (hashes[rows, None] == hashes[None]).any(axis=-1)
        best = np.where(right, scores, -np.inf).max(axis=1, keepdims=True)
        ranks[rows] = ((scores >= best) & ~right).sum(axis=1)
    return ranks


def _unit(vector: Array) -> Array:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)
