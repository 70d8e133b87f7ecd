"""Extractive question answering: the stretch of a context that answers a question, or that there is none."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import TextEncoder
from zoo.report import Report
from zoo.results import Answer
from zoo.tasks.answers import AnswerCounter, Thresholds, spans_of
from zoo.tasks.arrays import softmax, unpadded
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.losses import refuse
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class AnswerOptions:
    """top_k: how many of the best answers `top` lists, where more than one. max_answer_length: in tokens.

    handle_impossible_answer: whether "there is no answer" (an empty text) may be the answer; for models that were
    trained on such questions, as SQuAD 2 has them. null_score_diff_threshold: it is the answer where the logarithm of
    its probability is larger than that of the best answer by more than this; `evaluate` finds the best one. overlap:
    the share of a window of a long context that it repeats of the one before, from 0 to 0.9.
    """

    top_k: int = 1
    max_answer_length: int = 30
    handle_impossible_answer: bool = False
    null_score_diff_threshold: float = 0.0
    overlap: float = 0.25

    def __post_init__(self) -> None:
        for name in ("top_k", "max_answer_length"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name} is {value!r}; give a positive whole number.")
        if not isinstance(self.handle_impossible_answer, bool):
            raise ConfigError(f"handle_impossible_answer is {self.handle_impossible_answer!r}; it is True or False.")
        threshold = self.null_score_diff_threshold
        if isinstance(threshold, bool) or not isinstance(threshold, (int, float)) or not math.isfinite(threshold):
            raise ConfigError(f"null_score_diff_threshold is {threshold!r}; give a finite number.")
        if threshold and not self.handle_impossible_answer:
            raise ConfigError("null_score_diff_threshold goes with handle_impossible_answer=True.")


@final
class QuestionAnswering(Task):
    """Outputs `start_logits [B, T]` and `end_logits [B, T]`. An input is a question and its context.

    Targets: int64 `spans [B, T, 2]`, 1 at an answer's first and last token and 0 elsewhere; at the first token of the
    window ([CLS]) where the window has no answer; -100 in the padding. int64 `answers [B, A, 2]`, the answers'
    characters in the context, beside the first window, for the metrics.
    """

    name = "question-answering"
    modalities = ("text",)
    output = "start_logits"
    columns = ("question", "answers")
    more_inputs = ("context",)
    other_targets = (("answer", "answer_start"), ("answer",))
    metric = "f1"
    needs_labels = False
    overlap = 0.25
    options = AnswerOptions

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def samples(self) -> list[Any]:
        texts = samples_of(self.spec)
        # The last one is gone through in windows.
        pairs = ((0, 3), (1, 2), (4, 4), (0, 0))
        rows = [{"question": texts[a], "context": texts[b]} for a, b in pairs]
        return [*rows, {"question": texts[4], "context": " ".join([texts[3]] * 12)}]

    def windows(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        if not isinstance(raw, Mapping) or set(raw) != {"question", "context"}:
            what = f"a dict with {', '.join(map(repr, raw))}" if isinstance(raw, Mapping) else f"a {type(raw).__name__}"
            raise InputError(
                f'A question and its context are expected, {{"question": ..., "context": ...}}, not {what}.'
            )
        if isinstance(raw["context"], str) and not raw["context"].strip():
            raise InputError("The context is empty.")
        assert isinstance(encoder, TextEncoder)
        overlap = self.overlap if options is None else options.overlap
        return encoder.encode_pair(raw["question"], raw["context"], overlap=overlap, over="second")

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        return self.windows(encoder, raw, options)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        context = windows[0].source.pair
        found = [_trimmed(context, *span) for span in spans_of(target, context)]
        places = _places(windows, found[0]) if found else [(0, 0)] * len(windows)
        attached = []
        for window, place in zip(windows, places, strict=True):
            spans = np.zeros((window.length, 2), dtype=np.int64)
            spans[place, (0, 1)] = 1
            answers = np.array(found if window.window == 0 else [], dtype=np.int64).reshape(-1, 2)
            attached.append(replace(window, targets={"spans": spans, "answers": answers}))
        return attached

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        """As upstream, the mean of the cross entropies of start and end; padding is no place for either."""
        import torch
        from torch.nn import functional

        refuse(self.name, options, smoothing=True)
        real = targets["spans"][..., 0] >= 0
        total = torch.zeros((), device=real.device)
        for side, name in enumerate(("start_logits", "end_logits")):
            logits = outputs[name].float()
            logits = logits.masked_fill(~real, torch.finfo(logits.dtype).min)
            places = (targets["spans"][..., side] == 1).long().argmax(dim=1)
            total = total + functional.cross_entropy(logits, places, reduction="sum")
        return total / 2

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(len(targets["spans"]))

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return [
            {name: unpadded(array[row], example.length, left=self.left_padded) for name, array in outputs.items()}
            for row, example in enumerate(examples)
        ]

    def scorer(self) -> Scorer:
        return _Scorer(self)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Answer:
        found, none = self.candidates(outputs, windows, options)
        if options.handle_impossible_answer:
            ranks = {id(none): _log(none.score) - options.null_score_diff_threshold}
            found = sorted([*found, none], key=lambda answer: -ranks.get(id(answer), _log(answer.score)))
        if not found:
            return replace(none, top=())
        best = found[: options.top_k]
        return replace(best[0], top=tuple(best) if options.top_k > 1 else ())

    def same(self, a: Any, b: Any) -> bool:
        return (a.text, a.start, a.end) == (b.text, b.start, b.end)

    def candidates(
        self, outputs: Sequence[Outputs], windows: Sequence[Example], options: AnswerOptions
    ) -> tuple[list[Answer], Answer]:
        """The best answers of all windows, best first, and the answer that there is none.

        As transformers' former pipeline: the probability of a start times that of an end, over the context and [CLS];
        that there is none is as probable as in the window that speaks most against it.
        """
        context = windows[0].source.pair
        best: dict[tuple[int, int], float] = {}
        none = 1.0
        for output, window in zip(outputs, windows, strict=True):
            starts, ends = (_probabilities(output[name], window) for name in ("start_logits", "end_logits"))
            none = min(none, float(starts[0] * ends[0]))
            for start, end, score in _best_spans(starts, ends, window, options):
                place = _shown(context, int(window.source.offsets[start, 0]), int(window.source.offsets[end, 1]))
                best[place] = max(best.get(place, 0.0), score)
        ranked = sorted(
            ((score, place) for place, score in best.items() if place[0] < place[1]), key=lambda x: (-x[0], x[1])
        )
        return [Answer(context[a:b], a, b, score) for score, (a, b) in ranked], Answer("", 0, 0, none)


def _places(windows: Sequence[Example], span: tuple[int, int]) -> list[tuple[int, int]]:
    """The first and last token of characters [start, end) of the context in each window, (0, 0) where one lacks a part.

    What is lacking is told by tokens, not by characters: a tokenizer may drop some (accents, joiners of emoji).
    """
    found = []
    for window in windows:
        own = np.flatnonzero(window.source.segments == 1)
        spots = window.source.offsets[own]
        inside = np.flatnonzero((spots[:, 1] > span[0]) & (spots[:, 0] < span[1]))
        found.append((own[inside], window.source.first + inside))
    among_all = np.concatenate([numbers for _, numbers in found])
    if not len(among_all):
        return [(0, 0)] * len(windows)
    ends = {among_all.min(), among_all.max()}
    return [(int(own[0]), int(own[-1])) if ends <= set(numbers.tolist()) else (0, 0) for own, numbers in found]


def _probabilities(logits: Array, window: Example) -> Array:
    """float64 `[T]` over the tokens of the context and the first; 0 elsewhere."""
    open_ = window.source.segments == 1
    open_[0] = True
    return softmax(np.where(open_, logits.astype(np.float64), -np.inf))


def _best_spans(
    starts: Array, ends: Array, window: Example, options: AnswerOptions
) -> Iterable[tuple[int, int, float]]:
    """The most probable (start, end, probability) of one window within the context."""
    own = np.flatnonzero(window.source.segments == 1)
    if not len(own):
        return
    first, last = int(own[0]), int(own[-1]) + 1
    # Row by row of start, so that memory is T times the longest answer and not T squared.
    width = min(options.max_answer_length, last - first)
    reach = np.zeros((last - first, width))
    for step in range(width):
        reach[: last - first - step, step] = starts[first : last - step] * ends[first + step : last]
    # More than asked for: spans that trim to the same characters count once.
    order = np.argsort(-reach, axis=None, kind="stable")[: 4 * options.top_k + 4]
    for place in order.tolist():
        start, step = divmod(place, width)
        if reach[start, step] > 0:
            yield first + start, first + start + step, float(reach[start, step])


def _shown(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at either end, and with the marks (accents, vowel signs) that go with the last letter: a
    tokenizer may drop them, or count them as tokens of their own."""
    start, end = _trimmed(text, start, end)
    while start < end < len(text) and unicodedata.category(text[end]).startswith("M"):
        end += 1
    return start, end


def _log(probability: float) -> float:
    return math.log(probability) if probability > 0 else -math.inf


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without white space at either end."""
    piece = text[start:end]
    return start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()) if piece.strip() else start


@final
class _Scorer(Scorer):
    """Exact match and F1 of SQuAD's script. Where some questions have no answer, "none" is among the answers."""

    def __init__(self, task: QuestionAnswering) -> None:
        self._task = task
        self._counters = {allowed: AnswerCounter() for allowed in (False, True)}
        self._thresholds = Thresholds()

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        context = windows[0].source.pair
        true = [context[a:b] for a, b in windows[0].targets["answers"].tolist()]
        found, none = self._task.candidates(outputs, windows, AnswerOptions())
        best = found[0] if found else replace(none, score=0.0)
        difference = _log(none.score) - _log(best.score) if best.score > 0 else math.inf
        for allowed, counter in self._counters.items():
            counter.update(true, none.text if allowed and none.score > best.score else best.text)
        self._thresholds.update(true, best.text, difference)

    def compute(self) -> Report:
        several = self._counters[True].without > 0
        metrics = self._counters[several].metrics() | (self._thresholds.metrics() if several else {})
        return Report(task=self._task.name, metrics=metrics, rows=self._counters[several].rows)
