"""What a contestant answers, and how far two answers are apart. Only the standard library: every process imports it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Answer:
    """exact: one label, text or list of tokens an item, which must be equal. numbers: one list of floats an item, which
    may differ within a tolerance. figures: what the run measured itself, beside its time, such as a loss; `seconds` and
    `peak_mb` stand for the clock's and the process's own."""

    exact: Sequence[Any] = ()
    numbers: Sequence[Sequence[float]] = ()
    figures: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Distance:
    """difference: the largest of any number. same: the share of items whose exact parts are equal, 1 without any."""

    difference: float
    same: float

    def within(self, tolerance: float) -> bool:
        return self.difference <= tolerance and self.same == 1.0

    def __str__(self) -> str:
        return f"its numbers differ by up to {self.difference:.2g}, and {self.same:.1%} of its items are the same"


def distance(reference: Answer, answer: Answer) -> Distance:
    """Infinite where there are other items, or what is no number."""
    pairs = list(_pairs(reference.numbers, answer.numbers))
    difference = max((abs(a - b) for a, b in pairs), default=0.0)
    # max() passes over NaN where it stands second.
    if any(math.isnan(a) or math.isnan(b) for a, b in pairs):
        difference = math.inf
    if [len(item) for item in reference.numbers] != [len(item) for item in answer.numbers]:
        difference = math.inf
    if len(reference.exact) != len(answer.exact):
        return Distance(difference, 0.0)
    equal = sum(a == b for a, b in zip(reference.exact, answer.exact, strict=True))
    return Distance(difference, equal / len(reference.exact) if reference.exact else 1.0)


def _pairs(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> Iterator[tuple[float, float]]:
    for a, b in zip(left, right, strict=False):
        yield from zip(a, b, strict=False)


def tells(answer: Answer, tolerance: float) -> bool:
    """Whether the items of an answer differ among themselves by far more than a tolerance, or in what is exact: else
    any network would pass for the right one."""
    if len({repr(item) for item in answer.exact}) > 1:
        return True
    columns = list(zip(*answer.numbers, strict=False))
    return max((max(column) - min(column) for column in columns), default=0.0) > 20 * tolerance
