"""What works of fine-tuning have in common: equal updates, batches and rates, a proof first, and a seed a round.

What is compared first is a proof: all rows are one batch and nothing is dropped out, so that order and chance have no
part, and after some updates the scores must be equal. In the rounds each has a seed of its own, and the losses tell how
much was learned.
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
Scores = list[dict[str, float]]


@dataclass(frozen=True, slots=True)
class Job:
    """folder: of the checkpoint; sure: of the same without dropout. train, test: files of inputs with their labels, as
    `Setting.kept` writes them. updates: of a round, with `batch` rows each, at the rate `rate` after a tenth of
    warm-up. device: "cpu" or "cuda"."""

    folder: str
    sure: str
    train: str
    test: str
    updates: int
    batch: int
    rate: float
    device: str

    @property
    def rows(self) -> list[tuple[str, str]]:
        return [(item, label) for item, label in read(self.train)]

    @property
    def tested(self) -> tuple[list[str], list[str]]:
        items, labels = zip(*read(self.test), strict=True)
        return list(items), list(labels)


def learner(
    make: Callable[[bool, int], Any], train: Callable[[Any], Any], told: Callable[[Any], Scores], job: Job
) -> Ready:
    """make: gets whether it is for the proof, and a seed; gives what `train` trains, and `told` asks for the scores of
    the test's inputs afterwards."""
    labels = job.tested[1]

    def proof() -> Answer:
        made = make(True, 0)
        train(made)
        return _answer(told(made))

    def run(made: Any) -> Answer:
        start = time.perf_counter()
        train(made)
        seconds = time.perf_counter() - start
        return _answer(told(made), labels, seconds)

    seeds = itertools.count()
    return Ready(run, lambda: make(False, next(seeds)), proof)


def _answer(scores: Scores, labels: Sequence[str] = (), seconds: float | None = None) -> Answer:
    """labels, seconds: of a run that is timed, whose loss on these inputs is a figure of its own."""
    numbers = [[found[label] for label in LABELS] for found in scores]
    if seconds is None:
        return Answer(numbers=numbers)
    loss = sum(-math.log(max(found[label], 1e-12)) for found, label in zip(scores, labels, strict=True)) / len(labels)
    return Answer(numbers=numbers, figures={"seconds": seconds, "loss": loss})


def of_trainer(
    job: Job, load: Callable[[str], Any], rows: Sequence[Any], scores: Callable[[Any], Scores], collator: Any,
    **arguments: Any,
) -> Ready:  # fmt: skip
    """transformers' Trainer. load: a checkpoint's model. rows: what its data loader takes. scores: of the trained
    model, on the test's inputs. arguments: more of TrainingArguments."""
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

    return learner(make, lambda made: made.train(), lambda made: scores(made.model.eval()), job)


def some(rows: Sequence[Any], count: int) -> Any:
    """The first rows. A data set of torch has no slices."""
    return [rows[place] for place in range(count)]


def of_zoo(job: Job, task: str, **options: Any) -> Ready:
    """options: more of `finetune`."""
    import zoo

    rows, (items, _) = job.rows, job.tested

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

    def told(made: tuple[Any, dict[str, Any]]) -> Scores:
        return [{item.label: item.score for item in one.top} for one in made[0].predict(items)]

    return learner(make, train, told, job)


def labelled(names: Mapping[int, str], scores: Any) -> dict[str, float]:
    """A row of scores by the model's names."""
    return {names[place]: score for place, score in enumerate(scores.tolist())}
