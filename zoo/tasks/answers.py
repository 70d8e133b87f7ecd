"""Answers of extractive question answering: the forms they are given in, and how SQuAD's script compares them."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from zoo.errors import DataError

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def spans_of(target: Any, context: str) -> list[tuple[int, int]]:
    """The characters [start, end) of each answer in the context; none where the question has no answer.

    target: SQuAD's `{"text": [...], "answer_start": [...]}`; a list of `{"text", "answer_start"}`, or of texts; a text
    alone, which must come once; `{"answer", "answer_start"}`; or what is empty. Raises DataError.
    """
    found = []
    for text, start in _each(target):
        if text:
            found.append(_placed(text, start, context))
    return found


def _each(target: Any) -> list[tuple[str, int | None]]:
    if hasattr(target, "tolist"):
        target = target.tolist()
    if target is None or isinstance(target, str):
        return [(target or "", None)]
    if isinstance(target, Mapping):
        if "answer" in target:
            return [_pair(target["answer"], target.get("answer_start"))]
        if "text" not in target:
            raise DataError(f"Answers have 'text' and 'answer_start', not {', '.join(map(repr, target)) or 'nothing'}.")
        texts, starts = _listed(target["text"]), _listed(target.get("answer_start"))
        if starts and len(starts) != len(texts):
            raise DataError(f"There are {len(texts)} answers and {len(starts)} answer_start; give one for each.")
        return [_pair(text, start) for text, start in zip(texts, starts or [None] * len(texts), strict=True)]
    if isinstance(target, (list, tuple)):
        return [pair for item in target for pair in _each(item)]
    raise DataError(f"Answers are a text, or {{'text': [...], 'answer_start': [...]}}, not {target!r}.")


def _pair(text: Any, start: Any) -> tuple[str, int | None]:
    if not isinstance(text, str):
        raise DataError(f"An answer is a text, not {text!r}.")
    if start is None or (isinstance(start, float) and np.isnan(start)):
        return text, None
    if isinstance(start, bool) or int(start) != start:
        raise DataError(f"answer_start is {start!r}; it is the number of characters before the answer.")
    return text, int(start) if start >= 0 else None


def _listed(value: Any) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _placed(text: str, start: int | None, context: str) -> tuple[int, int]:
    places = [match.start() for match in re.finditer(f"(?={re.escape(text)})", context)]
    if start is not None and context[start : start + len(text)] == text:
        return start, start + len(text)
    if start is not None:
        near = f" It comes at {', '.join(map(str, places[:5]))}." if places else " It is nowhere in it."
        raise DataError(f"The answer {_short(text)} is not at character {start} of the context.{near}")
    if len(places) != 1:
        raise DataError(
            f"The answer {_short(text)} comes {len(places)} times in the context. "
            + ("Give answer_start, which one is meant." if places else "An answer is a part of its context.")
        )
    return places[0], places[0] + len(text)


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def normalized(text: str) -> str:
    """As SQuAD's script compares answers: lower case, without ASCII punctuation, English articles, or extra blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(true: str, answered: str) -> float:
    return float(normalized(true) == normalized(answered))


def f1(true: str, answered: str) -> float:
    """Over words; where one of the two is empty, whether both are."""
    wanted, given = normalized(true).split(), normalized(answered).split()
    if not wanted or not given:
        return float(wanted == given)
    shared = sum((Counter(wanted) & Counter(given)).values())
    return 2 * shared / (len(wanted) + len(given))


def _measured(true: Sequence[str], answered: str) -> list[float]:
    """Exact match and F1 against the best of a question's answers."""
    # An answer of nothing but articles and punctuation says nothing: the script leaves it out.
    wanted = [text for text in true if normalized(text)] or [""]
    return [max(measure(text, answered) for text in wanted) for measure in (exact_match, f1)]


class AnswerCounter:
    """Exact match and F1 against the best of each question's answers, and apart for questions with and without one."""

    def __init__(self) -> None:
        self._sums = {kind: np.zeros(3) for kind in ("has_answer", "no_answer")}

    def update(self, true: Sequence[str], answered: str) -> None:
        """true: the answers of one question, empty where there is none; an empty text is the answer "none"."""
        self._sums["has_answer" if true else "no_answer"] += np.array([*_measured(true, answered), 1.0])

    @property
    def rows(self) -> int:
        return int(sum(sums[2] for sums in self._sums.values()))

    @property
    def without(self) -> int:
        """Questions without an answer."""
        return int(self._sums["no_answer"][2])

    def metrics(self) -> dict[str, float]:
        """exact_match and f1 in [0, 1]; the same of questions with and without answers, where there are both kinds."""
        exact, overlap, rows = sum(self._sums.values(), np.zeros(3)).tolist()
        found = {"exact_match": exact / rows if rows else 0.0, "f1": overlap / rows if rows else 0.0}
        if self.without:
            for kind, (some, more, count) in self._sums.items():
                if count:
                    found[f"{kind}_exact_match"], found[f"{kind}_f1"] = float(some / count), float(more / count)
        return found


class Thresholds:
    """From which difference on "none" is best answered, as SQuAD 2's script looks for it."""

    def __init__(self) -> None:
        self._differences: list[float] = []
        self._gains: list[list[float]] = []
        self._without = 0

    def update(self, true: Sequence[str], answered: str, difference: float) -> None:
        """answered: the best answer that is not "none". difference: how much more probable "none" is, a logarithm."""
        # What is gained by answering in place of "none", whose score is 1 where there is no answer and else 0.
        gains = _measured(true, answered)
        self._gains.append(gains if true else [gain - 1.0 for gain in gains])
        self._differences.append(difference)
        self._without += not true

    def metrics(self) -> dict[str, float]:
        """The best exact match and F1 in [0, 1], each with its threshold: "none" where the difference is larger."""
        order = np.argsort(self._differences, kind="stable")
        ordered = np.array(self._differences)[order]
        finite = np.isfinite(ordered)
        # Below the first of them all are "none", but for those where it is impossible.
        lowest, surely = float(ordered[finite][0]) - 1.0 if finite.any() else 0.0, int((ordered == -np.inf).sum())
        # Between equal differences there is no threshold.
        ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True) & finite)
        found = {}
        for column, name in enumerate(("exact_match", "f1")):
            sums = np.cumsum(np.array(self._gains)[order, column])
            first = float(sums[surely - 1]) if surely else 0.0
            choices = [(first, lowest), *((float(sums[end]), float(ordered[end])) for end in ends)]
            gain, threshold = max(choices, key=lambda choice: choice[0])
            found[f"best_{name}"] = (self._without + gain) / len(order)
            found[f"best_{name}_threshold"] = threshold
        return found
