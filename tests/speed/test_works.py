"""Every work at its tiny size, with all contestants in this process: they answer alike, and each is timed."""

from __future__ import annotations

import importlib
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks import bfloat16
from benchmarks.speed import serving
from benchmarks.speed.answers import Answer
from benchmarks.speed.command import WORKS
from benchmarks.speed.contest import Contestant, hold
from benchmarks.speed.contestant import Ready, first, measured
from benchmarks.speed.work import Setting

_OF_GPUS = ("training", "inference")  # these works are of the GPU half alone
# Group norm over padding: another answer in a padded batch than alone.
WRONG = ("pipeline, sorted, 4 a batch",)


class Here:
    """A contestant in this process: to import everything anew for each takes longer than all of the rest. It runs once,
    but for one whose first answer is a proof; how rounds are held, tests/speed/test_contest.py has."""

    def __init__(self, contestant: Contestant, log: Path) -> None:
        module, _, function = contestant.start.partition(":")
        self._ready: Ready = getattr(importlib.import_module(module), function)(**contestant.arguments)
        self._first = _said(first(self._ready))

    def first(self) -> Answer:
        return self._first[0]

    def run(self) -> tuple[Answer, dict[str, float]]:
        return self._first if self._ready.proof is None else _said(self._ready)

    def close(self) -> None:
        pass


def _said(ready: Ready) -> tuple[Answer, dict[str, float]]:
    found = measured(ready)
    return Answer(found["exact"], found["numbers"]), found["figures"]


@pytest.mark.parametrize("name", [*(name for name in WORKS["cpu"] if name != "serving"), *_OF_GPUS])
def test_every_contestant_answers_as_the_reference_does(name: str, tmp_path: Path) -> None:
    work = importlib.import_module(f"benchmarks.speed.{name}")
    assert {"title", "model", "data"} <= set(work.FACTS)
    for contest in work.contests(Setting(tmp_path, quick=True)):
        found = hold(contest, 1, lambda line: None, start=Here)
        for row in found["rows"]:
            assert "times" in row or "left_out" in row or row["name"] in WRONG, row
            assert row["ours"] is False or "refused" not in row
        assert name == "ceilings" or any(row["ours"] and "times" in row for row in found["rows"])
        assert [
            row["left_out"] for row in found["rows"] if row["name"] == "zoo, bundle fp32" and "left_out" in row
        ] == []


def test_in_bfloat16_all_answer_and_learn(tmp_path: Path) -> None:
    for contest in bfloat16.contests(Setting(tmp_path, quick=True)):
        found = hold(contest, 1, lambda line: None, start=Here)
        assert all("times" in row for row in found["rows"]), found
        assert [row["ours"] for row in found["rows"]] == [False, False, True, True]


@pytest.mark.skipif(shutil.which("wrk") is None, reason="needs wrk: apt install wrk")
def test_servers_of_this_environment_answer_alike_and_are_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """FastAPI's and LitServe's need an environment of their own."""
    both = {name: serving._SERVERS[name] for name in ("zoo serve", "zoo serve, 2 workers")}
    monkeypatch.setattr(serving, "_SERVERS", both)
    (contest,) = serving.contests(Setting(tmp_path, quick=True, servers=Path(sys.executable)))
    one, two = hold(contest, 1, lambda line: None, start=Here)["rows"]
    assert one["same"] == two["same"] == 1.0
    for row in (one, two):
        assert 0 < row["p50_ms"]["median"] <= row["p99_ms"]["median"]
        assert row["per_second"] > 10
    assert two["peak_mb"] > 1.5 * one["peak_mb"]
