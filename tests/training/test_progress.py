from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from tests.training.tiny import run, text_world

FAST = {"epochs": 2, "batch_size": 2, "learning_rate": 1e-3, "progress": True}


def test_plain_lines(capsys: pytest.CaptureFixture[str]) -> None:
    run(text_world(), **FAST)
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert shown.out == ""
    ends = [line for line in lines if " done " in line]
    assert len(ends) == 2
    assert "train_loss" in ends[0]
    assert "val_loss" in ends[0]
    assert "accuracy" in ends[0]
    steps = [line for line in lines if "step " in line]
    assert len(steps) == 20, "about every tenth of an epoch"
    assert "step 2/40  loss " in steps[0]
    assert "samples/s" in steps[0]
    assert "to go" in steps[0]


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    run(text_world(), **{**FAST, "progress": False})
    assert capsys.readouterr() == ("", "")


def test_a_live_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    run(text_world(), **FAST)
    shown = terminal.getvalue()
    assert "epoch 1/2" in shown
    assert "epoch 2/2 done" in shown
    assert "\x1b[" in shown


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(text_world(), output_dir=tmp_path, log=("tensorboard",), experiment="mine", **FAST)
    events = EventAccumulator(str(tmp_path / "mine"))
    events.Reload()
    names = events.Tags()["scalars"]
    assert {"train/loss", "train/learning_rate", "epoch/val_loss", "epoch/accuracy"} <= set(names)
    assert [event.step for event in events.Scalars("train/loss")] == [10, 20, 30, 40]
    assert [event.step for event in events.Scalars("epoch/accuracy")] == [20, 40]
