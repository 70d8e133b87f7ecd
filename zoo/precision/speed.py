"""How many times as fast a reduced model is: rounds in which both answer the same in turn, until noise can't decide."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

# What is kept is this many times as fast as fp32 for certain: what is within noise of it is not worth a worse answer.
FASTER = 1.02
# Of eight rounds the least and the greatest hold the median in 99 cases of a hundred; fewer could decide nothing.
_FEWEST, _MOST = 8, 31
_DOUBT = 0.01
_ROUND = 0.4  # seconds that one model answers in a round, or one batch's where that takes longer
_SECONDS = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Speed:
    """times: the median of the rounds' ratios. low, high: between them it is in 99 of a hundred measurements."""

    times: float
    low: float
    high: float

    @property
    def faster(self) -> bool:
        return self.low >= FASTER

    @property
    def decided(self) -> bool:
        """Whether further rounds would change nothing."""
        return self.faster or self.high < FASTER

    def verdict(self) -> str:
        """Why what is not `faster` is refused."""
        if self.high < 1.0:
            return "slower than fp32"
        return f"not {FASTER - 1:.0%} faster than fp32 for certain ({self.low:.2f} to {self.high:.2f} times as fast)"


def measure(reference: Callable[[_T], object], candidate: Callable[[_T], object], given: Sequence[_T]) -> Speed:
    """Both answer everything in every round, in turn, until it is decided, or at most 31 rounds or a minute.

    It is decided, too, when the rounds that are left could not make it `faster`, however they end.

    given: what either is called with, one by one; of many, some from everywhere among them.
    """
    given = _affordable(reference, given)
    for one in given[:2]:
        candidate(one)
    ratios: list[float] = []
    began = time.perf_counter()
    while len(ratios) < _FEWEST or (len(ratios) < _MOST and time.perf_counter() - began < _SECONDS):
        ratios.append(_round((reference, candidate), given, len(ratios)))
        if len(ratios) >= _FEWEST and (interval(ratios).decided or _hopeless(ratios)):
            break
    return interval(ratios)


def _hopeless(ratios: Sequence[float]) -> bool:
    """Whether more rounds were too slow already than may lie below the interval of all rounds that there may be."""
    return sum(ratio < FASTER for ratio in ratios) >= _place(_MOST)


def interval(ratios: Sequence[float]) -> Speed:
    """The median of at least eight ratios and what it lies between, by their order alone: noise has no known shape."""
    ordered, count = sorted(ratios), len(ratios)
    place = _place(count)
    return Speed(statistics.median(ordered), ordered[place - 1], ordered[count - place])


def _place(count: int) -> int:
    """Of so many ratios in order, which of each end the median lies between but for one case in a hundred."""
    outside, place = 0.0, 0
    while outside + 2 * math.comb(count, place) / 2**count <= _DOUBT:
        outside += 2 * math.comb(count, place) / 2**count
        place += 1
    return place


def _round(models: tuple[Callable[[_T], object], Callable[[_T], object]], given: Sequence[_T], number: int) -> float:
    spent = [0.0, 0.0]
    for place, one in enumerate(given):
        # Whoever comes second finds the input in the cache.
        for which in (0, 1) if (place + number) % 2 == 0 else (1, 0):
            start = time.perf_counter()
            models[which](one)
            spent[which] += time.perf_counter() - start
    return spent[0] / spent[1]


def _affordable(reference: Callable[[_T], object], given: Sequence[_T]) -> Sequence[_T]:
    """As many as are answered within the time of a round."""
    reference(given[0])  # What is first takes memory, too.
    took = []
    for one in given:
        start = time.perf_counter()
        reference(one)
        took.append(time.perf_counter() - start)
        if sum(took) > 8 * _ROUND:
            break
    mean = sum(took) / len(took)
    count = max(1, min(len(given), int(_ROUND / max(mean, 1e-9))))
    # The middle one of each share: where there is one share alone, it is neither the shortest text nor the longest.
    return [given[int((place + 0.5) * len(given) / count)] for place in range(count)]
