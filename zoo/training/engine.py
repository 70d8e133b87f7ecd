"""One run of fine-tuning: our own loop on accelerate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, NoReturn, cast, final

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from zoo.errors import ConfigError, DataError, TrainingError, TrainingInterrupted
from zoo.inference import Forward
from zoo.modalities.base import Encoder
from zoo.report import Report
from zoo.spec import MelInput
from zoo.tasks.base import Task
from zoo.training import batching, encoding, evaluation, methods, optim, specaugment
from zoo.training.augment import make_augment
from zoo.training.averaging import Average
from zoo.training.config import TrainConfig
from zoo.training.data.rows import Rows
from zoo.training.documents import evaluated
from zoo.training.interrupt import Interrupts
from zoo.training.loading import Loader, MicroBatch, Reading, worker_count
from zoo.training.lossoptions import classes_of, loss_options
from zoo.training.machine import Machine
from zoo.training.masking import make_masking
from zoo.training.mixing import mixed
from zoo.training.progress import Display, Silent, display
from zoo.training.rates import learning_rate
from zoo.training.saving import Identity, Saver
from zoo.training.schedules import Schedule
from zoo.training.state import RunState
from zoo.training.stepping import Parts, Stepper
from zoo.training.trackers import Trackers
from zoo.training.unfreezing import Unfreezing
from zoo.training.watch import StepLoss, StepNote, Watch

log = logging.getLogger("zoo.training")

_MANY = 20_000  # rows that take long enough to read for a line about it

OnEpoch = Callable[[dict[str, Any]], None]
OnStep = Callable[[StepLoss], None]


class _StopNow(Exception):
    """A signal came during validation."""


@final
class Run:
    """One run of `train`: what it works with, and where it stands."""

    on_epoch: OnEpoch | None = None
    on_step: OnStep | None = None
    writer: Forward | None = None

    def __init__(
        self,
        machine: Machine,
        module: nn.Module,
        task: Task,
        encoder: Encoder,
        train: Rows,
        val: Rows | None,
        config: TrainConfig,
    ) -> None:
        self.machine, self.module, self.task, self.encoder = machine, module, task, encoder
        self.rows, self.config, self.interrupts = train, config, Interrupts()
        self.val = evaluated(task, val) if val is not None else None
        self.kind = task.spec.input.kind
        self.accelerated = machine.device.type != "cpu"
        self.display: Display = display(config.progress) if machine.main else Silent()
        # Rows that reading the data has left out already were rows of the user's too.
        self.state = RunState(skipped=[*train.skipped, *(val.skipped if val is not None else ())])
        self._prepare_data()
        self._prepare_optimiser()
        self._best: dict[str, Tensor] | None = None
        # Of the last epoch, and of the best one once that has been judged.
        self._found: Report | None = None
        self._report: Report | None = None
        self._begun = time.perf_counter()
        self._stop = False

    def _prepare_data(self) -> None:
        config, spec = self.config, self.task.spec
        if self.task.joint and (config.gradient_accumulation > 1 or self.machine.world > 1):
            raise ConfigError(
                f"{self.task.name} learns by contrast within a batch, which accumulated batches or several processes "
                "would cut into pieces. Leave gradient_accumulation at 1, and give the batch_size that is meant."
            )
        if len(self.rows) >= _MANY:
            self.display.say(f"Reading {len(self.rows):,} rows.")
        augment = make_masking(self.task, config) or make_augment(spec, self.task.name, config.augment, config.seed)
        if config.spec_augment and isinstance(spec.input, MelInput):
            augment = specaugment.SpectrogramMasks(spec.input, config.seed)
        self.items = encoding.make_items(
            self.rows, self.encoder, self.task, self._bad, augment, seed=config.seed, packing=config.packing
        )
        if not len(self.items):
            raise DataError(f"None of the {len(self.rows)} rows can be used. The first: {self.state.skipped[0]}")
        self.items = mixed(self.items, self.task, config)
        micro = config.batch_size
        if micro == "auto":
            micro = batching.heuristic(self.kind, len(self.items), accelerated=self.accelerated)
        self.state.micro = micro
        self.effective = micro * config.gradient_accumulation * self.machine.world
        steps = config.epochs * ceil(len(self.items) / self.effective)
        self.total = min(steps, config.max_steps or steps)
        self.adapted: methods.Adapted | None = cast(Any, self.module).adapted
        if self.adapted is not None:
            self.adapted.start(self.total)
        self.options = loss_options(config, self.task, self.items)
        self.classes = classes_of(self.task, self.items) if config.sampler == "balanced" else None
        reading = Reading(self.items, self.encoder, self.task, self.options)
        workers = worker_count(config.num_workers, self.kind, accelerated=self.accelerated)
        self.loader = Loader(reading, workers=workers, pin=self.machine.device.type == "cuda")
        self.watch = Watch(self.machine.device, self.rows.where)

    def _prepare_optimiser(self) -> None:
        config = self.config
        self.optimizer = optim.make_optimizer(self.module, config, self.kind)
        peak = learning_rate(config, self.kind)
        self.schedule = Schedule(self.optimizer, config, self.total, peak)
        self.network, prepared = self.machine.prepare(self.module, self.optimizer, compiled=config.compile)
        self.average = Average(self.module, config.ema_decay) if config.ema_decay is not None else None
        parts = Parts(
            self.machine, self.network, prepared, self.schedule, self.task, self.options, config.max_grad_norm,
            cast(Any, self.module).net, self.adapted, self.average,
        )  # fmt: skip
        self.stepper = Stepper(parts, self.state.micro, shrinks=config.batch_size == "auto" and not self.task.joint)
        share = config.gradual_unfreezing
        self.unfreezing = Unfreezing(self.module, share, self.total) if share is not None else None
        self.saver: Saver | None = None
        if config.output_dir is not None:
            identity = Identity(config, self.task, self.rows, self.items, self.machine, self.effective)
            self.saver = Saver(
                config.output_dir, self.machine, self.module, self.optimizer, self.schedule, identity, self.average
            )

    def fit(self) -> list[dict[str, Any]]:
        """All epochs that are left; see `train`."""
        if self.config.resume and self.saver is not None:
            self._resume(self.saver)
        with self._shown():
            try:
                while not self.state.finished:
                    self._epoch()
            except TrainingError:
                self._restore_best()
                raise
            self._restore_best()
            self._report_skipped()
            if self._report is not None:
                self.trackers.report(replace(self._report, history=tuple(self.state.history)), self.state.step)
        return self.state.history

    @contextmanager
    def _shown(self) -> Iterator[None]:
        on = bool(self.config.log)
        options, folder = self.config.model_dump(), self.config.output_dir
        trackers = Trackers(self.machine.accelerator, self.config.experiment, options, folder, on=on)
        with ExitStack() as stack:
            stack.callback(self.loader.close)
            stack.callback(trackers.close)
            stack.callback(self.display.close)
            self.display.start(self.config.epochs, self.total, self.state.step)
            self.trackers = trackers
            yield

    # The loop.

    def _epoch(self) -> None:
        self._begun = time.perf_counter()
        self.network.train()
        for batches in self._batches():
            self._step(batches)
        self._look(self.watch.drain())
        self._measure_time()
        try:
            record = self._record()
        except _StopNow:
            self._interrupted()
        self._close_epoch(record)

    def _batches(self) -> Iterator[list[MicroBatch]]:
        """This process's forward passes of the steps that are left of the epoch."""
        state, machine = self.state, self.machine
        plan = batching.steps(
            self.items.lengths, self.effective, seed=self.config.seed, epoch=state.epoch, classes=self.classes
        )
        left = plan[state.done : state.done + self.total - state.step]
        shares = [batching.share(step, rank=machine.rank, world=machine.world, size=self.stepper.size) for step in left]
        return self.loader.epoch(state.epoch, shares)

    def _step(self, batches: list[MicroBatch]) -> None:
        state = self.state
        for batch in batches:
            for row, error in batch.bad:
                self._bad(row, error)
        if self.unfreezing is not None:
            self.unfreezing.at(state.step)
        values, passes = self.stepper.backward(batches, stop=self.interrupts.received is not None)
        samples = sum(map(len, batches)) * self.machine.world
        note = StepNote(state.epoch + 1, state.step + 1, [batch.rows for batch in passes], self.schedule.rate, samples)
        # Before the weights are touched: on the CPU a bad loss is known by now.
        self._look(self.watch.push(note, values))
        self.stepper.apply(state.step + 1)
        state.rate = note.rate
        state.step += 1
        state.done += 1
        state.samples += samples
        self._between_steps()

    def _between_steps(self) -> None:
        if self._stop or (self.machine.world == 1 and self.interrupts.received):
            self._interrupted()
        every = self.config.checkpoint_steps
        if every and self.state.step % every == 0:
            self._save()

    def _look(self, seen: list[StepLoss]) -> None:
        for loss in seen:
            self.state.loss += loss.loss
            self.state.weight += loss.weight
            self._stop = self._stop or (loss.stop and self.machine.world > 1)
            self.display.step(loss)
            self.trackers.step(loss)
            if self.on_step is not None:
                self.on_step(loss)

    def _record(self) -> dict[str, Any]:
        """The epoch in numbers, the same on every process."""
        state = self.state
        record: dict[str, Any] = {"epoch": state.epoch + 1, "step": state.step}
        record["train_loss"] = state.loss / state.weight if state.weight else float("nan")
        if self.val is not None:
            found = self._validate(self.val)
            self._found = found.report
            record["val_loss"] = found.loss
            record.update(found.report.metrics)
            for text in found.report.skipped:
                self._skip(text)
        record["learning_rate"] = state.rate
        record["seconds"] = state.seconds
        record["samples_per_second"] = state.samples / max(state.seconds, 1e-9)
        if state.skipped:
            record["skipped"] = list(state.skipped)
        agreed: dict[str, Any] = self.machine.agree(record)
        return agreed

    def _validate(self, rows: Rows) -> evaluation.Validation:
        def forward() -> evaluation.MeasuredForward:
            return evaluation.MeasuredForward(
                self.module, self.task, self.machine.device, options=self.options, autocast=self.machine.autocast,
                writer=self.writer,
            )  # fmt: skip

        def listen() -> None:
            if self.interrupts.received and self.machine.world == 1:
                raise _StopNow

        average = self.average.applied() if self.average is not None else nullcontext()
        with average, evaluation.evaluating(self.module):
            return evaluation.validate(
                forward, self.task, self.encoder, rows, size=2 * self.stepper.size, accelerated=self.accelerated,
                on_error="return" if self.config.on_error == "skip" else "raise", each=listen,
            )  # fmt: skip

    def _close_epoch(self, record: dict[str, Any]) -> None:
        state, metric, higher = self.state, None, True
        state.history.append(record)
        self._report = self._report or self._found
        if self.val is not None:
            metric, higher = self.task.judged_by(record)
        if metric is not None:
            self.schedule.judge(record[metric], higher=higher)
        if metric is not None and state.judge(record[metric], higher=higher):
            self._report = self._found
            weights = self.module.state_dict() if self.average is None else self.average.state()
            self._best = {name: tensor.detach().cpu().clone() for name, tensor in weights.items()}
        state.close_epoch()
        patience = self.config.early_stop
        state.finished = state.step >= self.total or (patience is not None and state.stale >= patience)
        self._save()
        self.display.epoch(record, metric)
        self.trackers.epoch(record)
        if self.on_epoch is not None:
            self.on_epoch(dict(record))

    # Checkpoints.

    def _save(self) -> Path | None:
        """The state at the end of a step, once everything in it is known to be finite."""
        self._look(self.watch.drain())
        self._measure_time()
        if not _finite(self.module):
            raise TrainingError(
                f"The weights are not finite after step {self.state.step} of {self.total}; they were not saved. "
                "Lower learning_rate."
            )
        self.state.micro = self.stepper.size
        return self.saver.save(self.state) if self.saver is not None else None

    def _resume(self, saver: Saver) -> None:
        found = saver.restore()
        if found is None:
            self.display.say(f"No checkpoint to resume from in {saver.checkpoints.folder}; starting afresh.")
            return
        self.state, self._best, path = found
        self.stepper.size = self.state.micro
        self.display.say(f"Resumed from {path}: epoch {self.state.epoch + 1}, step {self.state.step}.")

    def _interrupted(self) -> NoReturn:
        place = self._save()
        where = f"epoch {self.state.epoch + 1}, step {self.state.step}"
        what = f"Interrupted by {self.interrupts.received or 'a signal to another process'}"
        if place is None:
            raise TrainingInterrupted(f"{what} in {where}. Nothing was saved: no output_dir was given.")
        raise TrainingInterrupted(f"{what} in {where}. Saved in {place}; resume=True goes on from there.")

    def _restore_best(self) -> None:
        if self._best is not None:
            self.module.load_state_dict(self._best)
        elif self.average is not None:
            self.average.apply()

    # Small things.

    def _measure_time(self) -> None:
        now = time.perf_counter()
        self.state.seconds += now - self._begun
        self._begun = now

    def _bad(self, row: int, error: DataError) -> None:
        named = encoding.located(error, self.rows, row)
        if self.config.on_error == "raise":
            raise named from error
        self._skip(str(named))

    def _skip(self, text: str) -> None:
        if text not in self.state.skipped:
            self.state.skipped.append(text)

    def _report_skipped(self) -> None:
        skipped = self.state.skipped
        if self.machine.world > 1:
            skipped = list(dict.fromkeys(gather_object(skipped)))
        if skipped and self.machine.main:
            listed = "\n".join(f"  {text}" for text in skipped)
            log.warning("%d rows could not be read and were left out:\n%s", len(skipped), listed)
            self.display.say(f"{len(skipped)} rows could not be read and were left out:\n{listed}")


def _finite(module: nn.Module) -> bool:
    # One answer from the device for all of them.
    return bool(torch.stack([parameter.isfinite().all() for parameter in module.parameters()]).all())
