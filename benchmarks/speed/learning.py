"""What works of fine-tuning have in common: equal updates, batches and rates, a proof first, and a seed a round.

What is compared first is a proof: all rows are one batch and nothing is dropped out, so that order and chance have no
part, and after some updates the scores must be equal. In the rounds each has a seed of its own, and the losses tell how
much was learned; where there is a goal, the updates until the held-out loss was at it, too.
"""

from __future__ import annotations

import itertools
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.speed.answers import Answer
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import read

UPDATES_OF_PROOF = 6
_EVERY, _WATCHED = 5, 32  # updates between two looks at a loss, and the inputs that it is of
Scores = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Job:
    """folder: of the checkpoint; sure: of the same without dropout. train, test: files of inputs with their labels, as
    `Setting.kept` writes them. updates: of a round, with `batch` rows each, at the rate `rate` after a tenth of
    warm-up. device: "cpu" or "cuda". goal: a loss on the test's inputs, looked for after every five updates."""

    folder: str
    sure: str
    train: str
    test: str
    updates: int
    batch: int
    rate: float
    device: str
    goal: float | None = None

    @property
    def rows(self) -> list[tuple[str, str]]:
        return [(item, label) for item, label in read(self.train)]

    @property
    def tested(self) -> tuple[list[str], list[str]]:
        items, labels = zip(*read(self.test), strict=True)
        return list(items), list(labels)


@dataclass(frozen=True, slots=True)
class Learner:
    """make: gets whether it is for the proof, and a seed; gives what `train` trains. network: the torch module of it.
    told: its scores of some inputs."""

    make: Callable[[bool, int], Any]
    train: Callable[[Any], Any]
    network: Callable[[Any], Any]
    told: Callable[[Any, Sequence[str]], Scores]

    def ready(self, job: Job) -> Ready:
        items, labels = job.tested

        def proof() -> Answer:
            made = self.make(True, 0)
            self.train(made)
            return Answer(numbers=_numbers(self.told(made, items)))

        def run(made: Any) -> Answer:
            some, theirs = items[:_WATCHED], labels[:_WATCHED]
            watch = _Watch(self.network(made), lambda: _loss(self.told(made, some), theirs), job)
            start = time.perf_counter()
            with watch:
                self.train(made)
            figures = {"seconds": time.perf_counter() - start - watch.seconds}
            if job.goal is not None:
                figures["updates"] = watch.reached or job.updates + _EVERY
            scores = self.told(made, items)
            return Answer(numbers=_numbers(scores), figures={**figures, "loss": _loss(scores, labels)})

        seeds = itertools.count()
        return Ready(run, lambda: self.make(False, next(seeds)), proof)


class _Watch:
    """While it is open, the loss after every few steps of any optimizer. seconds: what that took.

    reached: the updates after which it was first at the goal; 0 where it was not.
    """

    def __init__(self, network: Any, loss: Callable[[], float], job: Job) -> None:
        self.seconds, self.reached = 0.0, 0
        self._network, self._loss, self._goal = network, loss, job.goal
        self._steps = 0

    def __enter__(self) -> None:
        from torch.optim.optimizer import register_optimizer_step_post_hook

        self._hook = register_optimizer_step_post_hook(lambda *_: self._look())

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _look(self) -> None:
        self._steps += 1
        if self._goal is None or self.reached or self._steps % _EVERY:
            return
        start = time.perf_counter()
        self._network.eval()
        if self._loss() <= self._goal:
            self.reached = self._steps
        self._network.train()
        self.seconds += time.perf_counter() - start


def _numbers(scores: Scores) -> list[list[float]]:
    return [[found[label] for label in LABELS] for found in scores]


def _loss(scores: Scores, labels: Sequence[str]) -> float:
    return sum(-math.log(max(found[label], 1e-12)) for found, label in zip(scores, labels, strict=True)) / len(labels)


def of_trainer(
    job: Job, load: Callable[[str], Any], rows: Sequence[Any], scores: Callable[[Any, Sequence[str]], Scores],
    collator: Any, **arguments: Any,
) -> Ready:  # fmt: skip
    """transformers' Trainer. load: a checkpoint's model. rows: what its data loader takes. scores: of the trained
    model, on some inputs. arguments: more of TrainingArguments."""
    from transformers import Trainer, TrainingArguments

    def make(sure: bool, seed: int) -> Any:
        return Trainer(
            model=load(job.sure if sure else job.folder),
            args=TrainingArguments(
                output_dir=tempfile.mkdtemp(), max_steps=UPDATES_OF_PROOF if sure else job.updates,
                per_device_train_batch_size=job.batch, learning_rate=job.rate, lr_scheduler_type="linear",
                warmup_steps=job.updates // 10, weight_decay=0.01, save_strategy="no", report_to=[], disable_tqdm=True,
                seed=seed, use_cpu=job.device == "cpu", **arguments,
            ),
            train_dataset=some(rows, job.batch) if sure else rows, data_collator=collator,
        )  # fmt: skip

    return Learner(
        make, lambda made: made.train(), lambda made: made.model, lambda made, items: scores(made.model.eval(), items)
    ).ready(job)


def some(rows: Sequence[Any], count: int) -> Any:
    """The first rows. A data set of torch has no slices."""
    return [rows[place] for place in range(count)]


def of_zoo(job: Job, task: str, **options: Any) -> Ready:
    """options: more of `finetune`."""
    import zoo

    rows = job.rows

    def make(sure: bool, seed: int) -> tuple[Any, dict[str, Any]]:
        model = zoo.load(job.sure if sure else job.folder, task=task, device=job.device)
        steps = UPDATES_OF_PROOF if sure else job.updates
        return model, {"train": rows[: job.batch] if sure else rows, "max_steps": steps, "seed": seed}

    def train(made: tuple[Any, dict[str, Any]]) -> None:
        model, chosen = made
        model.finetune(
            val=None, epochs=1000, batch_size=job.batch, learning_rate=job.rate, scheduler="linear",
            warmup_steps=job.updates // 10, weight_decay=0.01, lint=False, progress=False, **chosen, **options,
        )  # fmt: skip

    def told(made: tuple[Any, dict[str, Any]], items: Sequence[str]) -> Scores:
        return [{item.label: item.score for item in one.top} for one in made[0].predict(list(items))]

    return Learner(make, train, lambda made: made[0].module, told).ready(job)


def labelled(names: Mapping[int, str], scores: Any) -> dict[str, float]:
    """A row of scores by the model's names."""
    return {names[place]: score for place, score in enumerate(scores.tolist())}
