"""Raw inputs and labelled rows for any task, small enough for one step on a CPU."""

from __future__ import annotations

from typing import Any

import pytest

import zoo
from tests.tiny import settle, tiny
from zoo import parity
from zoo import tasks as zoo_tasks

NER = ["O", "B-PER", "I-PER"]
CTC = ["<pad>", "<unk>", "|", "a", "b", "c"]
TARGETS: dict[str, list[Any]] = {
    "text-classification": ["no", "yes"],
    "image-classification": ["cat", "dog"],
    "audio-classification": ["off", "on"],
    "automatic-speech-recognition": ["ab", "c a"],
}


def labels_for(task: str) -> list[str] | None:
    if task == "token-classification":
        return NER
    if task == "automatic-speech-recognition":
        return CTC
    return TARGETS.get(task)


def rows_for(spec: zoo.ModelSpec, task: str) -> list[Any]:
    """Six labelled rows of a task, of ragged length."""
    if task == "text-generation":
        return [
            {"text": text} for text in ("once upon a time", "the end", "a b c d e f g", "hello", "you and me", "x y")
        ]
    if task == "token-classification":
        words = ["Ada", "Lovelace", "wrote", "the", "first", "program"]
        return [(words[:n], (["B-PER", "I-PER", "O", "O", "O", "O"])[:n]) for n in (6, 3, 2, 5, 4, 6)]
    raws = parity.builtin_samples(spec)
    return [(raws[i % len(raws)], TARGETS[task][i % 2]) for i in range(6)]


def trainable(spec: zoo.ModelSpec) -> str | None:
    return next((task for task in spec.tasks if task != "feature-extraction"), None)


def tiny_model(name: str, task: str | None = None) -> zoo.Model:
    spec = tiny(zoo.info(name))
    chosen = task or spec.tasks[0]
    labels = labels_for(chosen) if zoo_tasks.get(chosen).needs_labels else None
    return settle(zoo.load(spec, task=chosen, labels=labels, weights=None, device="cpu", seed=0))


@pytest.fixture(params=zoo.list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
