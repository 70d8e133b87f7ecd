"""How many times as fast a reduced model is: told in spite of noise, and in no more rounds than that takes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from zoo.precision import speed


class _Clock:
    """Stands in for the processor: answers take as long as a test says, with noise."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        self.asked = [0, 0]
        self._random = np.random.default_rng(0)
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def model(self, which: int, seconds: float, noise: float) -> Callable[[int], None]:
        def answer(one: int) -> None:
            self.asked[which] += 1
            self.now += seconds * float(np.exp(self._random.normal(0.0, noise)))

        return answer


@pytest.mark.parametrize(
    ("seconds", "noise", "faster", "said"),
    [
        (0.5, 0.1, True, ""),
        (0.9, 0.01, True, ""),
        (1.0, 0.1, False, "not 2% faster than fp32 for certain"),
        (1.0, 0.001, False, "not 2% faster than fp32 for certain"),
        (1.5, 0.1, False, "slower than fp32"),
    ],
)
def test_what_is_within_noise_of_fp32_is_not_kept_by_chance(
    monkeypatch: pytest.MonkeyPatch, seconds: float, noise: float, faster: bool, said: str
) -> None:
    """seconds: the candidate's for a batch, where fp32 takes 1. Both answer equally often."""
    for _ in range(3):
        clock = _Clock(monkeypatch)
        found = speed.measure(clock.model(0, 0.01, noise), clock.model(1, 0.01 * seconds, noise), [1, 2, 3])
        assert found.low <= found.times <= found.high
        assert found.faster is faster
        assert faster or found.verdict().startswith(said)
        # Warming up, and finding how many batches a round takes, are not the candidate's.
        assert clock.asked[0] - clock.asked[1] <= 4


def test_a_slow_model_is_measured_on_some_of_the_batches_from_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, seen = _Clock(monkeypatch), []
    candidate = clock.model(1, 0.04, 0.0)

    def noted(one: int) -> None:
        seen.append(one)
        candidate(one)

    speed.measure(clock.model(0, 0.16, 0.0), noted, list(range(10)))
    assert sorted(set(seen)) == [2, 7]
    seen.clear()
    speed.measure(clock.model(0, 3.0, 0.0), noted, list(range(10)))
    assert sorted(set(seen)) == [5]


def test_what_can_not_become_faster_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = _Clock(monkeypatch)
    found = speed.measure(clock.model(0, 0.4, 0.1), clock.model(1, 0.4, 0.1), [1])
    assert not found.decided
    # Two rounds' batches in each round, and one that warms up and one that is counted before.
    assert clock.asked[1] < 2 * 25


def test_it_is_given_up_where_no_further_round_could_change_the_verdict_and_only_there() -> None:
    rng = np.random.default_rng(0)
    given_up = 0
    for _ in range(300):
        ratios = rng.normal(1.02, 0.1, int(rng.integers(8, 31))).tolist()
        rest = [9.0] * (31 - len(ratios))
        assert speed._hopeless(ratios) == (not speed.interval([*ratios, *rest]).faster)
        given_up += speed._hopeless(ratios)
    assert 50 < given_up < 250
