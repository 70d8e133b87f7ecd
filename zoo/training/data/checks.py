"""What would spoil training, found before it begins."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from zoo import tasks as zoo_tasks
from zoo.errors import DataError
from zoo.tasks.boxes import Objects
from zoo.tasks.labels import label_text, ordered
from zoo.training.data.rows import Rows

_SHOWN = 20


def check(task: str, train: Rows, val: Rows | None = None, labels: Sequence[str] = ()) -> None:
    """All checks that are for this task. labels: the model's own to be, when they are already known.

    Raises DataError for one class only, and for labels of train or val that the model won't have.
    """
    if not _labelled(task) or train.target_role == "value":
        return
    # One kind of object is worth finding; one class is nothing to tell apart.
    found = first_rows(train) if zoo_tasks.get(task).columns[1] == "objects" else check_classes(train)
    if not found and not labels:
        raise DataError(
            f"None of the {len(train)} images has an object; there is nothing to learn. Is this all the data?"
        )
    known = set(labels) or set(found)
    if labels:
        _all_known(train, found, known, "the labels given")
    if val is not None:
        _all_known(val, first_rows(val), known, "the labels given" if labels else "train")


def check_classes(rows: Rows) -> dict[str, int]:
    """The first row of each label or tag. Raises DataError, with its name, where there is one alone."""
    found = first_rows(rows)
    if rows.target_role == "labels" and found and (len(found) > 1 or not all(rows.targets())):
        return found
    if len(found) < 2:
        only = next(iter(found), None)
        raise DataError(
            f"All {len(rows)} rows have the one label {only!r}; at least two are needed to learn anything. "
            "Is this the whole data, and the right column or folder?"
        )
    return found


def check_splits(train: Rows, val: Rows) -> None:
    """Raises DataError for labels of `val` that no row of `train` has: the model could never give them."""
    _all_known(val, first_rows(val), set(first_rows(train)), "train")


def first_rows(rows: Rows) -> dict[str, int]:
    """Label (or tag) -> the first row that has it."""
    found: dict[str, int] = {}
    for index, label in labels_of(rows):
        found.setdefault(label, index)
    return found


def labels_of(rows: Rows) -> Iterator[tuple[int, str]]:
    """(row, label as text) of every label or tag. Raises DataError that names the row."""
    for index, target in enumerate(rows.targets()):
        try:
            values = target.labels if isinstance(target, Objects) else target
            for value in values if isinstance(values, (list, tuple)) else (values,):
                yield index, label_text(value)
        except DataError as error:
            raise DataError(f"{rows.where(index)}: {error}", row=index) from error


def _labelled(task: str) -> bool:
    kind = zoo_tasks.get(task)
    return kind.needs_labels and kind.columns[1] in ("label", "tags", "objects")


def _all_known(rows: Rows, found: dict[str, int], known: set[str], where: str) -> None:
    unseen = ordered(label for label in found if label not in known)
    if not unseen:
        return
    be = "is" if len(unseen) == 1 else "are"
    advice = "Add such rows to train, or name all labels: labels=[...]." if where == "train" else "Add or rename."
    raise DataError(
        f"{rows.where(found[unseen[0]])}: {_listed(unseen)} {be} not in {where}: {_listed(ordered(known))}. {advice}"
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels[:_SHOWN])) + (", ..." if len(labels) > _SHOWN else "")
