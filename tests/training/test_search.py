"""Searching over the options of fine-tuning: spaces, studies that go on after a crash, pruning, a cluster."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.conformance.conftest import tiny_model
from zoo.errors import ConfigError, TrainingError
from zoo.training.search import Plan, Study, parse_space, search
from zoo.training.search.space import Choice, Range

ROWS = [(f"{'nice' if i % 2 else 'awful'} text number {i}", ("bad", "good")[i % 2]) for i in range(24)]
STATES = {"complete", "pruned", "failed"}


def model() -> zoo.Model:
    return tiny_model("bert-base-cased", "text-classification")


@pytest.mark.parametrize(
    ("given", "parsed"),
    [
        ([8, 16], Choice((8, 16))),
        ((1e-5, 1e-3), Range(1e-5, 1e-3, log=True)),
        ((1e-3, 2e-3), Range(1e-3, 2e-3, log=False)),
        ({"low": 1e-4, "high": 2e-4, "log": True}, Range(1e-4, 2e-4, log=True)),
    ],
)
def test_a_space_is_choices_or_ranges(given: Any, parsed: object) -> None:
    name = "batch_size" if isinstance(given, list) else "learning_rate"
    assert parse_space({name: given}, {}) == {name: parsed}


def test_whole_numbers_stay_whole() -> None:
    assert parse_space({"epochs": (1, 20)}, {}) == {"epochs": Range(1, 20, log=False)}
    assert parse_space({"epochs": {"low": 1, "high": 9, "step": 2}}, {})["epochs"].whole  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "give options by name"),
        ({"learning_rat": (1e-5, 1e-3)}, "learning_rate"),
        ({"output_dir": ["a", "b"]}, "nothing to search"),
        ({"learning_rate": (1e-3, 1e-5)}, "the first must be the smaller"),
        ({"learning_rate": (-1.0, 1e-3)}, "learning_rate=-1.0"),
        ({"batch_size": [8, "many"]}, "batch_size='many'"),
        ({"learning_rate": 1e-3}, "a list of choices"),
        ({"learning_rate": {"low": 1e-5, "hihg": 1e-3}}, "'high'"),
        ({"learning_rate": {"low": 0.0, "high": 1.0, "log": True}}, "above 0"),
        ({"epochs": [1, 2]}, "leave out one"),
    ],
)
def test_a_wrong_space_is_refused_before_anything_runs(space: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_space(space, {"epochs": 3})


def test_a_search_tries_options_and_leaves_the_model_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    started = model()
    before = {name: tensor.clone() for name, tensor in started.module.state_dict().items()}
    space = {"learning_rate": (1e-4, 3e-2), "batch_size": [4, 8], "class_weights": [None, {"good": 2.0}]}
    study = started.search(ROWS, 0.25, space=space, trials=4, epochs=2, prune=False)
    assert [trial.state for trial in study.trials] == ["complete"] * 4
    assert all(len(trial.epochs) == 2 and trial.value == max(trial.epochs) for trial in study.trials)
    assert len({trial.options["learning_rate"] for trial in study.trials}) == 4
    assert {trial.options["batch_size"] for trial in study.trials} <= {4, 8}
    assert all(1e-4 <= trial.options["learning_rate"] <= 3e-2 for trial in study.trials)
    assert study.best.value == max(trial.value for trial in study.trials if trial.value is not None)
    assert all(before[name].equal(tensor) for name, tensor in started.module.state_dict().items())
    assert "trial 4/4" in capsys.readouterr().err
    tuned = model().finetune(ROWS, 0.25, epochs=2, progress=False, **study.best.options)
    assert max(record["accuracy"] for record in tuned.history) == study.best.value


def test_a_study_prints_plots_and_is_json(tmp_path: Path) -> None:
    study = model().search(ROWS, 0.25, space={"optimizer": ["adamw", "sgd"]}, trials=2, epochs=1, progress=False)
    assert max(map(len, str(study).splitlines())) <= 80
    assert json.loads(json.dumps(study.to_dict()))["metric"] == "accuracy"
    for name in ("a.png", "a.svg"):
        assert study.plot(tmp_path / name).stat().st_size > 5000
    with pytest.raises(ConfigError, match="png"):
        study.plot(tmp_path / "a.txt")


def test_a_killed_search_goes_on_with_the_trial_it_was_in(tmp_path: Path) -> None:
    code = """
        import os, sys
        from tests.training.test_search import ROWS, model
        from zoo.training.search import local
        seen = []
        report = local._say
        def die(*given):
            report(*given)
            seen.append(1)
        local._say = die
        from zoo.training import engine
        closing = engine.Run._close_epoch
        def close(self, record):
            closing(self, record)
            if len(seen) == 1 and record["epoch"] == 1:
                os._exit(9)
        engine.Run._close_epoch = close
        model().search(ROWS, 0.25, space={"learning_rate": (1e-4, 1e-2)}, trials=3, epochs=2, folder=sys.argv[1])
    """
    run = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=200)
    assert done.returncode == 9, done.stderr
    running = list((tmp_path / "running").iterdir())
    assert len(running) == 1, "the interrupted trial keeps its checkpoint"
    space = {"learning_rate": (1e-4, 1e-2)}
    study = model().search(ROWS, 0.25, space=space, trials=3, epochs=2, folder=tmp_path)
    assert [trial.state in STATES for trial in study.trials] == [True] * 3
    assert len({trial.options["learning_rate"] for trial in study.trials}) == 3
    assert not list((tmp_path / "running").iterdir())
    again = model().search(ROWS, 0.25, space=space, trials=3, epochs=2, folder=tmp_path)
    assert again.to_dict()["trials"] == study.to_dict()["trials"], "a finished study runs nothing"
    with pytest.raises(ConfigError, match="another search"):
        model().search(ROWS, 0.25, space=space, trials=3, epochs=1, folder=tmp_path)


def plan(**changes: Any) -> Plan:
    space = parse_space({"learning_rate": (1e-5, 1e-1)}, {})
    defaults = {
        "space": space, "fixed": {}, "metric": "f1", "higher_is_better": True, "trials": 12, "seed": 0, "prune": True,
        "timeout": None, "folder": None, "progress": False, "facts": {},
    }  # fmt: skip
    return Plan(**{**defaults, **changes})


def test_what_is_worse_than_the_others_is_pruned_and_what_diverges_fails() -> None:
    def attempt(options: Any, on_epoch: Any) -> None:
        if options["learning_rate"] > 3e-2:
            raise TrainingError("The loss is not finite.")
        for epoch in range(1, 5):
            on_epoch({"epoch": epoch, "f1": epoch * options["learning_rate"]})

    study: Study = search(attempt, plan(), cluster=None, gpu=False)
    states = [trial.state for trial in study.trials]
    assert len(states) == 12
    assert set(states) == STATES
    assert all(trial.error == "The loss is not finite." for trial in study.trials if trial.state == "failed")
    assert all(len(trial.epochs) < 4 for trial in study.trials if trial.state == "pruned")
    assert study.best.value == max(4 * t.options["learning_rate"] for t in study.trials if t.state == "complete")


def test_an_error_of_the_data_ends_the_search() -> None:
    def attempt(options: Any, on_epoch: Any) -> None:
        raise zoo.DataError("row 3: the cell is empty")

    with pytest.raises(zoo.DataError, match="row 3"):
        search(attempt, plan(), cluster=None, gpu=False)


def test_without_one_complete_trial_there_is_no_best() -> None:
    def attempt(options: Any, on_epoch: Any) -> None:
        raise TrainingError("The loss is not finite.")

    study = search(attempt, plan(trials=2), cluster=None, gpu=False)
    with pytest.raises(TrainingError, match=r"None of the 2 trials is complete\. The loss is not finite"):
        _ = study.best


def test_search_needs_validation_data() -> None:
    with pytest.raises(ConfigError, match="val="):
        model().search(ROWS, None, space={"batch_size": [4, 8]})


def test_trials_side_by_side_on_a_cluster(tmp_path: Path) -> None:
    if importlib.util.find_spec("ray") is None:
        pytest.skip("ray is not installed")
    space = {"learning_rate": (1e-4, 1e-2), "batch_size": [4, 8]}
    study = model().search(
        ROWS, 0.25, space=space, trials=2, epochs=2, prune=False, cluster="local", folder=tmp_path, progress=False
    )
    assert [trial.state for trial in study.trials] == ["complete"] * 2
    assert all(len(trial.epochs) == 2 and 1e-4 <= trial.options["learning_rate"] <= 1e-2 for trial in study.trials)
    tuned = model().finetune(ROWS, 0.25, epochs=2, progress=False, **study.best.options)
    assert max(record["accuracy"] for record in tuned.history) == study.best.value
