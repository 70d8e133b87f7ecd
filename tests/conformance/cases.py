"""What the conformance tests give a task: labels of a head, labelled rows, options of predict(). One entry a task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

import zoo
from zoo import tasks as zoo_tasks
from zoo.tasks.base import Task

Rows = Callable[[Task], list[Any]]


@dataclass(frozen=True)
class Case:
    """rows: six labelled rows, as finetune() takes them, of ragged length; None for a task without fine-tuning.

    labels: of a head, in the order of the logits. options: of predict(). step: of finetune(), for the one step.
    """

    rows: Rows | None = None
    labels: list[str] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    step: Mapping[str, Any] = field(default_factory=dict)


def _alternating(*targets: Any) -> Rows:
    """The task's built-in samples, with these targets in turn."""

    def rows(task: Task) -> list[Any]:
        raws = task.samples()[-6:]
        return [(raws[i % len(raws)], targets[i % len(targets)]) for i in range(6)]

    return rows


def _inferred(task: Task) -> list[Any]:
    texts = ("once upon a time", "the end", "a b c d e f g", "hello", "you and me", "x y")
    targets = ("entailment", "neutral", "contradiction")
    return [{"text": text, "text_pair": text[:4], "label": targets[i % 3]} for i, text in enumerate(texts)]


def _texts(task: Task) -> list[Any]:
    return [{"text": text} for text in ("once upon a time", "the end", "a b c d e f g", "hello", "you and me", "x y")]


def _documents(task: Task) -> list[Any]:
    return [{"text": f"{row['text']} was said. Then {row['text']} again."} for row in _texts(task)]


def _tagged(task: Task) -> list[Any]:
    words = ["Ada", "Lovelace", "wrote", "the", "first", "program"]
    return [(words[:n], (["B-PER", "I-PER", "O", "O", "O", "O"])[:n]) for n in (6, 3, 2, 5, 4, 6)]


def _masked(task: Task) -> list[Any]:
    """Pictures, and masks of two classes with some pixels that count for nothing."""
    raws = [raw for raw in task.samples() for _ in range(2)][:6]
    masks = [np.where(raw[..., 0] > 127, 1, 0).astype(np.uint8) for raw in raws]
    for mask in masks:
        mask[:5] = 255
    return list(zip(raws, masks, strict=True))


def _answered(task: Task) -> list[Any]:
    context = "Ada Lovelace wrote the first program in 1843. " * 2
    targets = ({"text": ["Ada"], "answer_start": [46]}, [], {"answer": "1843", "answer_start": 40})
    return [({"question": "who or when"[: 4 + i], "context": context}, targets[i % 3]) for i in range(6)]


def _written(task: Task) -> list[Any]:
    texts = ("once upon a time", "the end", "a b c d e f g", "hello", "you and me", "x y")
    return [{"text": text, task.columns[1]: text[::-1]} for text in texts]


def _boxed(task: Task) -> list[Any]:
    """Of one object, two, and none: boxes of the built-in images."""
    found = [
        [{"bbox": [4, 5, 30, 20], "category": "cat"}],
        [{"bbox": [1, 2, 25, 30], "category": "dog"}, {"bbox": [20.5, 4, 40, 33], "category": "cat"}],
        [],
    ]
    raws = task.samples()
    return [{"image": raws[i % len(raws)], "objects": found[i % len(found)]} for i in range(6)]


def _captioned(task: Task) -> list[Any]:
    raws = task.samples()
    captions = ("a cat", "two dogs in the rain", "once upon a time", "snow", "中文", "a b c")
    return [(raws[i % len(raws)], caption) for i, caption in enumerate(captions)]


CASES: dict[str, Case] = {
    "image-segmentation": Case(_masked, ["ground", "sky"]),
    "text-classification": Case(_alternating("no", "yes"), ["no", "yes"]),
    "zero-shot-classification": Case(
        _inferred,
        ["contradiction", "neutral", "entailment"],
        options={"candidate_labels": ["sport", "a long journey"]},
    ),
    "image-classification": Case(_alternating("cat", "dog"), ["cat", "dog"]),
    "object-detection": Case(_boxed, ["cat", "dog"], options={"threshold": 0.0, "top_k": 5}),
    "zero-shot-image-classification": Case(_captioned, options={"candidate_labels": ["cat", "dog", "nothing"]}),
    "zero-shot-audio-classification": Case(_captioned, options={"candidate_labels": ["cat", "dog", "nothing"]}),
    "audio-classification": Case(_alternating("off", "on"), ["off", "on"]),
    "token-classification": Case(_tagged, ["O", "B-PER", "I-PER"]),
    "question-answering": Case(_answered),
    "text-generation": Case(_texts, options={"max_new_tokens": 3}),
    "fill-mask": Case(_texts, options={"top_k": 2}),
    "pretraining": Case(_documents),
    "automatic-speech-recognition": Case(_alternating("ab", "c a"), ["<pad>", "<unk>", "|", "a", "b", "c"]),
    "tabular-classification": Case(_alternating("no", "yes"), ["no", "yes"]),
    "tabular-regression": Case(_alternating(1.5, 4.0)),
    "summarization": Case(_written, options={"max_new_tokens": 5, "num_beams": 2, "truncation": True}),
    "translation": Case(_written, options={"max_new_tokens": 5, "num_beams": 2, "truncation": True}),
    "feature-extraction": Case(),
    "text-to-speech": Case(options={"seed": 3}),
}


def labels_for(task: str, spec: zoo.ModelSpec) -> list[str] | None:
    return CASES[task].labels if zoo_tasks.get(task, spec).needs_labels else None


def trainable(spec: zoo.ModelSpec) -> str | None:
    """The first task of a model that it can be fine-tuned for."""
    return next((task for task in spec.tasks if CASES[task].rows is not None), None)
