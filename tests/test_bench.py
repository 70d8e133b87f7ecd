"""The timing of bundles: what is counted, and what the command prints."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch._dynamo.utils
import torch._inductor.config
from click.testing import Result
from typer.testing import CliRunner

from tests.conformance.conftest import tiny_model
from zoo.bench import Timing, bench, summary, table
from zoo.cli.app import app
from zoo.errors import ConfigError
from zoo.inference import Batch
from zoo.modalities.base import Array
from zoo.report_bench import save


class Clock:
    """A second passes between any two looks at it."""

    now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def test_percentiles_and_throughput_are_of_the_batch() -> None:
    timing = summary("a", 8, [0.001 * number for number in range(1, 101)], 2.0)
    assert (timing.runs, timing.first, timing.p50) == (100, 2000.0, pytest.approx(50.5))
    assert timing.p95 == pytest.approx(1e3 * np.percentile(np.arange(1, 101) / 1e3, 95))
    assert timing.p50 < timing.p95 < timing.p99
    assert timing.throughput == pytest.approx(8 / 0.0505)
    assert max(map(len, table([timing]).splitlines())) <= 80


def test_every_predictor_is_timed_on_every_batch_size() -> None:
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    timings = bench({"one": model, "other": model}, batch_sizes=(1, 3), seconds=0.0, clock=Clock()).timings
    assert [(timing.name, timing.batch_size) for timing in timings] == [
        ("one", 1), ("other", 1), ("one", 3), ("other", 3),
    ]  # fmt: skip
    assert {timing.p50 for timing in timings} == {1000.0}
    with pytest.raises(ConfigError, match="nothing to time"):
        bench({"one": model}, batch_sizes=(0,))


def test_what_may_fail_is_left_out_whole_and_anything_else_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    other = tiny_model("all-minilm-l6-v2", "feature-extraction")
    forward = other.forward

    def fails(batch: Batch) -> dict[str, Array]:
        if len(batch.examples) > 1:
            raise RuntimeError("\n  no compiler\nand much more")
        return forward(batch)

    monkeypatch.setattr(other, "forward", fails)
    named = {"one": model, "other": other}
    found = bench(named, batch_sizes=(1, 3), seconds=0.0, may_fail={"other"}, clock=Clock())
    assert [(timing.name, timing.batch_size) for timing in found.timings] == [("one", 1), ("one", 3)]
    assert found.left_out == {"other": "RuntimeError: no compiler"}
    assert str(found).endswith("\n\nother is left out: RuntimeError: no compiler")
    with pytest.raises(RuntimeError, match="no compiler"):
        bench(named, batch_sizes=(1, 3), seconds=0.0, clock=Clock())


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("bench")
    model = tiny_model("all-minilm-l6-v2", "feature-extraction")
    model.export(folder / "a.bundle")
    model.save(folder / "saved")
    return {"bundle": str(folder / "a.bundle"), "saved": str(folder / "saved")}


def run(*given: str) -> Result:
    return CliRunner().invoke(app, ["bench", *given])


def test_the_command_times_a_bundle_beside_torch(folders: dict[str, str], tmp_path: Path) -> None:
    picture = tmp_path / "times.svg"
    given = (folders["bundle"], "--against", folders["saved"], "--device", "cpu,cpu", "--batch-sizes", "1,2")
    done = run(*given, "--seconds", "0", "--threads", "1", "--plot", str(picture), "--json")
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [timing["name"] for timing in found["timings"]] == ["bundle, cpu", "torch, cpu"] * 2
    assert all(0 < timing["p50"] <= timing["p95"] <= timing["p99"] for timing in found["timings"])
    assert (found["threads"], found["left_out"], "torch" in found["versions"]) == (1, {}, True)
    assert picture.read_text(encoding="utf-8").count("<svg") == 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("--batch-sizes", "one"), "whole numbers"),
        (("--compile",), "--against FOLDER"),
        (("--plot", "times.txt"), ".png, .svg, .pdf, not '.txt'"),
        (("--device", "cpu,tpu"), "device is 'tpu'"),
    ],
)
def test_what_the_command_refuses(folders: dict[str, str], given: tuple[str, ...], message: str) -> None:
    done = run(folders["bundle"], *given)
    assert (done.exit_code, message in done.output) == (1, True), done.output


def test_a_compiler_that_fails_leaves_its_row_out(folders: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setenv("CXX", "no-such-compiler")
    # What an earlier run compiled would be found again.
    monkeypatch.setenv("TORCHINDUCTOR_FORCE_DISABLE_CACHES", "1")
    done = run(
        folders["bundle"], "--against", folders["saved"], "--compile", "--batch-sizes", "3", "--seconds", "0", "--json"
    )
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [timing["name"] for timing in found["timings"]] == ["bundle, cpu", "torch, cpu"]
    # An earlier test may have found a compiler, which torch then looks for by its name.
    assert re.search(r"compiler|g\+\+", found["left_out"]["torch.compile, cpu"])


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
def test_compiled_torch_stands_beside_eager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._inductor.config, "compile_threads", 1)
    model = tiny_model("wide-and-deep", "tabular-classification")
    model.export(tmp_path / "a.bundle")
    model.save(tmp_path / "saved")
    torch._dynamo.utils.counters.clear()
    given = ("--against", str(tmp_path / "saved"), "--compile", "--batch-sizes", "2", "--seconds", "0", "--json")
    done = run(str(tmp_path / "a.bundle"), *given)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["timings"]
    assert [timing["name"] for timing in found] == ["bundle, cpu", "torch, cpu", "torch.compile, cpu"]
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    # Compiling is in the first batch alone.
    assert found[2]["first"] > 10 * found[2]["p50"]


def test_plots_of_one_size_and_of_many_lines(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    pytest.importorskip("matplotlib")
    names = [f"{kind}, {device}" for kind in ("bundle", "torch", "torch.compile") for device in ("cpu", "cuda")]
    many = [
        summary(name, size, [0.001 * size * (place + 1)] * 10, 1.0)
        for size in (1, 8, 32)
        for place, name in enumerate(names)
    ]
    for name, timings in {"many": many, "one": many[:1]}.items():
        with image.open(save(timings, tmp_path / f"{name}.png")) as plot:
            assert min(plot.size) > 300


def test_the_table_is_of_80_columns() -> None:
    timing = Timing("torch.compile, cuda", 1024, 123_456, 99_999.9, 12_345.67, 12_345.67, 12_345.67, 123_456.7)
    assert max(map(len, table([timing]).splitlines())) <= 80
    assert table([]).startswith("name")
