"""`zoo.lint`: the known faults of data, before a minute is spent on training."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from zoo import tasks as zoo_tasks
from zoo.errors import DataError
from zoo.modalities.base import Encoder
from zoo.spec import AudioInput, ImageInput, ModelSpec, TextInput
from zoo.tasks.base import Task
from zoo.training.config import TrainConfig
from zoo.training.data import hold_out, read
from zoo.training.data.choose import facts, roles_of
from zoo.training.data.rows import Rows
from zoo.training.lint.fingerprints import fingerprints
from zoo.training.lint.inputs import Place, check_images, check_recordings, check_tags, check_texts, refused
from zoo.training.lint.pairs import check_pairs
from zoo.training.lint.pictures import check_masks, check_objects
from zoo.training.lint.report import Finding, LintReport
from zoo.training.lint.tables import check_equal, check_labels
from zoo.training.lint.written import check_answers, check_written

__all__ = ["Finding", "LintReport", "lint", "lint_before"]

# Rows whose inputs are opened before training; all of them by `zoo.lint`.
_SAMPLE = 2_000
_PICTURES = 300  # of those, masks and images with boxes, which are decoded
_MEDIA = ("image", "audio")


class HasEncoder(Protocol):
    """A `zoo.Model`, as far as it is needed here."""

    @property
    def spec(self) -> ModelSpec: ...
    @property
    def task(self) -> Task: ...
    @property
    def encoder(self) -> Encoder: ...


def lint(
    train: Any,
    val: Any = None,
    *,
    task: str | None = None,
    model: HasEncoder | None = None,
    columns: Mapping[str, str] | None = None,
    labels: Sequence[str] = (),
) -> LintReport:
    """Look at data before training on it. Nothing is changed, and nothing is raised for what is found.

    train, val: data as for `finetune` (docs/data.md); val also a fraction to hold out, or None.
    task: what the data is for, where its columns leave a choice.
    model: a `zoo.Model`; with it, lengths, sampling rates, image sizes and transcripts are measured against it.
    columns: what the data calls the task's columns. labels: the model's own to be; those of the data when empty.

    Looked for: rows that can't be read, empty and repeated rows, rows with one input and two targets, rows in both
    splits, labels that train lacks, one label alone, uneven and rare labels, labels written in two ways; faults of
    pairs of texts, of answers, summaries and translations, of boxes and of masks; with a model also texts that are
    cut, other sampling rates, small images, and transcripts that CTC can't align. docs/lint.md lists them all.
    The report prints as a table; `report.ok` says whether training can be right. Raises DataError for data that can't
    be opened at all, ConfigError for options.
    """
    names = (task,) if task is not None else model.spec.tasks if model is not None else tuple(zoo_tasks.TASKS)
    dataset = read(train, tasks=names, task=task, columns=columns, on_error="skip")
    rows, val_rows = hold_out(dataset, val, seed=0, columns=columns, on_error="skip")
    measured = _task_for(dataset.task, model, labels, rows)
    found = list(_look(dataset.task, rows, val_rows, labels, measured, model, sample=None, skip=False))
    return _report(dataset.task, rows, val_rows, found)


def lint_before(task: Task, encoder: Encoder, train: Rows, val: Rows | None, config: TrainConfig) -> None:
    """What `finetune` looks at: the same, with the inputs of at most some thousand rows opened.

    What is found is shown on standard error unless `config.progress` is off. Raises DataError for errors.
    """
    skip = config.on_error == "skip"
    parts = _Parts(task.spec, task, encoder)
    found = list(_look(task.name, train, val, task.labels, task, parts, sample=_SAMPLE, skip=skip))
    report = _report(task.name, train, val, found)
    if config.progress and (report.warnings or report.errors):
        print(f"{report}\n", file=sys.stderr, flush=True)
    report.raise_for_errors()


class _Parts:
    def __init__(self, spec: ModelSpec, task: Task, encoder: Encoder) -> None:
        self.spec, self.task, self.encoder = spec, task, encoder


def _task_for(name: str, model: HasEncoder | None, labels: Sequence[str], rows: Rows) -> Task | None:
    """The task as it would be after fine-tuning: with the data's labels where the model has none that fit."""
    if model is None:
        return None
    if model.task.name == name and (model.task.labels or not model.task.needs_labels):
        return model.task
    kind = zoo_tasks.get(name, model.spec)
    return zoo_tasks.make(name, model.spec, tuple(labels) or kind.labels_of(rows.targets()))


def _look(
    name: str,
    train: Rows,
    val: Rows | None,
    labels: Sequence[str],
    task: Task | None,
    model: HasEncoder | None,
    *,
    sample: int | None,
    skip: bool,
) -> Iterator[Finding]:
    """sample: how many rows' inputs are opened; None for all. skip: rows that can't be read are to be left out."""
    roles = roles_of(name)
    yield from refused([*train.skipped, *(val.skipped if val is not None else ())], skip=skip)
    if train.target_role in ("label", "labels", "tags", "objects") and _discrete(train):
        known = labels if sample is None else ()
        yield from check_labels(train, val, known)
    if roles[-1] == "tags":
        yield from check_tags(train)
    places = [Place(rows, i) for rows in (train, val) if rows is not None for i in _numbers(len(rows), sample)]
    if task is not None and model is not None:
        yield from _inputs(places, task, model, skip=skip)
    yield from _targets(roles[-1], name, places, train, labels, task, model, sample=sample, skip=skip)
    if sample is None or len(train) <= 20 * sample:
        roles_of_input = facts(name)
        paired = "text_pair" in (*roles_of_input.inputs, *roles_of_input.optional)
        yield from _equal(train, val, media=roles[0] in _MEDIA, paired=paired)


def _targets(
    role: str,
    name: str,
    places: list[Place],
    train: Rows,
    labels: Sequence[str],
    task: Task | None,
    model: HasEncoder | None,
    *,
    sample: int | None,
    skip: bool,
) -> Iterator[Finding]:
    """What targets say beside their inputs. role: the usual column of the target."""
    encoder = model.encoder if model is not None else None
    if role == "answers":
        yield from check_answers(places, task, encoder, skip=skip)
    elif role in ("summary", "translation"):
        yield from check_written(places, name, task, encoder)
    elif role in ("objects", "mask"):
        if sample is not None:
            places = [places[i] for i in _numbers(len(places), _PICTURES)]
        if role == "objects":
            yield from check_objects(places, skip=skip)
        else:
            known = labels or (task.labels if task is not None else ())
            yield from check_masks(places, train, known, skip=skip)


def _inputs(places: list[Place], task: Task, model: HasEncoder, *, skip: bool) -> Iterator[Finding]:
    given = model.spec.input
    if isinstance(given, TextInput):
        yield from check_texts(places, task, model.encoder, skip=skip)
    elif isinstance(given, ImageInput):
        yield from check_images(places, model.spec, skip=skip)
    elif isinstance(given, AudioInput):
        yield from check_recordings(places, task, given.sampling_rate, skip=skip)


def _equal(train: Rows, val: Rows | None, *, media: bool, paired: bool) -> Iterator[Finding]:
    every = [rows for rows in (train, val) if rows is not None]
    try:
        inputs = [given for rows in every for given in rows.inputs()]
        yield from check_equal(train, val, fingerprints(inputs, files=media), train.targets())
        if paired:
            yield from check_pairs(train, val, inputs)
    except DataError:
        return  # A row that can't be read is reported where it is read.


def _discrete(rows: Rows) -> bool:
    """Whether targets are labels, and not numbers to be estimated."""
    first = rows.select(np.arange(min(len(rows), 1000))).targets()
    return not any(isinstance(target, float) and not target.is_integer() for target in first)


def _numbers(count: int, sample: int | None) -> list[int]:
    """Which rows are opened: all, or `sample` of them at equal distances."""
    if sample is None or count <= sample:
        return list(range(count))
    return [int(i) for i in np.linspace(0, count - 1, sample).round()]


def _report(name: str, train: Rows, val: Rows | None, found: Sequence[Finding]) -> LintReport:
    return LintReport(name, len(train), len(val) if val is not None else None, tuple(found))
