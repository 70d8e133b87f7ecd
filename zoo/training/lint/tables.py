"""What targets and equal rows say, whatever the inputs are."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from zoo.tasks.labels import ordered
from zoo.training.data.checks import labels_of
from zoo.training.data.rows import Rows
from zoo.training.lint.fingerprints import Hash
from zoo.training.lint.report import Finding

SHOWN = 5
_UNEVEN = 10  # times as many rows of the most frequent label as of the rarest
_FEW = 5  # rows of a label, below which it can hardly be learned or measured


def check_labels(train: Rows, val: Rows | None, known: Sequence[str]) -> Iterator[Finding]:
    """known: the model's labels to be; empty where the data says them. Raises DataError for a label that is none."""
    counts: Counter[str] = Counter()
    first: dict[str, int] = {}
    for index, label in labels_of(train):
        counts[label] += 1
        first.setdefault(label, index)
    # One kind of object is worth finding; one class is nothing to tell apart.
    if train.target_role != "objects" and (train.target_role != "labels" or all(train.targets())):
        yield from _one_alone(counts, len(train))
    yield from _unseen(train, first, known, "the labels given")
    if val is not None:
        in_val: dict[str, int] = {}
        for index, label in labels_of(val):
            in_val.setdefault(label, index)
        yield from _unseen(val, in_val, known or list(counts), "the labels given" if known else "train")
    yield from _uneven(counts)
    yield from _alike(counts)


def _one_alone(counts: Counter[str], rows: int) -> Iterator[Finding]:
    if len(counts) == 1:
        label = next(iter(counts))
        yield Finding(
            "error", "one-label", f"All {rows} rows have the one label {label!r}.",
            "At least two are needed to learn anything. Is this the whole data, and the right column or folder?", rows,
        )  # fmt: skip


def _unseen(rows: Rows, first: dict[str, int], known: Sequence[str], where: str) -> Iterator[Finding]:
    unseen = ordered(label for label in first if label not in known) if known else ()
    if unseen:
        places = tuple(rows.where(first[label]) for label in unseen[:SHOWN])
        yield Finding(
            "error", "unseen-labels", f"{_listed(unseen)} {'is' if len(unseen) == 1 else 'are'} not in {where}.",
            "Add such rows to train, rename them, or name all labels: labels=[...].", len(unseen), places,
        )  # fmt: skip


def _uneven(counts: Counter[str]) -> Iterator[Finding]:
    if len(counts) < 2:
        return
    (most, many), (rarest, few) = counts.most_common(1)[0], counts.most_common()[-1]
    if many >= _UNEVEN * few:
        yield Finding(
            "warning", "label-imbalance",
            f"{most!r} comes {many:,} times and {rarest!r} {few:,}: {many / few:,.0f} to 1.",
            "class_weights='balanced' makes rare labels count as much. Look at F1 or recall, not at accuracy.", few,
        )  # fmt: skip
    rare = ordered(label for label, count in counts.items() if count < _FEW)
    if rare:
        yield Finding(
            "warning", "rare-labels", f"{_listed(rare)}: fewer than {_FEW} rows each.",
            "Collect more, or join them with another label.", sum(counts[label] for label in rare),
        )  # fmt: skip


def _alike(counts: Counter[str]) -> Iterator[Finding]:
    """Labels that differ by capitals or white space alone: most often one label, typed twice."""
    groups: dict[str, list[str]] = defaultdict(list)
    for label in counts:
        groups["".join(label.casefold().split())].append(label)
    for group in groups.values():
        if len(group) > 1:
            yield Finding(
                "warning", "similar-labels", f"{_listed(ordered(group))} differ by capitals or white space alone.",
                "If they mean the same, write them the same.", sum(counts[label] for label in group),
            )  # fmt: skip


def check_equal(
    train: Rows, val: Rows | None, hashes: Sequence[Hash | None], targets: Sequence[Any]
) -> Iterator[Finding]:
    """Equal inputs, within train and across the splits.

    hashes: of the rows of train, then of val; targets: of train.
    """
    members: dict[Hash, list[int]] = defaultdict(list)
    for index, found in enumerate(hashes[: len(train)]):
        if found is not None:
            members[found].append(index)
    yield from _repeated(train, [group for group in members.values() if len(group) > 1], targets)
    if val is not None:
        yield from _leaked(train, val, members, hashes[len(train) :])


def _repeated(train: Rows, groups: list[list[int]], targets: Sequence[Any]) -> Iterator[Finding]:
    differing = [group for group in groups if len({repr(targets[i]) for i in group}) > 1]
    if differing:
        yield Finding(
            "warning", "conflicting-rows",
            f"{sum(map(len, differing)):,} rows have the input of another row and a different target.",
            "At most one of each can be learned. Correct them, or leave them out.", sum(map(len, differing)),
            tuple(_pair(train, group) for group in differing[:SHOWN]),
        )  # fmt: skip
    same = [group for group in groups if group not in differing] if differing else groups
    extra = sum(len(group) - 1 for group in same)
    if extra:
        yield Finding(
            "warning" if extra > 0.01 * len(train) else "note", "duplicate-rows",
            f"{extra:,} row{'s repeat' if extra > 1 else ' repeats'} another row.",
            "They count double, and one of each may fall into the validation data.", extra,
            tuple(_pair(train, group) for group in same[:SHOWN]),
        )  # fmt: skip


def _leaked(train: Rows, val: Rows, members: dict[Hash, list[int]], hashes: Sequence[Hash | None]) -> Iterator[Finding]:
    both = [(members[found][0], index) for index, found in enumerate(hashes) if found is not None and found in members]
    if both:
        yield Finding(
            "warning", "rows-in-both-splits",
            f"{len(both):,} of the {len(val):,} rows to validate on are in train too.",
            "What is measured there is memory. Remove them from one of the two.", len(both),
            tuple(f"{val.where(b)} = {train.where(a)}" for a, b in both[:SHOWN]),
        )  # fmt: skip


def _pair(rows: Rows, group: Sequence[int]) -> str:
    more = f" and {len(group) - 2} more" if len(group) > 2 else ""
    return f"{rows.where(group[0])} = {rows.where(group[1])}{more}"


def _listed(labels: Sequence[str]) -> str:
    shown = ", ".join(map(repr, labels[:SHOWN]))
    return f"{shown} and {len(labels) - SHOWN} more" if len(labels) > SHOWN else shown
