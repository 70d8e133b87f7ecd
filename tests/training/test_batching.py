from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.training.batching import heuristic, share, steps

LENGTHS = np.random.default_rng(0).integers(1, 500, 3000)


@settings(deadline=None, max_examples=60)
@given(n=st.integers(1, 300), size=st.integers(1, 40), world=st.integers(1, 5), micro=st.integers(1, 9))
def test_every_item_comes_once_in_even_steps(n: int, size: int, world: int, micro: int) -> None:
    plan = steps(LENGTHS[:n], size, seed=3, epoch=1)
    assert sorted(np.concatenate(plan).tolist()) == list(range(n))
    sizes = [len(step) for step in plan]
    assert max(sizes) <= size
    assert max(sizes) - min(sizes) <= 1
    for step in plan:
        shares = [share(step, rank=rank, world=world, size=micro) for rank in range(world)]
        assert len({len(passes) for passes in shares}) == 1, "all processes go through as many passes"
        assert max(len(items) for passes in shares for items in passes) <= micro
        assert sorted(int(i) for passes in shares for items in passes for i in items) == sorted(step.tolist())


def test_a_plan_is_a_function_of_seed_and_epoch() -> None:
    def plan(seed: int, epoch: int) -> list[int]:
        return np.concatenate(steps(LENGTHS, 16, seed=seed, epoch=epoch)).tolist()

    assert plan(0, 0) == plan(0, 0)
    assert len({tuple(plan(0, 0)), tuple(plan(0, 1)), tuple(plan(1, 0))}) == 3


def padding_share(plan: Any) -> float:
    """The share of positions that are padding, if each step were one batch."""
    return 1.0 - LENGTHS.sum() / sum(int(LENGTHS[step].max()) * len(step) for step in plan)


def test_similar_lengths_go_together_and_steps_stay_random() -> None:
    plan = steps(LENGTHS, 16, seed=0, epoch=1)
    shuffled = np.array_split(np.random.default_rng(0).permutation(len(LENGTHS)), len(plan))
    assert padding_share(plan) < 0.1 < 0.4 < padding_share(shuffled)
    means = [LENGTHS[step].mean() for step in plan]
    assert abs(np.corrcoef(means[:-1], means[1:])[0, 1]) < 0.3


def test_the_costliest_step_is_first() -> None:
    assert LENGTHS[steps(LENGTHS, 16, seed=0, epoch=0)[0]].max() == LENGTHS.max()


@pytest.mark.parametrize(("items", "expected"), [(1, 4), (20, 4), (100, 8), (200, 16), (10**6, 16)])
def test_small_data_gets_small_batches(items: int, expected: int) -> None:
    assert heuristic("text", items, accelerated=False) == expected
