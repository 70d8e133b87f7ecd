"""What a run does beside the mathematics that `test_proofs` is about."""

from __future__ import annotations

import logging
import random
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.conformance.cases import CASES, trainable
from tests.conformance.conftest import tiny_model
from tests.tiny import without_dropout
from tests.training.tiny import distance, make_rows, run, text_world, timeless, weights
from zoo.errors import ConfigError, DataError, InputError, TrainingError, TrainingInterrupted
from zoo.training import evaluate, optim, rates
from zoo.training.config import TrainConfig
from zoo.training.data.rows import Row
from zoo.training.engine import Run
from zoo.training.stepping import Stepper

FAST = {"epochs": 2, "batch_size": 8, "learning_rate": 1e-3}


def test_history_has_one_record_an_epoch() -> None:
    world, heard = text_world(), []
    history, losses = run(world, on_epoch=heard.append, **FAST)
    assert [record["epoch"] for record in history] == [1, 2]
    assert [record["step"] for record in history] == [5, 10]
    assert history == heard
    assert {"train_loss", "val_loss", "accuracy", "learning_rate", "seconds", "samples_per_second"} <= history[0].keys()
    assert history[0]["train_loss"] == pytest.approx(np.mean(losses[:5]))
    assert history[0]["learning_rate"] > history[1]["learning_rate"] > 0
    assert "skipped" not in history[0]
    assert not world.module.training


def test_the_same_seed_is_the_same_run() -> None:
    runs = []
    for seed in (1, 1, 2):
        world = text_world(dropout=0.2)
        history, losses = run(world, seed=seed, **FAST)
        runs.append((timeless(history), losses, weights(world.module)))
    assert runs[0][:2] == runs[1][:2]
    assert distance(runs[0][2], runs[1][2]) == 0.0
    assert runs[0][1] != runs[2][1]


def test_global_state_is_as_before() -> None:
    world = text_world()
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    expected = (torch.rand(2).tolist(), np.random.rand(), random.random())
    torch.manual_seed(5), np.random.seed(5), random.seed(5)
    run(world, **FAST)
    assert (torch.rand(2).tolist(), np.random.rand(), random.random()) == expected
    assert "forward" not in vars(world.module)
    assert all(p.grad is None and p.requires_grad for p in world.module.parameters())


def test_precisions_follow_each_other_in_one_process() -> None:
    losses = {p: run(text_world(), precision=p, **FAST)[1] for p in ("fp32", "bf16", "auto")}
    assert losses["auto"] == losses["fp32"]
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], abs=0.02)
    with pytest.raises(ConfigError, match=r"fp16.*needs a CUDA GPU"):
        run(text_world(), precision="fp16")


def test_max_steps_ends_inside_an_epoch() -> None:
    history, losses = run(text_world(), **{**FAST, "max_steps": 7})
    assert len(losses) == 7
    assert [record["step"] for record in history] == [5, 7]


def test_the_best_epoch_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    world, kept = text_world(), []
    scores = iter([0.5, 0.9, 0.7, 0.7])
    _metric(monkeypatch, scores)
    run(world, on_epoch=lambda record: kept.append(weights(world.module)), **{**FAST, "epochs": 4})
    assert distance(weights(world.module), kept[1]) == 0.0
    assert distance(kept[1], kept[3]) > 0.0


def test_early_stop_waits_so_many_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    _metric(monkeypatch, iter([0.5, 0.9, float("nan"), 0.9, 0.95, 1.0]))
    history, _ = run(text_world(), **{**FAST, "epochs": 6, "early_stop": 2})
    assert len(history) == 4


def test_early_stop_needs_validation_data() -> None:
    with pytest.raises(ConfigError, match=r"early_stop.*val="):
        run(text_world(), val=False, early_stop=1)


def _metric(monkeypatch: pytest.MonkeyPatch, scores: Any) -> None:
    original = Run._record

    def record(self: Run) -> dict[str, Any]:
        return {**original(self), "accuracy": next(scores)}

    monkeypatch.setattr(Run, "_record", record)


def test_head_alone_leaves_the_body() -> None:
    world = text_world(dropout=0.5)
    before = weights(world.module)
    _, losses = run(world, method="head", **{**FAST, "learning_rate": 0.1})
    after = weights(world.module)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    heads = {f"net.{name}" for name in ("classifier.weight", "classifier.bias")}
    assert heads <= changed <= {name for name in before if world.module.in_head(name.removeprefix("net."))}
    assert losses[-1] != losses[0]
    assert all(parameter.requires_grad for parameter in world.module.parameters())


def test_rates_and_decay_by_group() -> None:
    module = text_world().module
    config = TrainConfig(learning_rate=1e-4, head_lr_scale=10, weight_decay=0.3)
    groups = optim.parameter_groups(module, config, "text")
    assert sum(len(group["params"]) for group in groups) == len(list(module.parameters()))
    heads = {id(parameter) for parameter in module.head_parameters()}
    for group in groups:
        assert len({id(parameter) in heads for parameter in group["params"]}) == 1
        assert group["lr"] == pytest.approx(1e-3 if id(group["params"][0]) in heads else 1e-4)
        assert {parameter.ndim > 1 for parameter in group["params"]} == {group["weight_decay"] == 0.3}
    assert rates.head_learning_rate(TrainConfig(head_learning_rate=0.5), "text") == 0.5
    assert rates.learning_rate(TrainConfig(method="head"), "image") == 1e-3


def test_schedules() -> None:
    ends = {}
    for name in ("cosine", "linear", "constant"):
        rates: list[float] = []
        run(text_world(), scheduler=name, warmup_ratio=0.2, on_step=lambda seen: rates.append(seen.note.rate), **FAST)  # noqa: B023
        assert rates[:3] == pytest.approx([0.0, 5e-4, 1e-3])
        ends[name] = rates[-1]
    assert ends["constant"] == 1e-3
    assert 0 < ends["cosine"] < ends["linear"] < 2e-4


def test_gradient_checkpointing_computes_the_same() -> None:
    runs = [run(text_world(), gradient_checkpointing=on, **FAST)[1] for on in (False, True)]
    assert runs[0] == pytest.approx(runs[1], abs=1e-6)


@pytest.mark.parametrize("name", ["resnet18", "wav2vec2-base", "distilgpt2"])
def test_gradient_checkpointing_computes_the_same_in_every_backend(name: str) -> None:
    losses = []
    for on in (False, True):
        model = tiny_model(name)
        task = trainable(model.spec)
        model = tiny_model(name, task)
        # Dropped numbers are drawn in another way where layers run again.
        without_dropout(model.module)
        rows = CASES[task].rows(model.task)  # type: ignore[index, misc]
        options = {"epochs": 2, "batch_size": 3, "learning_rate": 1e-3, "augment": "none", "spec_augment": None}
        model.finetune(rows, None, gradient_checkpointing=on, progress=False, lint=False, **options)  # type: ignore[arg-type]
        losses.append([record["train_loss"] for record in model.history])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)


def test_class_weights_and_smoothing_change_the_loss() -> None:
    def first(**options: Any) -> float:
        return run(text_world("token-classification"), max_steps=1, batch_size=8, **options)[1][0]

    plain = first()
    assert first(class_weights={"O": 1.0}) == plain
    assert first(class_weights={"O": 0.0}) != pytest.approx(plain, abs=1e-3)
    assert first(class_weights="balanced") != pytest.approx(plain, abs=1e-4)
    assert first(label_smoothing=0.5) != pytest.approx(plain, abs=1e-3)
    with pytest.raises(ConfigError, match=r"'B-X', which is no label of this model. Did you mean"):
        first(class_weights={"B-X": 2.0})


def test_no_rows() -> None:
    world = text_world()
    world.rows = []
    with pytest.raises(DataError, match="no rows to train on"):
        run(world)


# Rows that can't be used.


def _spoiled() -> Any:
    world = text_world()
    world.rows[7] = Row("broken", "neither", "train.csv, line 9")
    return world


def test_a_bad_row_is_named() -> None:
    with pytest.raises(DataError, match=r"train\.csv, line 9: .*neither") as raised:
        run(_spoiled(), **FAST)
    assert raised.value.row == 7


def test_a_bad_row_is_left_out_and_listed(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "zoo.training"):
        history, _ = run(_spoiled(), on_error="skip", **FAST)
    assert [text.split(":")[0] for text in history[-1]["skipped"]] == ["train.csv, line 9"]
    assert "1 rows could not be read" in caplog.text
    assert "train.csv, line 9" in caplog.text


def test_no_usable_row_at_all() -> None:
    world = text_world()
    world.rows = make_rows([("text", "neither")] * 3)
    with pytest.raises(DataError, match=r"None of the 3 rows can be used. The first: rows"):
        run(world, on_error="skip")


# Losses that are not finite.


def _poison(monkeypatch: pytest.MonkeyPatch, world: Any, *, row: int, epoch: int) -> None:
    """The loss of one row becomes NaN in one epoch."""
    seen = {"passes": 0}
    original = Stepper._forward_backward

    def forward_backward(self: Stepper, batch: Any, scale: Any, *, last: bool) -> torch.Tensor:
        seen["passes"] += 1
        bad = row in batch.rows and seen["passes"] > (epoch - 1) * 10
        return original(self, batch, float("nan") if bad else scale, last=last) * (float("nan") if bad else 1.0)

    monkeypatch.setattr(Stepper, "_forward_backward", forward_backward)


def test_a_nan_names_the_epoch_the_step_and_the_rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    world = text_world()
    _poison(monkeypatch, world, row=17, epoch=2)
    says = r"loss is nan in epoch 2, step \d+, on the batch of .*rows\[17\]"
    with pytest.raises(TrainingError, match=says) as raised:
        run(world, output_dir=tmp_path, batch_size=4, epochs=3)
    assert str(raised.value).count("rows[") == 4, "only the rows of the guilty pass are named"
    assert all(tensor.isfinite().all() for tensor in world.module.state_dict().values())
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000010"]


def test_a_huge_learning_rate_fails_and_saves_nothing_bad(tmp_path: Path) -> None:
    world = text_world()
    with pytest.raises(TrainingError, match=r"not finite|is nan|is inf"):
        run(world, output_dir=tmp_path, learning_rate=1e38, optimizer="sgd", max_grad_norm=None, epochs=9)
    for path in tmp_path.rglob("model.pt"):
        assert all(t.isfinite().all() for t in torch.load(path, weights_only=True).values() if t.is_floating_point())


# Memory.


def _small_memory(monkeypatch: pytest.MonkeyPatch, most: int, failures: list[int]) -> None:
    original = Stepper._forward_backward

    def forward_backward(self: Stepper, batch: Any, scale: Any, *, last: bool) -> torch.Tensor:
        if len(batch) > most:
            failures.append(len(batch))
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return original(self, batch, scale, last=last)

    monkeypatch.setattr(Stepper, "_forward_backward", forward_backward)


@pytest.mark.parametrize("task", ["token-classification", "text-classification"])
def test_memory_runs_out_and_the_result_is_the_same(
    task: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    options = {"epochs": 2, "optimizer": "sgd", "learning_rate": 0.1, "batch_size": "auto"}
    failures: list[int] = []
    plenty, little = text_world(task, rows=150), text_world(task, rows=150)
    _, expected = run(plenty, **options)
    _small_memory(monkeypatch, 5, failures)
    _, losses = run(little, **options)
    assert failures == [15, 7]
    assert losses == pytest.approx(expected, abs=1e-6)
    assert distance(weights(plenty.module), weights(little.module)) < 1e-5
    assert "going on with 3" in caplog.text


def test_no_memory_for_one_input(monkeypatch: pytest.MonkeyPatch) -> None:
    _small_memory(monkeypatch, 0, [])
    with pytest.raises(TrainingError, match=r"single input.*gradient_checkpointing"):
        run(text_world(), batch_size="auto")


def test_no_memory_for_a_size_that_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    _small_memory(monkeypatch, 4, [])
    with pytest.raises(TrainingError, match="batch_size=4 with twice the gradient_accumulation"):
        run(text_world(), batch_size=8)


def test_other_runtime_errors_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, last: bool) -> None:
        raise RuntimeError("shapes differ")

    monkeypatch.setattr(Stepper, "_forward_backward", broken)
    with pytest.raises(RuntimeError, match="shapes differ"):
        run(text_world(), batch_size="auto")


# Elsewhere.


def test_training_in_a_thread_leaves_signals_alone() -> None:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(run(text_world(), **FAST)))
    thread.start()
    thread.join(120)
    assert len(found[0][0]) == 2


def test_interrupted_without_a_folder_says_so() -> None:
    import signal

    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)

    def interrupt(seen: Any) -> None:
        if seen.note.step == 3:
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(TrainingInterrupted, match=r"SIGTERM in epoch 1, step 3\. Nothing was saved"):
        run(text_world(), on_step=interrupt, **FAST)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_an_error_in_the_callback_ends_the_run() -> None:
    class Pruned(Exception):
        pass

    def prune(record: Any) -> None:
        raise Pruned

    with pytest.raises(Pruned):
        run(text_world(), on_epoch=prune, **FAST)


def test_evaluate_gives_the_tasks_report() -> None:
    world = text_world("token-classification")
    history, _ = run(world, **{**FAST, "epochs": 4})
    report = evaluate(world.module, world.task, world.encoder, world.held_out, history=history)
    best = max(record["entity_f1"] for record in history)
    assert report.metrics["entity_f1"] == pytest.approx(best)
    assert report.history == tuple(history)
    assert report.rows == len(world.val)
    world.val[3] = Row(["a", "b"], ["O"], "val.csv, line 4")
    with pytest.raises(DataError, match=r"val\.csv, line 4"):
        evaluate(world.module, world.task, world.encoder, world.held_out)
    report = evaluate(world.module, world.task, world.encoder, world.held_out, on_error="return", batch_size=2)
    assert report.rows == len(world.val) - 1
    assert "val.csv, line 4" in report.skipped[0]
    with pytest.raises(DataError, match="no rows"):
        evaluate(world.module, world.task, world.encoder, world.held_out[:0])


def test_input_errors_keep_their_kind() -> None:
    world = text_world()
    world.rows[3] = Row(12, "few", "a row")
    with pytest.raises(InputError, match="a row: "):
        run(world, **FAST)
