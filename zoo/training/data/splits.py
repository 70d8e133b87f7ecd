"""Rows apart for training and for validation."""

from __future__ import annotations

import numbers
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from zoo import tasks
from zoo.errors import ConfigError, DataError
from zoo.training.data.checks import labels_of
from zoo.training.data.choose import OnError
from zoo.training.data.kinds import ROLES
from zoo.training.data.reading import read
from zoo.training.data.rows import Dataset, Index, Rows


def hold_out(
    dataset: Dataset,
    val: Any,
    *,
    seed: int,
    columns: Mapping[str, str] | None = None,
    on_error: OnError = "raise",
) -> tuple[Rows, Rows | None]:
    """The rows to train on, and those to validate on.

    val: data in any form; a fraction, which is held out (stratified by label for classification) unless the data has
        a validation split of its own; or None for no validation.
    """
    train = dataset.splits["train"]
    if val is None:
        return train, None
    if not isinstance(val, numbers.Real):
        said = {role: name for name, role in ROLES.items()}.get(train.target_role or "")
        given = read(
            val, tasks=(dataset.task,), task=dataset.task, columns=columns, on_error=on_error, problem_type=said
        )
        return train, given.splits.get("val", given.splits["train"])
    fraction = float(val) if not isinstance(val, bool) else val
    _check_fraction(fraction)
    if "val" in dataset.splits:
        return train, dataset.splits["val"]
    stratify = has_labels(dataset.task) and train.target_role != "value"
    return split(train, fraction, seed=seed, stratify=stratify)


def has_labels(task: str) -> bool:
    """Whether a row's target is one label. Captions, of zero-shot classification, are none."""
    return task.endswith("-classification") and task != "token-classification" and not tasks.get(task).joint


def split(rows: Rows, fraction: float, *, seed: int, stratify: bool) -> tuple[Rows, Rows]:
    """(the rest, a share of `fraction`), each at least one row, in the data's own order; the same for one seed.

    stratify: every label has its share in both. The rows of a label that has one alone stay in the first part. A row of
        several labels counts as its rarest.
    Raises DataError where nothing can be held out.
    """
    _check_fraction(fraction)
    if len(rows) < 2:
        raise DataError(f"{len(rows)} row can't be split into training and validation. Give val=None, or data for val.")
    wanted = min(max(1, round(len(rows) * fraction)), len(rows) - 1)
    generator = np.random.default_rng(seed)
    held = np.sort(_stratified(rows, wanted, generator) if stratify else generator.permutation(len(rows))[:wanted])
    return rows.select(np.setdiff1d(np.arange(len(rows)), held)), rows.select(held)


def _check_fraction(fraction: float) -> None:
    if isinstance(fraction, bool) or not 0 < fraction < 1:
        raise ConfigError(f"val is {fraction!r}; a share of the rows lies between 0 and 1, such as val=0.1.")


def _stratified(rows: Rows, wanted: int, generator: np.random.Generator) -> Index:
    members: dict[str, list[int]] = {}
    for index, label in _rarest(rows) if rows.target_role == "labels" else labels_of(rows):
        members.setdefault(label, []).append(index)
    groups = [np.array(members[label], dtype=np.int64) for label in sorted(members)]
    room = np.array([len(group) - 1 for group in groups])
    if not room.any() and rows.target_role == "labels":
        return generator.permutation(len(rows))[:wanted]
    if not room.any():
        raise DataError(
            f"Each of the {len(groups)} labels has one row alone, so none can be held out. "
            "Give val=None, or data for val."
        )
    takes = _shares(np.array([len(group) for group in groups]), room, min(wanted, int(room.sum())), generator)
    return np.concatenate([generator.permutation(g)[:take] for g, take in zip(groups, takes, strict=True)])


def _rarest(rows: Rows) -> Iterator[tuple[int, str]]:
    """(row, the rarest of its labels, or "" for a row without): the ones that chance would spread worst."""
    every: dict[int, list[str]] = {}
    for index, label in labels_of(rows):
        every.setdefault(index, []).append(label)
    counts = Counter(label for labels in every.values() for label in labels)
    for index in range(len(rows)):
        yield index, min(every.get(index, [""]), key=lambda label: (counts[label], label))


def _shares(sizes: Index, room: Index, wanted: int, generator: np.random.Generator) -> Index:
    """How many of each group: in proportion to `sizes`, rounded by the largest remainder, never more than `room`."""
    exact = sizes * (wanted / sizes.sum())
    takes: Index = np.minimum(np.floor(exact).astype(np.int64), room)
    # Equal remainders are drawn by lot, or labels late in the alphabet would never be validated.
    lot = generator.permutation(len(sizes))
    while takes.sum() < wanted:
        remainder = np.where(takes < room, exact - takes, -np.inf)
        takes[lot[np.argmax(remainder[lot])]] += 1
    return takes
