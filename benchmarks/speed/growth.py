"""How time and memory grow with the number of items, with a tiny BERT, so that all around the network counts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.text import LABELS
from benchmarks.speed.work import Setting, bundles, export, of_labels

FACTS = {
    "title": "Growth",
    "model": "BERT of 2 layers of 32, random weights",
    "data": "texts of log-normal length, median 40 tokens, up to 512, read one by one as they are asked for",
}
_HERE = "benchmarks.speed.growth"
# From so many on our own ways are alone: with the pipeline it takes minutes to see that it goes on as before.
_OURS_ALONE = 10_000


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    folder = checkpoints.bert(setting.folder / "bert", tiny=True)
    path = setting.folder / "bert.bundle"
    made = {"fp32": (path, export(zoo.load(folder, task="text-classification", device="cpu"), path))}
    for count in (1, 10) if setting.quick else (1, 10, 100, 1_000, 10_000):
        given = {"folder": str(folder), "count": count, "device": setting.device}
        yield Contest(
            f"{count:,} texts", count, "texts",
            [
                *([Contestant("transformers pipeline", f"{_HERE}:pipeline", given)] if count < _OURS_ALONE else ()),
                Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
                *bundles(f"{_HERE}:bundle", given, made),
            ],
            told=count > 1,
        )  # fmt: skip


def _texts(count: int) -> Iterator[str]:
    """Of one list of a thousand again and again: what grows is not the texts' own memory."""
    made = data.texts(min(count, 1_000))
    return (made[place % len(made)] for place in range(count))


def _answer(found: Iterator[dict[str, float]]) -> Answer:
    """Of the first hundred alone: the answers' own memory does not grow either."""
    kept = []
    for place, item in enumerate(found):
        if place < 100:
            kept.append(item)
    return of_labels(kept, LABELS)


def pipeline(folder: str, count: int, device: str) -> Ready:
    import transformers

    asked = transformers.pipeline("text-classification", model=folder, device=device)

    def run() -> Answer:
        found = asked(_texts(count), top_k=None)
        return _answer({score["label"]: score["score"] for score in item} for item in found)

    return Ready(run)


def ours(folder: str, count: int, device: str) -> Ready:
    import zoo

    return _ready(zoo.load(folder, task="text-classification", device=device), count)


def bundle(folder: str, count: int, device: str) -> Ready:
    import zoo

    return _ready(zoo.runtime.load(folder, device=device), count)


def _ready(model: Any, count: int) -> Ready:
    return Ready(lambda: _answer({score.label: score.score for score in item.top}
                                 for item in model.predict_iter(_texts(count))))  # fmt: skip
