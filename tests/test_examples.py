"""Every script of examples/ runs to its end, with a few steps; what they reach is the demo's to show."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def run(script: str, output: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), "--quick", "--output", str(output)],
        capture_output=True,
        text=True,
        check=False,
        cwd=output.parent,
        env={**os.environ, **environment},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def check(output: Path, count: int) -> None:
    results = [json.loads(path.read_text()) for path in output.rglob("result.json")]
    assert len(results) == count
    for result in results:
        assert result["parity_passed"]
        assert result["parity_agreement"] == 1.0
        assert 0 <= result["after"] <= 1
    # One of the evaluation, and the bundle's own.
    reports = [path.parent.suffix for path in output.rglob("report.html")]
    assert sorted(reports) == sorted(["", ".bundle"] * count)


def test_text(tmp_path: Path, minilm_folder: Path, wnut_file: Path) -> None:
    shown = run("text_entities.py", tmp_path / "text")
    assert "geo-loc" in shown
    assert "entity_f1" in shown
    check(tmp_path / "text", 1)


def test_vision(tmp_path: Path, efficientnet_pth: Path) -> None:
    run("image_digits.py", tmp_path / "vision")
    check(tmp_path / "vision", 2)


def test_audio(tmp_path: Path, shared_data: Path) -> None:
    shown = run("audio_digits.py", tmp_path / "audio", ZOO_SHARED_DATA=str(shared_data))
    assert "from random weights" in shown
    check(tmp_path / "audio", 1)


def test_chinese(tmp_path: Path) -> None:
    shown = run("chinese_text.py", tmp_path / "中文")
    assert "体育" in shown
    check(tmp_path / "中文", 1)


def test_own_data_in_four_forms(tmp_path: Path) -> None:
    shown = run("own_data.py", tmp_path / "own")
    assert [line.split(":")[0] for line in shown.splitlines()] == ["class folder", "table", "CoNLL", "list"]


def test_every_script_is_run_here_or_by_one_that_is() -> None:
    helpers = {"common.py", "torch_free.py", "main_job.py"}
    scripts = {path.name for path in EXAMPLES.glob("*.py")} - helpers
    assert scripts == {"text_entities.py", "image_digits.py", "audio_digits.py", "own_data.py", "chinese_text.py"}


@pytest.mark.parametrize("script", sorted(path.name for path in EXAMPLES.glob("*.py")))
def test_scripts_are_short(script: str) -> None:
    lines = (EXAMPLES / script).read_text(encoding="utf-8").splitlines()
    assert len(lines) <= (180 if script == "common.py" else 90)


def test_the_main_job_tells_its_options_and_refuses_others() -> None:
    command = [sys.executable, str(EXAMPLES / "main_job.py")]
    shown = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True).stdout
    assert "--quick" in shown
    assert "===" not in shown
    assert subprocess.run([*command, "--quik"], capture_output=True, check=False).returncode == 2
