"""Token classification: a tag for each word, and the entities that the tags spell."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import DataError
from zoo.modalities.base import Array, Example
from zoo.report import Report
from zoo.results import Entity
from zoo.tasks.arrays import softmax, unpadded
from zoo.tasks.base import IGNORE, LossOptions, Outputs, Scorer, Task
from zoo.tasks.labels import index_of, label_text
from zoo.tasks.losses import cross_entropy, label_weight
from zoo.tasks.metrics import EntityCounter, LabelCounter
from zoo.tasks.tags import OUTSIDE, Scheme, Span, scheme, spans
from zoo.tasks.words import first_tokens, word_spans

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec


@final
class TokenClassification(Task):
    """Outputs `logits [B, T, C]`. A target is one tag a word; the input is then the list of words.

    Targets: int64 `labels [B, T]`, the tag at the first sub-word of each word and -100 elsewhere, and int64
    `tags [B, W]`, all tags of the row beside its first window, for the metrics.
    """

    name = "token-classification"
    modalities = ("text",)
    columns = ("tokens", "tags")
    metric = "entity_f1"
    overlap = 0.25

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        self.scheme: Scheme = scheme(labels)

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """`O` first, then by type, a type's beginning before its inside."""
        found = {label_text(tag) for target in targets for tag in _tags(target)}
        return tuple(sorted(found, key=_order if scheme(found) != "plain" else lambda tag: (tag != OUTSIDE, tag)))

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        tags = np.array([index_of(tag, self.index) for tag in _tags(target)], dtype=np.int64)
        spans = word_spans(windows[0].source)
        if len(tags) != len(spans):
            given = "words" if windows[0].source.presplit else "words in the text; give the list of words"
            raise DataError(f"There are {len(tags)} tags and {len(spans)} {given}. Give one tag for each word.")
        attached = []
        for window, first in zip(windows, first_tokens(windows, spans), strict=True):
            labels = np.full(window.length, IGNORE, dtype=np.int64)
            labels[first.tokens] = tags[first.words]
            # Beside the first window only: a row's words without a token have no other place.
            row = tags if window.window == windows[0].window else tags[:0]
            attached.append(replace(window, targets={"labels": labels, "tags": row}))
        return attached

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        return cross_entropy(outputs["logits"], targets["labels"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"], options)

    def scorer(self) -> Scorer:
        return _Scorer(self)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return [
            {"logits": unpadded(logits, example.length, left=self.left_padded)}
            for logits, example in zip(outputs["logits"], examples, strict=True)
        ]

    def same(self, a: Any, b: Any) -> bool:
        return [(x.label, x.start, x.end) for x in a] == [(x.label, x.start, x.end) for x in b]

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> list[Entity]:
        """Entities with character offsets into the text; into the words joined by one space if words were given."""
        source = windows[0].source
        places = word_spans(source)
        tags, scores = self.read(outputs, windows, places)
        return [_entity(span, places, scores, source.text) for span in self.entities(tags)]

    def read(self, outputs: Sequence[Outputs], windows: Sequence[Example], places: Array) -> tuple[Array, Array]:
        """Each word's tag, int64 `[W]`, and its probability, float64 `[W]`. places: the words' spans `[W, 2]`.

        A word that is read nowhere is outside: its tag is that of `O`, or -1 where there is none.
        """
        tags = np.full(len(places), self.index.get(OUTSIDE, -1), dtype=np.int64)
        scores = np.ones(len(places))
        for output, first in zip(outputs, first_tokens(windows, places), strict=True):
            probabilities = softmax(output["logits"][first.tokens].astype(np.float64))
            tags[first.words] = probabilities.argmax(axis=-1)
            scores[first.words] = probabilities.max(axis=-1)
        return tags, scores

    def entities(self, tags: Array) -> list[Span]:
        """The entities that a row's tags spell. tags: int64 `[W]` indices of labels; -1 is outside."""
        texts = [self.labels[tag] if tag >= 0 else OUTSIDE for tag in tags.tolist()]
        return spans(texts, self.scheme, outside=OUTSIDE in self.index)


@final
class _Scorer(Scorer):
    """token_accuracy over words; entity precision, recall and F1 as seqeval counts them."""

    def __init__(self, task: TokenClassification) -> None:
        self._task = task
        self._tags = LabelCounter(task.labels)
        self._entities = EntityCounter()
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        true = windows[0].targets["tags"]
        answered, _ = self._task.read(outputs, windows, word_spans(windows[0].source))
        self._tags.update(true, answered)
        self._entities.update(self._task.entities(true), self._task.entities(answered))
        self._rows += 1

    def compute(self) -> Report:
        averages = self._entities.averages()
        micro = averages["micro"]
        return Report(
            task=self._task.name,
            metrics={
                "entity_f1": micro.f1,
                "entity_precision": micro.precision,
                "entity_recall": micro.recall,
                "entity_f1_macro": averages["macro"].f1,
                "entity_f1_weighted": averages["weighted"].f1,
                "token_accuracy": self._tags.accuracy,
            },
            per_class=self._tags.scores(),
            averages=averages,
            confusion=self._tags.confusion(),
            entities=self._entities.scores(),
            rows=self._rows,
        )


def _tags(target: Any) -> list[Any]:
    if isinstance(target, np.ndarray) and target.ndim == 1:
        return list(target.tolist())
    if not isinstance(target, (list, tuple)):
        raise DataError(f"The tags of a row are a list with one tag for each word, not {type(target).__name__}.")
    return list(target)


def _order(tag: str) -> tuple[bool, str, int]:
    prefix, _, name = tag.partition("-")
    return tag != OUTSIDE, name, "BIESLU".find(prefix)


def _entity(span: Span, places: Array, scores: Array, text: str) -> Entity:
    start, end = int(places[span.start, 0]), int(places[span.end - 1, 1])
    return Entity(span.type, text[start:end], start, end, float(scores[span.start : span.end].mean()))
