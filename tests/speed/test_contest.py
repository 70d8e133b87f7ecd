"""Contestants in processes of their own: who is refused, what is timed, what memory is whose."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.speed.answers import Answer, distance, tells
from benchmarks.speed.contest import Contest, Contestant, hold, summary
from benchmarks.speed.table import shown

HERE = "tests.speed.contestants"


def contestant(
    name: str, function: str, tolerance: float | None = 1e-3, left_out: str = "", **given: Any
) -> Contestant:
    return Contestant(name, f"{HERE}:{function}", given, name.startswith("zoo"), tolerance, left_out=left_out)


def test_wrong_answers_are_refused_before_anything_is_timed_and_others_compared() -> None:
    lines: list[str] = []
    contest = Contest(
        "three", 3, "items",
        [
            contestant("peer", "right", seconds=0.5),
            contestant("zoo", "right", seconds=0.1, shift=1e-4),
            contestant("zoo, int8", "right", tolerance=None, shift=0.2),
            contestant("wrong number", "right", shift=2e-3),
            contestant("wrong label", "another_label"),
            contestant("turns wrong", "turns_wrong"),
            contestant("fails", "fails"),
            contestant("dies", "dies"),
            contestant("absent", "right", left_out="it is not installed"),
        ],
    )  # fmt: skip
    found = hold(contest, 3, lines.append)
    rows = {row["name"]: row for row in found["rows"]}
    assert list(rows) == [c.name for c in contest.contestants]
    assert rows["peer"]["times"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert rows["zoo"]["times"]["median"] == pytest.approx(5.0)
    assert rows["zoo"]["per_second"] == pytest.approx(30.0)
    assert rows["zoo"]["loss"]["median"] == 0.5
    assert rows["zoo"]["difference"] == pytest.approx(1e-4)
    assert rows["zoo, int8"]["difference"] == pytest.approx(0.2)
    assert "differ by up to 0.002" in rows["wrong number"]["refused"]
    assert "66.7% of its items" in rows["wrong label"]["refused"]
    assert rows["fails"]["failed"] == "ValueError: no such model"
    assert rows["dies"]["failed"] == "MemoryError: no memory is left"
    # It answers three times three items, and in the second run one of them otherwise.
    assert "differ by up to 0.1" in rows["turns wrong"]["refused"]
    assert rows["absent"]["left_out"] == "it is not installed"
    for name in ("wrong number", "wrong label", "turns wrong", "fails", "dies", "absent"):
        assert "times" not in rows[name]
        assert any(line.startswith(name) for line in lines)
    table = shown(found)
    assert max(map(len, table.splitlines())) <= 80
    assert "* zoo, int8" in table
    assert "refused: its numbers differ" in table


def test_memory_is_that_of_a_run_and_what_a_run_needs_is_made_before() -> None:
    contest = Contest(
        "memory", 3, "items",
        [contestant("small", "holds", megabytes=1, first=200), contestant("large", "holds", megabytes=150, first=1)],
    )  # fmt: skip
    small, large = hold(contest, 2, lambda line: None)["rows"]
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux counts the peak anew")
    assert 140 < large["peak_mb"] - small["peak_mb"] < 160


@pytest.mark.parametrize(
    ("first", "message"), [("alike", "answers every item alike"), ("fails", "peer, the reference of .* no such model")]
)
def test_a_reference_that_proves_nothing_ends_it(first: str, message: str) -> None:
    with pytest.raises(RuntimeError, match=message):
        hold(Contest("three", 3, "items", [contestant("peer", first)]), 1, lambda line: None)


def test_answers_that_are_no_numbers_or_of_other_items_are_apart() -> None:
    right = Answer(["a"], [[1.0, 2.0]])
    assert distance(right, right).within(0.0)
    for wrong in (
        Answer(["a"], [[1.0, math.nan]]), Answer(["a"], [[1.0]]), Answer(["a"], [[1.0, 2.0]] * 2),
        Answer([], [[1.0, 2.0]]), Answer(["a", "b"], [[1.0, 2.0]]),
    ):  # fmt: skip
        assert not distance(right, wrong).within(1.0), wrong
    assert not tells(Answer(numbers=[[0.5, 0.5], [0.51, 0.5]]), 1e-3)
    assert tells(Answer(numbers=[[0.5, 0.5], [0.6, 0.5]]), 1e-3)


def test_ratios_are_of_the_same_round() -> None:
    busy = [{"seconds": s, "peak_mb": 1.0} for s in (1.0, 4.0, 2.0)]
    found = summary([{"seconds": run["seconds"] / 2, "peak_mb": run["seconds"]} for run in busy], busy, 10)
    assert found["times"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert (found["per_second"], found["peak_mb"]) == (10.0, 4.0)


def test_where_runs_differ_a_proof_is_compared_and_the_rounds_are_not() -> None:
    contest = Contest(
        "learning", 3, "items",
        [
            contestant("peer", "learns"),
            contestant("zoo", "learns", proof=1e-4),
            contestant("wrong", "learns", proof=0.1),
        ],
        judged=False,
    )  # fmt: skip
    rows = {row["name"]: row for row in hold(contest, 3, lambda line: None)["rows"]}
    assert rows["zoo"]["difference"] == pytest.approx(1e-4)
    assert rows["zoo"]["times"]["median"] == pytest.approx(1.0)
    assert "differ by up to 0.1" in rows["wrong"]["refused"]
