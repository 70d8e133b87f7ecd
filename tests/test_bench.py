"""The timing of bundles: what is counted, and what the command prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.conformance.conftest import tiny_model
from zoo.bench import bench, summary, table
from zoo.cli.app import app
from zoo.errors import ConfigError


class Clock:
    """A second passes between any two looks at it."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_percentiles_and_throughput_are_of_the_batch() -> None:
    timing = summary("a", 8, [0.001 * number for number in range(1, 101)])
    assert (timing.runs, timing.p50) == (100, pytest.approx(50.5))
    assert timing.p95 == pytest.approx(1e3 * np.percentile(np.arange(1, 101) / 1e3, 95))
    assert timing.p50 < timing.p95 < timing.p99
    assert timing.throughput == pytest.approx(8 / 0.0505)
    assert max(map(len, table([timing]).splitlines())) <= 80


def test_every_predictor_is_timed_on_every_batch_size() -> None:
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    timings = bench({"one": model, "other": model}, batch_sizes=(1, 3), seconds=0.0, clock=Clock())
    assert [(timing.name, timing.batch_size) for timing in timings] == [
        ("one", 1), ("other", 1), ("one", 3), ("other", 3),
    ]  # fmt: skip
    assert {timing.p50 for timing in timings} == {1000.0}
    with pytest.raises(ConfigError, match="nothing to time"):
        bench({"one": model}, batch_sizes=(0,))


def test_the_command_times_a_bundle_beside_torch(tmp_path: Path) -> None:
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    model.export(tmp_path / "a.bundle")
    model.save(tmp_path / "saved")
    given = ["bench", str(tmp_path / "a.bundle"), "--against", str(tmp_path / "saved"), "--batch-sizes", "1,2"]
    done = CliRunner().invoke(app, [*given, "--seconds", "0", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["timings"]
    assert [timing["name"] for timing in found] == ["bundle, cpu", "torch, cpu"] * 2
    assert all(0 < timing["p50"] <= timing["p95"] <= timing["p99"] for timing in found)
    wrong = CliRunner().invoke(app, ["bench", str(tmp_path / "a.bundle"), "--batch-sizes", "one"])
    assert (wrong.exit_code, "whole numbers" in wrong.output) == (1, True)
