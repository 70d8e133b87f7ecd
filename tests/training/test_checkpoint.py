"""Checkpoints: whole or absent, of this run or refused."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training.tiny import distance, run, text_world, timeless, weights
from zoo.errors import CheckpointError, TrainingError
from zoo.training import checkpoint
from zoo.training.checkpoint import Checkpoints, verify
from zoo.training.data.rows import Row

OPTIONS = {"epochs": 4, "batch_size": 8, "learning_rate": 1e-3}
PARTS = {"model": {"w": torch.arange(6.0)}}
RUN = {"epochs": 4, "labels": ["a", "b"]}


class Killed(BaseException):
    """What a test's on_epoch raises in place of a signal."""


def _until(epoch: int, folder: Path, **options: Any) -> Any:
    """A run that is gone after so many epochs."""
    world = text_world(dropout=0.1)

    def stop(record: Any) -> None:
        if record["epoch"] == epoch:
            raise Killed

    with pytest.raises(Killed):
        run(world, output_dir=folder, on_epoch=stop, **{**OPTIONS, **options})
    return world


def _steps(folder: Path) -> list[int]:
    return Checkpoints(folder / "checkpoints").steps()


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4, 5):
        folder.write(step, PARTS, {}, {"run": RUN}, best=2 if step >= 2 else None)
    assert folder.steps() == [2, 4, 5]
    assert torch.equal(folder.at(2).load("model")["w"], torch.arange(6.0))
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("harm", ["flip", "cut", "remove", "manifest", "no manifest"])
def test_any_damage_is_found(harm: str, tmp_path: Path) -> None:
    path = Checkpoints(tmp_path).write(1, PARTS, {"random-0": [1]}, {"run": RUN})
    assert verify(path).step == 1
    model, manifest = path / "model.pt", path / "manifest.json"
    data = bytearray(model.read_bytes())
    if harm == "flip":
        data[len(data) // 2] ^= 1
        model.write_bytes(data)
    elif harm == "cut":
        model.write_bytes(data[:-1])
    elif harm == "remove":
        model.unlink()
    elif harm == "manifest":
        manifest.write_text(manifest.read_text().replace("model.pt", "model.px"))
    else:
        manifest.unlink()
    with pytest.raises(CheckpointError, match="step-00000001 is damaged"):
        verify(path)


def test_a_damaged_newest_is_named_and_the_one_before_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = text_world(dropout=0.1)
    expected, _ = run(whole, **OPTIONS)
    _until(3, tmp_path)
    newest = tmp_path / "checkpoints" / "step-00000015"
    (newest / "optimizer.pt").write_bytes(b"")
    again = text_world(dropout=0.1)
    with caplog.at_level(logging.WARNING, "zoo.training"):
        history, losses = run(again, output_dir=tmp_path, resume=True, **OPTIONS)
    assert "step-00000015 is damaged" in caplog.text
    assert "optimizer.pt is not the file that was written" in caplog.text
    assert len(losses) == 10, "from the end of the second epoch"
    assert timeless(history) == timeless(expected)
    assert distance(weights(again.module), weights(whole.module)) == 0.0
    assert verify(newest.with_name("step-00000020")).step == 20


def test_all_damaged_starts_afresh(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _until(2, tmp_path)
    for model in tmp_path.rglob("model.pt"):
        model.unlink()
    history, losses = run(text_world(dropout=0.1), output_dir=tmp_path, resume=True, **{**OPTIONS, "progress": True})
    assert (len(history), len(losses)) == (4, 20)
    assert "No checkpoint to resume from" in capsys.readouterr().err


def test_a_missing_folder_starts_afresh(tmp_path: Path) -> None:
    history, _ = run(text_world(), output_dir=tmp_path / "new", resume=True, **OPTIONS)
    assert len(history) == 4


def test_a_finished_run_is_not_trained_again(tmp_path: Path) -> None:
    first = text_world()
    expected, _ = run(first, output_dir=tmp_path, **OPTIONS)
    second = text_world()
    history, losses = run(second, output_dir=tmp_path, resume=True, **OPTIONS)
    assert losses == []
    assert history == expected
    assert distance(weights(first.module), weights(second.module)) == 0.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"learning_rate": 2e-3}, "learning_rate was 0.001 and is now 0.002"),
        ({"epochs": 9}, "epochs was 4 and is now 9"),
        ({"seed": 3}, "seed was 0 and is now 3"),
        ({"gradient_accumulation": 2}, "gradient_accumulation was 1 and is now 2"),
    ],
)
def test_other_options_are_refused_by_name(change: dict[str, Any], says: str, tmp_path: Path) -> None:
    _until(1, tmp_path)
    with pytest.raises(CheckpointError) as raised:
        run(text_world(dropout=0.1), output_dir=tmp_path, resume=True, **{**OPTIONS, **change})
    assert says in str(raised.value)
    assert "resume=False" in str(raised.value)


def test_other_data_and_labels_are_refused_by_name(tmp_path: Path) -> None:
    _until(1, tmp_path)
    other = text_world(dropout=0.1)
    other.rows[3] = Row("another text", "few", other.rows[3].where)
    with pytest.raises(CheckpointError, match=r"data was '.*' and is now"):
        run(other, output_dir=tmp_path, resume=True, **OPTIONS)
    fewer = text_world(dropout=0.1)
    del fewer.rows[-8:]
    with pytest.raises(CheckpointError, match="rows was 40 and is now 32"):
        run(fewer, output_dir=tmp_path, resume=True, **OPTIONS)
    labels = text_world(dropout=0.1)
    labels.task.labels = ("few", "lots")
    with pytest.raises(CheckpointError, match=r"labels was \['few', 'many'\] and is now \['few', 'lots'\]"):
        run(labels, output_dir=tmp_path, resume=True, **OPTIONS)


def test_what_does_not_change_the_way_may_change(tmp_path: Path) -> None:
    _until(2, tmp_path)
    history, losses = run(
        text_world(dropout=0.1), output_dir=tmp_path, resume=True, checkpoint_steps=2, early_stop=50, **OPTIONS
    )
    assert (len(history), len(losses)) == (4, 10)


def test_a_fresh_run_replaces_the_checkpoints_of_an_earlier_one(tmp_path: Path) -> None:
    run(text_world(), output_dir=tmp_path, **{**OPTIONS, "epochs": 3})
    run(text_world(), output_dir=tmp_path, **{**OPTIONS, "epochs": 1})
    assert _steps(tmp_path) == [5]


def test_a_disk_that_refuses_leaves_the_last_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    original, calls = checkpoint._write_tensors, []

    def write(path: Path, value: Any) -> None:
        calls.append(path)
        if len(calls) > 6:
            raise OSError(28, "No space left on device")
        original(path, value)

    monkeypatch.setattr(checkpoint, "_write_tensors", write)
    with pytest.raises(TrainingError, match=r"step-00000010 could not be written: .*No space left.*resume=True"):
        run(text_world(), output_dir=tmp_path, **OPTIONS)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000005"]
    verify(tmp_path / "checkpoints" / "step-00000005")


def test_what_a_killed_writer_left_is_not_a_checkpoint(tmp_path: Path) -> None:
    left = tmp_path / ".writing-00000003"
    left.mkdir()
    (left / "model.pt").write_bytes(b"half")
    folder = Checkpoints(tmp_path)
    assert folder.newest(RUN) is None
    folder.write(3, PARTS, {}, {"run": RUN})
    assert not left.exists()


@pytest.fixture
def first_is_best(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo.training.engine import Run

    original = Run._record

    def record(self: Run) -> dict[str, Any]:
        found = original(self)
        return {**found, "accuracy": 1.0 / found["epoch"]}

    monkeypatch.setattr(Run, "_record", record)


@pytest.mark.usefixtures("first_is_best")
def test_the_best_weights_come_back_after_a_resume(tmp_path: Path) -> None:
    _until(3, tmp_path)
    assert _steps(tmp_path) == [5, 10, 15]
    best = verify(tmp_path / "checkpoints" / "step-00000005").load("model")
    world = text_world(dropout=0.1)
    run(world, output_dir=tmp_path, resume=True, **OPTIONS)
    assert distance(weights(world.module), best) == 0.0
    assert _steps(tmp_path) == [5, 15, 20]


@pytest.mark.usefixtures("first_is_best")
def test_damage_to_the_best_alone_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _until(3, tmp_path)
    (tmp_path / "checkpoints" / "step-00000005" / "model.pt").unlink()
    world = text_world(dropout=0.1)
    run(world, output_dir=tmp_path, resume=True, **OPTIONS)
    assert "step-00000005 is damaged" in caplog.text
    assert "best weights so far" in caplog.text
    assert distance(weights(world.module), verify(tmp_path / "checkpoints" / "step-00000020").load("model")) == 0.0


def test_manifests_hold_numbers_exactly(tmp_path: Path) -> None:
    meta = {"run": RUN, "state": {"loss": 0.1 + 0.2, "nan": float("nan")}}
    found = verify(Checkpoints(tmp_path).write(1, PARTS, {}, meta)).meta["state"]
    assert found["loss"] == 0.1 + 0.2
    assert found["nan"] != found["nan"]
