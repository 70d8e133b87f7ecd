"""Search over the options of fine-tuning: on this machine by Optuna, on a cluster by Ray Tune."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo import tasks
from zoo.errors import ConfigError
from zoo.training.config import TrainConfig
from zoo.training.data.rows import Rows
from zoo.training.search.space import Space, parse_space
from zoo.training.search.study import Study, Trial

__all__ = ["Attempt", "Plan", "Study", "Trial", "make_plan", "parse_space", "search"]

OnEpoch = Callable[[dict[str, Any]], None]
Attempt = Callable[[Mapping[str, Any], OnEpoch], None]
"""Fine-tune a fresh copy with these options; the callback hears of each epoch, and may raise to end the run."""


@dataclass(frozen=True)
class Plan:
    """What a search is. facts: what makes it another search, for the study file.

    folder: where the study file is kept, None for none. timeout: seconds, after which no new trial begins.
    """

    space: Space
    fixed: Mapping[str, Any]
    metric: str
    higher_is_better: bool
    trials: int
    seed: int
    prune: bool
    timeout: float | None
    folder: Path | None
    progress: bool
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        if isinstance(self.trials, bool) or not isinstance(self.trials, int) or self.trials < 1:
            raise ConfigError(f"trials is {self.trials!r}; give a positive whole number.")
        if self.timeout is not None and not self.timeout > 0:
            raise ConfigError(f"timeout is {self.timeout!r}; give seconds, or None for no limit.")


def make_plan(
    space: Space,
    fixed: Mapping[str, Any],
    train: Rows,
    val: Rows | None,
    model: str,
    *,
    trials: int,
    metric: str | None,
    prune: bool,
    timeout: float | None,
    folder: str | Path | None,
) -> Plan:
    """A plan for these rows, options as in `Model.search`. Raises ConfigError."""
    if val is None:
        raise ConfigError("search() compares trials on validation data; give val=.")
    kind, config = tasks.get(train.task), TrainConfig.parse(fixed)
    chosen = metric or kind.metric
    facts = {
        "model": model, "task": train.task, "metric": chosen, "rows": len(train), "validation rows": len(val),
        "space": {name: repr(dimension) for name, dimension in space.items()}, "options": dict(fixed),
    }  # fmt: skip
    return Plan(
        space=space, fixed=fixed, metric=chosen, trials=trials, seed=config.seed, prune=prune, timeout=timeout,
        higher_is_better=kind.higher_is_better if chosen == kind.metric else not chosen.endswith("loss"),
        folder=Path(folder) if folder is not None else None, progress=config.progress, facts=facts,
    )  # fmt: skip


def search(attempt: Attempt, plan: Plan, *, cluster: str | None, gpu: bool) -> Study:
    """Run the trials that are left of a plan. cluster: the address of a Ray cluster; gpu: each trial needs one."""
    if cluster is not None:
        from zoo.training.search.cluster import run_on_cluster

        return run_on_cluster(attempt, plan, cluster, gpu=gpu)
    from zoo.training.search.local import run_here

    return run_here(attempt, plan)
