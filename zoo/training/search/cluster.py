"""Trials side by side on a Ray cluster, by Ray Tune."""

from __future__ import annotations

import os
import time
from typing import Any

from zoo.cluster import connected, import_ray
from zoo.errors import TrainingError
from zoo.training.config import TrainConfig
from zoo.training.search import Attempt, Plan
from zoo.training.search.space import Choice, Dimension
from zoo.training.search.study import State, Study, Trial

_NAME = "zoo-search"


def run_on_cluster(attempt: Attempt, plan: Plan, address: str, *, gpu: bool) -> Study:
    """The study after `plan.trials` trials.

    address: "local" starts Ray on this machine; else what `ray.init(address=...)` takes: "auto", "ray://host:10001".
    gpu: every trial gets a GPU of its own; else a processor core.
    plan.folder: Ray's experiment is kept in it, and an unfinished one goes on; it must be reachable from every node.
    """
    ray = import_ray("search(cluster=...)")
    from ray import tune

    with connected(ray, address):
        trainable = tune.with_resources(
            tune.with_parameters(_attempt, attempt=attempt, fixed=dict(plan.fixed), metric=plan.metric),
            {"cpu": 1, "gpu": int(gpu)},
        )
        grid = _tuner(tune, trainable, plan).fit()
        return _result(grid, plan)


def _attempt(config: dict[str, Any], *, attempt: Attempt, fixed: dict[str, Any], metric: str) -> None:
    """One trial, in a process of the cluster."""
    from ray import tune

    begun = time.monotonic()
    epochs: list[float] = []

    def on_epoch(record: dict[str, Any]) -> None:
        epochs.append(float(record[metric]))
        tune.report({metric: epochs[-1], "epochs": list(epochs), "seconds": time.monotonic() - begun})

    try:
        attempt({**fixed, **config}, on_epoch)
    except TrainingError as error:
        # A rate that is too high says something about the rate: the search goes on.
        tune.report({metric: float("nan"), "epochs": list(epochs), "seconds": time.monotonic() - begun,
                     "failed": str(error)})  # fmt: skip


def _tuner(tune: Any, trainable: Any, plan: Plan) -> Any:
    storage = str(plan.folder.resolve()) if plan.folder is not None else None
    if storage is not None and tune.Tuner.can_restore(os.path.join(storage, _NAME)):
        return tune.Tuner.restore(
            os.path.join(storage, _NAME), trainable, resume_unfinished=True, restart_errored=True,
            param_space=_spaces(tune, plan),
        )  # fmt: skip
    mode = "max" if plan.higher_is_better else "min"
    return tune.Tuner(
        trainable,
        param_space=_spaces(tune, plan),
        tune_config=tune.TuneConfig(
            metric=plan.metric,
            mode=mode,
            num_samples=plan.trials,
            time_budget_s=plan.timeout,
            scheduler=tune.schedulers.MedianStoppingRule(grace_period=1, min_samples_required=4)
            if plan.prune
            else None,
            search_alg=tune.search.basic_variant.BasicVariantGenerator(random_state=plan.seed),
            trial_name_creator=lambda trial: trial.trial_id,
        ),
        run_config=tune.RunConfig(name=_NAME, storage_path=storage, verbose=0),
    )


def _spaces(tune: Any, plan: Plan) -> dict[str, Any]:
    def of(dimension: Dimension) -> Any:
        if isinstance(dimension, Choice):
            return tune.choice(list(dimension.values))
        low, high, step = dimension.low, dimension.high, dimension.step
        if dimension.whole:
            # Ray leaves the upper end out of whole numbers.
            if dimension.log:
                return tune.lograndint(int(low), int(high) + 1)
            return tune.qrandint(int(low), int(high), int(step)) if step else tune.randint(int(low), int(high) + 1)
        if dimension.log:
            return tune.loguniform(low, high)
        return tune.quniform(low, high, step) if step else tune.uniform(low, high)

    return {name: of(dimension) for name, dimension in plan.space.items()}


def _result(grid: Any, plan: Plan) -> Study:
    trials = [_read(number, result, plan) for number, result in enumerate(grid)]
    return Study(plan.metric, plan.higher_is_better, tuple(trials), dict(plan.fixed))


def _read(number: int, result: Any, plan: Plan) -> Trial:
    found = result.metrics or {}
    epochs = tuple(found.get("epochs", ()))
    best = (max if plan.higher_is_better else min)(epochs, default=None)
    error = found.get("failed") or (str(result.error).strip().splitlines()[-1] if result.error else "")
    state: State = "failed" if error or not epochs else "complete"
    options = TrainConfig.parse({**plan.fixed, **result.config})
    if plan.prune and state == "complete" and options.early_stop is None and options.max_steps is None:
        state = "pruned" if len(epochs) < options.epochs else state
    return Trial(number, dict(result.config), best, state, epochs, float(found.get("seconds", 0.0)), error)
