"""Metrics as streams: counters that hold numbers by class, never logits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from zoo.errors import missing
from zoo.modalities.base import Array
from zoo.report import ClassScore, Confusion
from zoo.tasks.tags import Span

# 8 MB as int64; the scores of larger label sets are counted without a matrix.
_CONFUSION_LIMIT = 1000


class _Count(NamedTuple):
    label: str
    right: int
    answered: int
    true: int


class LabelCounter:
    """Right and wrong labels, by class. Agrees with scikit-learn's scores at zero_division=0."""

    def __init__(self, labels: Sequence[str]) -> None:
        size = len(labels)
        self.labels = tuple(labels)
        self._right = np.zeros(size, dtype=np.int64)
        self._answered = np.zeros(size, dtype=np.int64)
        self._true = np.zeros(size, dtype=np.int64)
        self._matrix = np.zeros((size, size), dtype=np.int64) if size <= _CONFUSION_LIMIT else None

    def update(self, true: Array, answered: Array) -> None:
        """true, answered: int64 `[N]` indices of labels; an answer of -1 is none of them."""
        size = len(self.labels)
        known = answered >= 0
        self._right += np.bincount(true[true == answered], minlength=size)
        self._answered += np.bincount(answered[known], minlength=size)
        self._true += np.bincount(true, minlength=size)
        if self._matrix is not None:
            np.add.at(self._matrix, (true[known], answered[known]), 1)

    @property
    def accuracy(self) -> float:
        return _ratio(int(self._right.sum()), int(self._true.sum()))

    @property
    def balanced_accuracy(self) -> float:
        """The mean recall of the labels that the data has: scikit-learn's `balanced_accuracy_score`."""
        recalls = [_ratio(count.right, count.true) for count in self._counts() if count.true]
        return sum(recalls) / len(recalls) if recalls else 0.0

    def scores(self) -> tuple[ClassScore, ...]:
        """Every label, in order, with its specificity."""
        total = int(self._true.sum())
        return tuple(replace(_score(count), specificity=_specificity(count, total)) for count in self._counts())

    def averages(self) -> dict[str, ClassScore]:
        """Over the labels that occur, in the data or in the answers."""
        return _averages([count for count in self._counts() if count.answered or count.true])

    def confusion(self) -> Confusion | None:
        """None for more than a thousand labels."""
        if self._matrix is None:
            return None
        return Confusion(self.labels, tuple(map(tuple, self._matrix.tolist())))

    def _counts(self) -> list[_Count]:
        columns = (self.labels, self._right.tolist(), self._answered.tolist(), self._true.tolist())
        return [_Count(*row) for row in zip(*columns, strict=True)]


class MultiLabelCounter:
    """Labels of which a row may have any number. Agrees with scikit-learn's scores at zero_division=0."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = tuple(labels)
        self._right, self._answered, self._true = (np.zeros(len(labels), dtype=np.int64) for _ in range(3))
        self.rows = 0
        self._whole = 0

    def update(self, true: Array, answered: Array) -> None:
        """One row. true, answered: bool `[C]`."""
        self._right += true & answered
        self._answered += answered
        self._true += true
        self._whole += bool((true == answered).all())
        self.rows += 1

    @property
    def subset_accuracy(self) -> float:
        """Of the rows, how many have exactly the right labels."""
        return _ratio(self._whole, self.rows)

    @property
    def hamming_loss(self) -> float:
        """Of all rows and labels, how many are wrong."""
        wrong = int((self._answered - self._right).sum() + (self._true - self._right).sum())
        return _ratio(wrong, self.rows * len(self.labels))

    def scores(self) -> tuple[ClassScore, ...]:
        """Every label, in order, with its specificity."""
        return tuple(replace(_score(count), specificity=_specificity(count, self.rows)) for count in self._counts())

    def averages(self) -> dict[str, ClassScore]:
        """Over the labels that occur, in the data or in the answers."""
        return _averages([count for count in self._counts() if count.answered or count.true])

    def _counts(self) -> list[_Count]:
        columns = (self.labels, self._right.tolist(), self._answered.tolist(), self._true.tolist())
        return [_Count(*row) for row in zip(*columns, strict=True)]


class ValueCounter:
    """Numbers against the right ones. Kept whole, sixteen bytes a row: Spearman's needs all ranks."""

    def __init__(self) -> None:
        self._pairs: list[tuple[float, float]] = []

    def update(self, true: float, answered: float) -> None:
        self._pairs.append((true, answered))

    @property
    def rows(self) -> int:
        return len(self._pairs)

    def metrics(self) -> dict[str, float]:
        """mse, rmse and mae; r2, pearson and spearman where values differ, without which they mean nothing."""
        true, answered = np.array(self._pairs, dtype=np.float64).reshape(-1, 2).T
        if not len(true):
            return {"mse": 0.0, "rmse": 0.0, "mae": 0.0}
        error = answered - true
        mse = float(np.mean(error**2))
        found = {"mse": mse, "rmse": mse**0.5, "mae": float(np.mean(np.abs(error)))}
        spread = float(np.var(true))
        if spread > 0:
            found["r2"] = 1 - mse / spread
        for name, pair in (("pearson", (true, answered)), ("spearman", (_ranks(true), _ranks(answered)))):
            correlation = _correlation(*pair)
            found.update({} if correlation is None else {name: correlation})
        return found


def _ranks(values: Array) -> Array:
    """Ranks from 1, float64 `[N]`; equal values share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(count) - (count - 1) / 2)[place])


def _correlation(a: Array, b: Array) -> float | None:
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else None


class EntityCounter:
    """Entities found whole: type, start and end must all be right. Agrees with seqeval's default mode."""

    def __init__(self) -> None:
        self._right: Counter[str] = Counter()
        self._answered: Counter[str] = Counter()
        self._true: Counter[str] = Counter()

    def update(self, true: Iterable[Span], answered: Iterable[Span]) -> None:
        """The entities of one row."""
        expected, got = set(true), set(answered)
        self._right.update(span.type for span in expected & got)
        self._answered.update(span.type for span in got)
        self._true.update(span.type for span in expected)

    def scores(self) -> tuple[ClassScore, ...]:
        """Every type that was seen, alphabetically."""
        return tuple(map(_score, self._counts()))

    def averages(self) -> dict[str, ClassScore]:
        return _averages(self._counts())

    def _counts(self) -> list[_Count]:
        types = sorted({*self._true, *self._answered})
        return [_Count(name, self._right[name], self._answered[name], self._true[name]) for name in types]


class EditCounter:
    """Word and character error rates by jiwer: edits over reference words, summed over all rows."""

    def __init__(self) -> None:
        try:
            import jiwer
        except ImportError as error:
            raise missing("jiwer", "measure", "The word error rate") from error
        self._jiwer = jiwer
        self._edits = {"wer": 0, "cer": 0}
        self._sizes = {"wer": 0, "cer": 0}

    def update(self, reference: str, hypothesis: str) -> None:
        words = self._jiwer.process_words([reference], [hypothesis])
        characters = self._jiwer.process_characters([reference], [hypothesis])
        for name, found in (("wer", words), ("cer", characters)):
            self._edits[name] += found.substitutions + found.deletions + found.insertions
            self._sizes[name] += found.hits + found.substitutions + found.deletions

    def rates(self) -> dict[str, float]:
        """wer and cer, as fractions; more than 1 when there are more edits than there is reference."""
        return {name: _ratio(self._edits[name], self._sizes[name]) for name in ("wer", "cer")}


def _score(count: _Count) -> ClassScore:
    label, right, answered, true = count
    return ClassScore(label, _ratio(right, answered), _ratio(right, true), _ratio(2 * right, answered + true), true)


def _specificity(count: _Count, total: int) -> float | None:
    """Of the rows that are not of the class, the share that was not given it; None where all are of it."""
    others = total - count.true
    return 1 - (count.answered - count.right) / others if others else None


def _averages(counts: Sequence[_Count]) -> dict[str, ClassScore]:
    """Micro: of the sums. Macro: plain mean of classes. Weighted: mean of classes by support."""
    scores = [_score(count) for count in counts]
    right, answered = sum(count.right for count in counts), sum(count.answered for count in counts)
    true = sum(count.true for count in counts)
    return {
        "micro": _score(_Count("micro", right, answered, true)),
        "macro": _mean("macro", scores, [1] * len(scores)),
        "weighted": _mean("weighted", scores, [score.support for score in scores]),
    }


def _mean(name: str, scores: Sequence[ClassScore], weights: Sequence[int]) -> ClassScore:
    total = sum(weights)

    def mean(values: Iterable[float]) -> float:
        return sum(value * weight for value, weight in zip(values, weights, strict=True)) / total if total else 0.0

    return ClassScore(
        name,
        mean(score.precision for score in scores),
        mean(score.recall for score in scores),
        mean(score.f1 for score in scores),
        sum(score.support for score in scores),
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0
