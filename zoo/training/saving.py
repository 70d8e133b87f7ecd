"""A run's state in checkpoints, and back: weights, optimiser, schedule, scaler, generators, position."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn
from torch.optim import Optimizer

from zoo.errors import CheckpointError
from zoo.tasks.base import Task
from zoo.training import encoding
from zoo.training.averaging import Average
from zoo.training.checkpoint import Checkpoint, Checkpoints
from zoo.training.config import TrainConfig
from zoo.training.data.rows import Rows
from zoo.training.encoding import Items
from zoo.training.machine import Machine, random_state, set_random_state
from zoo.training.schedules import Schedule
from zoo.training.state import RunState

log = logging.getLogger("zoo.training")

Weights = dict[str, Tensor]

# They change where a run is written or shown, or when it ends, and not which way it takes.
_FREE = {"output_dir", "resume", "log", "progress", "experiment", "num_workers", "checkpoint_steps", "early_stop",
         "on_error", "lint", "precision", "tf32"}  # fmt: skip


@final
class Saver:
    """Writes and reads the checkpoints of one run in `output_dir/checkpoints`."""

    def __init__(
        self, folder: Path, machine: Machine, module: nn.Module, optimizer: Optimizer, schedule: Schedule,
        identity: Identity, average: Average | None = None,
    ) -> None:  # fmt: skip
        self.checkpoints = Checkpoints(folder / "checkpoints", main=machine.main, everyone=machine.everyone)
        self._machine = machine
        self._module: Any = module
        self._optimizer = optimizer
        self._schedule = schedule
        self._identity = identity
        self._average = average

    def save(self, state: RunState) -> Path:
        scaler = self._machine.accelerator.scaler
        parts = {
            "model": self._module.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state(),
            "method": self._module.adapted.state() if self._module.adapted is not None else {},
            "scaler": scaler.state_dict() if scaler is not None else {},
        }
        if self._average is not None:
            parts["average"] = self._average.state()
        own = {f"random-{self._machine.rank}": random_state()}
        meta = {"run": self._identity.facts, "state": state.to_json()}
        return self.checkpoints.write(state.step, parts, own, meta, best=state.best_step)

    def restore(self) -> tuple[RunState, Weights | None, Path] | None:
        """Put everything where the newest intact checkpoint has it. Returns the state, the best weights so far,
        and the folder; or None when there is no checkpoint. Raises CheckpointError for one of another run."""
        found = self.checkpoints.newest(self._identity.facts)
        if found is None:
            return None
        state = RunState.from_json(found.meta["state"])
        self._module.load_state_dict(found.load("model"))
        self._optimizer.load_state_dict(found.load("optimizer"))
        self._schedule.load_state(found.load("schedule"))
        if self._module.adapted is not None:
            self._module.adapted.load_state(found.load("method"))
        if self._machine.accelerator.scaler is not None:
            self._machine.accelerator.scaler.load_state_dict(found.load("scaler"))
        if self._average is not None:
            self._average.load_state(found.load("average"))
        set_random_state(found.load(f"random-{self._machine.rank}"))
        return state, self._best(found, state), found.path

    def _best(self, found: Checkpoint, state: RunState) -> Weights | None:
        if state.best_step is None:
            return None
        try:
            best = found if state.best_step == found.step else self.checkpoints.at(state.best_step)
        except CheckpointError as error:
            log.warning("%s It held the best weights so far; later epochs are compared with each other alone.", error)
            state.best_step = state.best_value = None
            return None
        weights: Weights = best.load("model" if self._average is None else "average")
        return weights


@final
class Identity:
    """What makes another run: the next step would not be that of the one that was interrupted."""

    def __init__(
        self, config: TrainConfig, task: Task, rows: Rows, items: Items, machine: Machine, effective: int
    ) -> None:
        self._config = config
        self._task = task
        self._rows = rows
        self._items = items
        self._machine = machine
        self._effective = effective

    @cached_property
    def facts(self) -> Mapping[str, Any]:
        data = encoding.digest(self._rows, self._items, text=self._task.spec.input.kind in ("text", "tabular"))
        return {
            **self._config.model_dump(mode="json", exclude=_FREE),
            "model": self._task.spec.name,
            "task": self._task.name,
            "labels": list(self._task.labels),
            "rows": len(self._rows),
            "data": data[:16],
            "precision": self._machine.precision,
            "processes": self._machine.world,
            "effective batch": self._effective,
        }
