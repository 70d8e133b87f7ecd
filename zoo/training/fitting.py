"""Fine-tuning a module in place: what a run needs is checked and put around it, and taken off again."""

from __future__ import annotations

from typing import Any

from torch import nn

from zoo.errors import ConfigError, DataError
from zoo.inference import Forward
from zoo.modalities.base import Encoder
from zoo.tasks.base import Task
from zoo.training import methods, optim, optimizers, specaugment
from zoo.training.config import TrainConfig
from zoo.training.data.rows import Rows
from zoo.training.engine import OnEpoch, OnStep, Run
from zoo.training.machine import running
from zoo.training.trackers import check_installed


def train(
    module: nn.Module,
    task: Task,
    encoder: Encoder,
    train: Rows,
    val: Rows | None,
    config: TrainConfig,
    *,
    on_epoch: OnEpoch | None = None,
    on_step: OnStep | None = None,
    writer: Forward | None = None,
) -> list[dict[str, Any]]:
    """Fine-tune a module in place; it ends with the weights of the epoch that was best on `val`, or of the last.

    module: a ZooModule, trained on the device where it is (under a launcher: each process on its own).
    on_epoch: called with each epoch's record, after its checkpoint; may raise to end the run.
    on_step: called with each step's loss once that is known.
    writer: for a task that writes texts, the forward function that generates them for validation.

    Returns one record an epoch: epoch, step, train_loss, val_loss and the task's metrics (with `val`), learning_rate,
    seconds, samples_per_second (both of training alone), and `skipped`, rows that could not be read, if any.

    Raises ConfigError, DataError; TrainingError for a loss that is not finite or too little memory; CheckpointError
    for a checkpoint of another run; TrainingInterrupted after SIGINT or SIGTERM, once the checkpoint is written.
    """
    _check(train, val, config)
    check_installed(config.log)
    optimizers.check_installed(config)
    methods.adapt(module, config)
    specaugment.check(task, config)
    with optim.trainable(module, config), specaugment.in_module(module, config), running(module, config) as machine:
        run = Run(machine, module, task, encoder, train, val, config)
        run.on_epoch, run.on_step, run.writer = on_epoch, on_step, writer
        # Only now: while data is being read there is nothing to save, and a signal may end the process.
        with run.interrupts:
            return run.fit()


def _check(train: Rows, val: Rows | None, config: TrainConfig) -> None:
    if not len(train):
        raise DataError("There are no rows to train on.")
    if val is not None and not len(val):
        raise DataError("The validation data has no rows. Give val=None to train without.")
    if config.early_stop is not None and val is None:
        raise ConfigError("early_stop looks at the metric on validation data; give val=, or leave early_stop out.")
    if config.scheduler == "plateau" and val is None:
        raise ConfigError(
            'scheduler="plateau" looks at the metric on validation data; give val=, or scheduler="cosine".'
        )
