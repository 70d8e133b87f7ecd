"""`python -m benchmarks`: what it refuses, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch

from benchmarks.speed import command, page
from benchmarks.speed.contest import ROOT, Contest, Contestant
from benchmarks.speed.work import Setting


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "required: half"),
        (("tpu",), "invalid choice: 'tpu'"),
        (("cpu", "--only", "text,songs"), "there is no work 'songs'; there are ceilings, text, images"),
        (("cpu", "--rounds", "3"), "a median needs 5 or more"),
        (("cpu", "--rounds", "many"), "invalid int value"),
    ],
)
def test_what_it_refuses(given: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        command.main(given)
    assert message in capsys.readouterr().err


def test_a_full_run_writes_its_figures_and_a_quick_one_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def contests(setting: Setting) -> list[Contest]:
        peer = Contestant("peer", "tests.speed.contestants:right", {"seconds": 0.3})
        ours = Contestant("zoo", "tests.speed.contestants:right", {"seconds": 0.1}, ours=True)
        return [Contest("three", 3, "items", [peer, ours])]

    work = types.ModuleType("benchmarks.speed.tiny")
    work.FACTS = {"title": "Tiny", "model": "none", "data": "none"}  # type: ignore[attr-defined]
    work.contests = contests  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "benchmarks.speed.tiny", work)
    monkeypatch.setitem(command.WORKS, "cpu", ("tiny",))
    monkeypatch.setattr(command, "RESULTS", tmp_path)
    written: list[None] = []
    monkeypatch.setattr(page, "write", lambda: written.append(None))
    command.main(["cpu", "--quick"])
    assert (list(tmp_path.iterdir()), written) == ([], [])
    command.main(["cpu", "--only", "tiny"])
    assert "* zoo" in capsys.readouterr().out
    found = json.loads((tmp_path / "speed_tiny.json").read_text(encoding="utf-8"))
    assert (found["title"], found["rounds"]) == ("Tiny", 5)
    assert {"torch", "transformers", "numpy"} <= set(found["versions"])
    assert found["threads"] >= 1
    assert written == [None]
    assert found["contests"][0]["rows"][1]["times"]["median"] == pytest.approx(3.0)


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "{cpu,gpu}" in done.stdout) == (0, True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_the_gpu_half_refuses_to_run_elsewhere() -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        command.main(["gpu"])


def test_the_page_of_speed_is_made_of_the_measured_figures() -> None:
    assert page.PAGE.read_text(encoding="utf-8") == page.page(page.results()), "run: python -m benchmarks.speed.page"


def test_the_readme_quotes_the_measured_figures() -> None:
    assert page.summary(page.results()) in (page.ROOT / "README.md").read_text("utf-8")


def test_the_page_and_its_plot_show_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spread(value: float) -> dict[str, float]:
        return {"median": value, "min": value - 0.1, "max": value + 0.1}

    timed = {"seconds": spread(1.0), "per_second": 3.0, "peak_mb": 100.0, "difference": 0.0}
    rows = [
        {"name": "peer", "ours": False, "times": spread(1.0), "same": 1.0, **timed},
        {"name": "zoo", "ours": True, "times": spread(2.5), "same": 0.9, **timed},
        {"name": "wrong", "ours": False, "refused": "its numbers differ"},
    ]
    result = {
        "title": "Tiny", "model": "none", "data": "none", "versions": {"torch": "2"}, "load_average": {"before": 0.0},
        "rounds": 5, "device": "cpu", "threads": 2, "python": "3", "minutes": 1.6,
        "contests": [{"name": "three", "unit": "items", "rows": rows}],
    }  # fmt: skip
    found = {"cpu": {"text": result, "images": None}, "gpu": {"ceilings": None}}
    made = page.page(found)
    assert "| Tiny | three | **zoo** | 2.50 (2.40 to 2.60); 90% of the answers the same | 3 items | 100 |" in made
    assert "| wrong | refused: its numbers differ | |  |" in made
    assert made.count("| not measured |") == 2
    assert "These works took 2 minutes." in made
    assert "These works took 2 minutes, serving 20 more." in page.page(
        {"cpu": {**found["cpu"], "serving": {**result, "minutes": 20.1}}}
    )
    # Of another CPU with another number of items.
    other = {**result, "contests": [{"name": "four", "unit": "items", "rows": rows[:1]}]}
    assert "| none: three / four | peer |" in page.summary({**found, "zen4": {"text": other}})
    monkeypatch.setattr(page, "PLOT", tmp_path / "speed.svg")
    page.draw(found)
    assert page.PLOT.read_text(encoding="utf-8").count("<svg") == 1


def test_a_share_of_the_roof_is_of_the_one_that_the_work_comes_closer_to() -> None:
    def row(speed: float) -> dict[str, float]:
        return {"per_second": speed}

    ceilings = {
        "contests": [{"unit": "TFLOP", "rows": [row(800.0)]}, {"unit": "TB", "rows": [row(3.0)]}],
    }
    arithmetic, both = {"gflop": 24.0}, {"gflop": 0.25, "gb": 0.5}
    assert page._share(row(5000.0), arithmetic, ceilings) == "; 15% of the matrix product"
    assert page._share(row(3000.0), both, ceilings) == "; 50% of the copy"
    assert page._share(row(3000.0), {}, ceilings) == ""
    assert page._share(row(3000.0), both, None) == ""
    assert page._share({"left_out": "slow"}, both, ceilings) == ""


def test_servers_are_left_out_without_an_environment_of_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert "serving" not in command.arguments(["cpu"]).only
    assert "serving" in command.arguments(["cpu", "--servers", "peers/bin/python"]).only
    with pytest.raises(SystemExit, match="2"):
        command.arguments(["cpu", "--only", "serving"])
    assert "needs --servers" in capsys.readouterr().err


def test_the_page_of_serving_has_the_figures_of_the_last_run() -> None:
    result = page.results()["cpu"]["serving"]
    assert page.of_servers(result) in (page.ROOT / "docs" / "serving.md").read_text("utf-8")
