"""Every entry of the catalogue, at tiny size with random weights, through every verb but export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.conformance.cases import CASES, trainable
from tests.conformance.conftest import tiny_model


def test_predicts_as_the_saved_and_loaded_model_does(name: str, tmp_path: Path) -> None:
    model = tiny_model(name)
    raws = model.task.samples()
    model.save(tmp_path / "saved")
    again = zoo.load(tmp_path / "saved", device="cpu")
    assert again.spec == model.spec
    if model.task.name == "feature-extraction":
        np.testing.assert_array_equal(again.embed(raws), model.embed(raws))
        assert model.embed(raws).shape == (len(raws), model.embed(raws[0]).shape[0])
    else:
        options = CASES[model.task.name].options
        assert again.predict(raws, **options) == model.predict(raws, **options)
        assert len(model.predict(raws, **options)) == len(raws)


def test_takes_a_step_and_is_measured(name: str, tmp_path: Path) -> None:
    spec = zoo.info(name)
    task = trainable(spec)
    if task is None:
        pytest.skip(f"{name} is for prediction only: it has no task to fine-tune")
    model = tiny_model(name, task)
    before = {key: value.clone() for key, value in model.module.net.state_dict().items()}
    case = CASES[task]
    assert case.rows is not None
    rows = case.rows(model.task)
    step = {"max_steps": 1, "batch_size": 3, "learning_rate": 1e-3, "output_dir": tmp_path / "run", **case.step}
    model.finetune(rows, val=None, **step)
    after = model.module.net.state_dict()
    assert any(not before[key].equal(after[key]) for key in before if key in after), "one step changed no weight"
    assert np.isfinite(model.history[-1]["train_loss"])
    report = model.evaluate(rows)
    assert report.rows == len(rows)
    assert np.isfinite(report.metrics[model.task.metric])
