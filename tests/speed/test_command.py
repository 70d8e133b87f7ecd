"""`python -m benchmarks`: what it refuses, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

from benchmarks.speed import command
from benchmarks.speed.contest import ROOT, Contest, Contestant
from benchmarks.speed.work import Setting


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((), "required: half"),
        (("tpu",), "invalid choice: 'tpu'"),
        (("cpu", "--only", "text,songs"), "there is no work 'songs'; there are text, images, audio"),
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
    command.main(["cpu", "--quick"])
    assert list(tmp_path.iterdir()) == []
    command.main(["cpu", "--only", "tiny"])
    assert "* zoo" in capsys.readouterr().out
    found = json.loads((tmp_path / "speed_tiny.json").read_text(encoding="utf-8"))
    assert (found["title"], found["rounds"]) == ("Tiny", 5)
    assert {"torch", "transformers", "numpy"} <= set(found["versions"])
    assert found["threads"] >= 1
    assert found["contests"][0]["rows"][1]["times"]["median"] == pytest.approx(3.0)


def test_it_runs_as_a_module() -> None:
    done = subprocess.run([sys.executable, "-m", "benchmarks", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, "{cpu,gpu}" in done.stdout) == (0, True)
