"""Runs logged to each tracker, read back from what it wrote on this machine."""

from __future__ import annotations

import importlib.util
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conformance.conftest import tiny_model
from zoo.errors import ConfigError, MissingDependency

ROWS = [(f"text number {i}", ("good", "bad")[i % 2]) for i in range(24)]


def run(folder: Path, log: str) -> None:
    model = tiny_model("bert-base-cased", "text-classification")
    model.finetune(ROWS, 0.25, epochs=2, batch_size=1, log=[log], output_dir=folder, progress=False, experiment="trial")


def needs(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")


def test_tensorboard_has_the_numbers_the_table_and_the_plots(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, "tensorboard")
    events = EventAccumulator(str(next(tmp_path.rglob("events.out.tfevents.*")).parent))
    events.Reload()
    tags = events.Tags()
    assert {"train/loss", "train/learning_rate", "epoch/val_loss", "epoch/accuracy"} <= set(tags["scalars"])
    assert len(events.Scalars("epoch/accuracy")) == 2
    assert "report/labels/text_summary" in tags["tensors"]
    assert {"report/Confusion", "report/Loss by epoch"} <= set(tags["images"])


def test_weights_and_biases_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run(tmp_path, "wandb")
    runs = list((tmp_path / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    # A process of wandb's own writes the file, and on a busy machine after the run has ended.
    recorded, names = b"", (b"epoch/accuracy", b"train/loss", b"report/Confusion", b"report/labels")
    for _ in range(120):
        recorded = next(runs[0].glob("*.wandb")).read_bytes()
        if all(name in recorded for name in names):
            break
        time.sleep(0.5)
    assert [name for name in names if name not in recorded] == []
    tables = list(runs[0].rglob("*.table.json"))
    assert json.loads(tables[0].read_text(encoding="utf-8"))["columns"][0] == "label"
    assert list(runs[0].rglob("*.png"))


def test_mlflow_in_a_database_of_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("mlflow")
    import mlflow

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    try:
        run(tmp_path, "mlflow")
        found: Any = mlflow.search_runs(experiment_names=["trial"], output_format="list")
        assert len(found) == 1
        assert {"epoch/accuracy", "train/loss"} <= set(found[0].data.metrics)
        assert found[0].data.params["epochs"] == "2"
        assert (tmp_path / "mlflow.db").is_file()
        assert {path.name for path in (tmp_path / "mlflow").rglob("report.*")} == {"report.html", "report.png"}
    finally:
        mlflow.set_tracking_uri(None)


def test_an_absent_tracker_is_named_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "wandb" else found(name, *rest)
    )
    with pytest.raises(MissingDependency, match=r"polyzoo\[wandb\]"):
        run(tmp_path, "wandb")
    assert not list(tmp_path.iterdir())


def test_an_unknown_tracker_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="tensorboard"):
        run(tmp_path, "comet")
