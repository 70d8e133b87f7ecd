"""Trials one after another in this process, chosen and pruned by Optuna."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import ConfigError, TrainingError, missing
from zoo.training.search import Attempt, Plan
from zoo.training.search.space import Choice, Dimension, Range, Space
from zoo.training.search.study import State, Study, Trial

if TYPE_CHECKING:
    import optuna

_FILE = "study.journal"


def run_here(attempt: Attempt, plan: Plan) -> Study:
    """The study after `plan.trials` trials, those of an earlier call with the same folder among them."""
    try:
        import optuna
    except ImportError as error:
        raise missing("optuna", "train", "Model.search()") from error
    with _quiet(optuna):
        study = _open(optuna, plan)
        _again(study)
        begun = time.monotonic()
        while _ended(study) < plan.trials:
            if plan.timeout is not None and time.monotonic() - begun > plan.timeout:
                break
            _trial(optuna, study, attempt, plan)
    return _result(study, plan)


def _open(optuna: Any, plan: Plan) -> optuna.Study:
    storage = None
    if plan.folder is not None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        backend = optuna.storages.journal.JournalFileBackend(str(plan.folder / _FILE))
        storage = optuna.storages.JournalStorage(backend)
    study: optuna.Study = optuna.create_study(
        storage=storage,
        study_name="zoo",
        load_if_exists=True,
        direction="maximize" if plan.higher_is_better else "minimize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4) if plan.prune else optuna.pruners.NopPruner(),
    )
    # Another state than the earlier call's, or it would propose what was tried already.
    study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(study.trials))
    facts = json.loads(json.dumps(dict(plan.facts), default=str))
    before = study.user_attrs.get("facts")
    if before is None:
        study.set_user_attr("facts", facts)
    elif before != facts:
        differing = ", ".join(sorted(key for key in {**before, **facts} if before.get(key) != facts.get(key)))
        raise ConfigError(f"{plan.folder} holds another search: {differing} differ. Give another folder, or remove it.")
    return study  # type: ignore[no-any-return]


def _again(study: optuna.Study) -> None:
    """Trials that a killed process left behind are tried again."""
    from optuna.trial import TrialState

    for trial in study.trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params, user_attrs={"instead of": trial.number})


def _ended(study: optuna.Study) -> int:
    return len(_counted(study))


def _counted(study: optuna.Study) -> list[Any]:
    """The trials that came to an end of their own."""
    replaced = {trial.user_attrs.get("instead of") for trial in study.trials}
    return [t for t in study.trials if t.state.is_finished() and t.number not in replaced]


def _trial(optuna: Any, study: optuna.Study, attempt: Attempt, plan: Plan) -> None:
    trial = study.ask(_distributions(optuna, plan.space))
    options = {name: _value(plan.space[name], chosen) for name, chosen in trial.params.items()}
    folder = _folder(plan, options)
    begun = time.monotonic()
    epochs: list[float] = []

    def on_epoch(record: dict[str, Any]) -> None:
        value = float(record[plan.metric])
        epochs.append(value)
        trial.report(value, int(record["epoch"]))
        if trial.should_prune():
            raise optuna.TrialPruned

    where = {"output_dir": folder, "resume": True} if folder is not None else {}
    try:
        attempt({**plan.fixed, **options, **where}, on_epoch)
        state = optuna.trial.TrialState.COMPLETE
    except optuna.TrialPruned:
        state = optuna.trial.TrialState.PRUNED
    except TrainingError as error:
        # A rate that is too high says something about the rate: the search goes on.
        trial.set_user_attr("error", str(error))
        state = optuna.trial.TrialState.FAIL
    except BaseException:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(trial.params, user_attrs={"instead of": trial.number})
        raise
    trial.set_user_attr("seconds", time.monotonic() - begun)
    best = (max if plan.higher_is_better else min)(epochs, default=None)
    study.tell(trial, best if state == optuna.trial.TrialState.COMPLETE else None, state=state)
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    if plan.progress:
        _say(study, plan, options, best, state.name.lower())


def _folder(plan: Plan, options: Mapping[str, Any]) -> Path | None:
    """Of a trial's checkpoints while it runs: the same for the same options, so that a killed one goes on."""
    if plan.folder is None:
        return None
    text = json.dumps(dict(sorted(options.items())), default=str)
    return plan.folder / "running" / hashlib.sha256(text.encode()).hexdigest()[:16]


def _distributions(optuna: Any, space: Space) -> dict[str, Any]:
    kinds = optuna.distributions

    def of(dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            return kinds.CategoricalDistribution(dimension.names)
        if dimension.whole:
            step = int(dimension.step) if dimension.step is not None else 1
            return kinds.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log, step=step)
        return kinds.FloatDistribution(dimension.low, dimension.high, log=dimension.log, step=dimension.step)

    return {name: of(dimension) for name, dimension in space.items()}


def _value(dimension: Dimension, chosen: Any) -> Any:
    return chosen if isinstance(dimension, Range) else dimension.value(chosen)


def _say(study: optuna.Study, plan: Plan, options: Mapping[str, Any], value: float | None, state: str) -> None:
    shown = ", ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in options.items())
    found = f"{plan.metric} {value:.4f}" if value is not None else "no value"
    print(f"trial {_ended(study)}/{plan.trials}  {state}  {found}  {shown}", file=sys.stderr, flush=True)


def _result(study: optuna.Study, plan: Plan) -> Study:
    found = [_read(number, trial, plan) for number, trial in enumerate(_counted(study))]
    return Study(plan.metric, plan.higher_is_better, tuple(found), dict(plan.fixed))


def _read(number: int, trial: Any, plan: Plan) -> Trial:
    states: dict[str, State] = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    epochs = tuple(value for _, value in sorted(trial.intermediate_values.items()))
    best = (max if plan.higher_is_better else min)(epochs, default=None)
    options = {name: _value(plan.space[name], chosen) for name, chosen in trial.params.items()}
    attrs = trial.user_attrs
    return Trial(
        number, options, best, states[trial.state.name], epochs, attrs.get("seconds", 0.0), attrs.get("error", "")
    )


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
