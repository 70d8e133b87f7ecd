"""Which task the data is for, and which column has which role. What fits several tasks is never guessed."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from zoo import tasks as zoo_tasks
from zoo.errors import ConfigError, DataError, suggest
from zoo.results import Detection
from zoo.spec import ProblemType
from zoo.tasks.boxes import Objects
from zoo.tasks.masks import Mask
from zoo.training.data import kinds
from zoo.training.data.cells import Cell, Whole
from zoo.training.data.pictures import IMAGES, class_names
from zoo.training.data.table import Cells, Part, Parts, Table

# Tasks that data is for only where that is said, or where there is no other.
_SAID = ("feature-extraction", "pretraining", "zero-shot-classification")
OnError = Literal["raise", "skip", "return"]

FORMS = (
    "Data is a folder with one folder a class, a .csv, .tsv, .jsonl or .parquet file, a two-column CoNLL file, a "
    "pandas or polars frame, a Hugging Face or torch dataset, or a list of (input, target) pairs or dicts "
    "(docs/data.md)."
)

# What columns are called elsewhere, for suggestions alone: nothing is renamed by itself.
_OTHER_NAMES = {
    "text": ("sentence", "sentence1", "premise", "question1", "text1", "review", "content", "body", "message", "tweet",
             "document", "comment", "transcript", "transcription", "sentences", "reviews", "texts", "title"),
    "label": ("labels", "target", "class", "category", "sentiment", "stars", "rating", "y", "intent", "coarse_label",
              "fine_label", "digit"),
    "image": ("img", "images", "picture", "photo", "image_path", "img_path", "file", "file_name", "filename", "path",
              "filepath"),
    "mask": ("segmentation_mask", "label", "labels", "annotation", "segmentation", "target", "mask_path", "seg"),
    "audio": ("sound", "wav", "speech", "recording", "audio_path", "file", "file_name", "filename", "path", "filepath"),
    "text_pair": ("sentence2", "hypothesis", "question2", "text2", "pair"),
    "question": ("query",),
    "context": ("passage", "paragraph", "document"),
    "tokens": ("words", "token", "sentence"),
    "summary": ("highlights", "abstract", "tldr", "target", "headline", "summaries", "title"),
    "translation": ("target", "target_text", "tgt", "reference", "output", "translated"),
    "objects": ("annotations", "object", "boxes", "bboxes", "bbox", "detections", "instances"),
    "tags": ("ner_tags", "pos_tags", "chunk_tags", "labels", "ner", "entities", "upos"),
}  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What `read` was asked for. tasks: what the model allows; task: the one meant, or None.

    problem_type: what the targets of a classification are, where that was said.
    """

    tasks: tuple[str, ...]
    task: str | None = None
    columns: Mapping[str, str] | None = None
    on_error: OnError = "raise"
    problem_type: ProblemType | None = None

    @property
    def candidates(self) -> tuple[str, ...]:
        if self.task is not None:
            return (self.task,)
        # Without targets there is nothing to learn, so it is meant only where it is said or the only one.
        # Plain texts are documents, and pairs of texts premises, only where that is said.
        trained = tuple(name for name in self.tasks if name not in _SAID)
        return trained or self.tasks

    def settled(self, task: str, target_role: str | None) -> Request:
        """The same for further splits: they are of the task, and their targets of the kind, that the first one has."""
        said = {role: name for name, role in kinds.ROLES.items()}
        return replace(self, task=task, problem_type=self.problem_type or said.get(target_role or ""))


def make_request(
    tasks: Sequence[str],
    task: str | None,
    columns: Mapping[str, str] | None,
    on_error: OnError,
    problem_type: ProblemType | None = None,
) -> Request:
    """Check the options of `read`. Raises ConfigError."""
    for name in (*tasks, *([task] if task is not None else [])):
        zoo_tasks.get(name)
    if task is not None and task not in tasks:
        raise ConfigError(f"The model is not for {task!r}; it is for: {', '.join(tasks)}.")
    if on_error not in ("raise", "skip", "return"):
        raise ConfigError(f"on_error is {on_error!r}; it is 'raise' or 'skip'.")
    if problem_type is not None and problem_type not in kinds.ROLES:
        near = suggest(problem_type, kinds.ROLES)
        raise ConfigError(f"problem_type is {problem_type!r}.{near} It is one of: {', '.join(kinds.ROLES)}.")
    request = Request(tuple(tasks), task, columns, on_error, problem_type)
    roles = _all_roles(request.tasks)
    for role, name in (columns or {}).items():
        if role not in roles:
            raise ConfigError(
                f"columns={{{role!r}: {name!r}}}: {role!r} is not a role of a column.{suggest(role, roles)} "
                f"The roles are: {', '.join(roles)}; write columns={{role: the data's own name}}."
            )
    return request


@dataclass(frozen=True)
class Roles:
    """The columns of a task. inputs: those it needs, optional: those it may have, of which each row's input is made.

    targets: which columns may hold the target, the usual ones first; empty where the input is its own target.
    """

    inputs: tuple[str, ...]
    optional: tuple[str, ...]
    targets: tuple[tuple[str, ...], ...]

    @property
    def all(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.inputs, *self.optional, *(role for roles in self.targets for role in roles))))

    @property
    def whole(self) -> Cell | Whole:
        """How an input is read that stands in one place."""
        several = len(self.inputs) > 1 or self.optional
        return Whole(self.inputs, self.optional) if several else Cell(self.inputs[0])

    def within(self, names: Mapping[str, str], columns: Sequence[str], chosen: Iterable[str]) -> tuple[str, ...] | None:
        """The roles that a table has columns for, or None if one is lacking. names: of the columns by role."""
        there = {role for role in self.all if names[role] in columns}
        # What the user named comes before what happens to be called so.
        targets = sorted(self.targets, key=lambda roles: not set(roles) & set(chosen))
        target = next((roles for roles in targets if there.issuperset(roles)), None if targets else ())
        if target is None or not there.issuperset(self.inputs):
            return None
        return (*self.inputs, *(role for role in self.optional if role in there), *target)


def facts(task: str) -> Roles:
    kind = zoo_tasks.get(task)
    given, target = kind.columns
    targets = () if target is None else ((target,), *kind.other_targets)
    return Roles((given, *kind.more_inputs), kind.optional_inputs, targets)


def roles_of(task: str) -> tuple[str, ...]:
    """The columns a task needs: ("text", "label"), or ("text",) where the text is its own target."""
    roles = facts(task)
    return (*roles.inputs, *(roles.targets[0] if roles.targets else ()))


def by_columns(request: Request, table: Table) -> tuple[str, dict[str, str]]:
    """The task whose columns the table has, and its columns' own names by role. Raises DataError."""
    chosen = request.columns or {}
    for role, name in chosen.items():
        _present(table, role, name)
    # A column that was named for one role does not stand for another by its name.
    free = {role: role for role in _all_roles(request.tasks) if role not in chosen.values()}
    names = {role: chosen.get(role) or free.get(role, "") for role in _all_roles(request.tasks)}
    found = {task: facts(task).within(names, table.columns, chosen) for task in request.candidates}
    fitting = {task: roles for task, roles in found.items() if roles is not None}
    if not fitting:
        raise _missing_columns(request, table, names)
    # What uses all that was named, and then the most: text and label are no plain text for a language model.
    fitting = {task: roles for task, roles in fitting.items() if set(chosen) <= set(roles)} or fitting
    most = max(map(len, fitting.values()))
    longest = [task for task, roles in fitting.items() if len(roles) == most]
    task = _only(longest, f"{table.name} has what several tasks need")
    for name in (names[role] for role in fitting[task]):
        if table.columns.count(name) > 1:
            raise DataError(f"{table.name} has {table.columns.count(name)} columns {name!r}; keep one.", column=name)
    return task, {role: names[role] for role in fitting[task]}


def open_columns(
    task: str, names: Mapping[str, str], table: Table, *, problem_type: ProblemType | None = None
) -> Cells:
    """The rows of a task. names: the table's own names of columns by role."""
    loaded, naming = table.load(list(dict.fromkeys(names.values())))
    roles = facts(task)

    def parts(wanted: Iterable[str]) -> Parts:
        return tuple(part(role) for role in wanted if role in names)

    def part(role: str) -> Part:
        name, column = names[role], loaded[names[role]]
        if role not in (*roles.inputs, *roles.optional):
            role = kinds.target_role(role, problem_type, column, written=table.written, light=column.light)
        known = table.names.get(name)
        if role == "mask" and known is None and table.folder is not None:
            known = class_names(table.folder)
        return Part(name, column, Cell(role, table.folder, known, table.written))

    targets = next((found for found in roles.targets if set(found) <= set(names)), ())
    return Cells(table.columns, parts((*roles.inputs, *roles.optional)), parts(targets), naming)


def by_roles(request: Request, roles: tuple[str, str], what: str) -> str:
    """The task of data whose roles are known: class folders of images, a CoNLL file. Raises DataError."""
    for task in request.candidates:
        if roles_of(task) == roles:
            return task
    needs = "; ".join(f"{task} needs {' and '.join(roles_of(task))}" for task in request.candidates)
    raise DataError(f"{what}, which gives {roles[0]} and {roles[1]}. {needs}.")


def by_values(request: Request, given: Any, target: Any, name: str) -> str:
    """The task that pairs like (given, target) can be for, by their types. Raises DataError."""
    fitting = [task for task in request.candidates if _serves(task, given, target)]
    if not fitting:
        allowed = "; ".join(f"{task} takes ({', '.join(roles_of(task))})" for task in request.candidates)
        came = f"({_kind(given)}, {_kind(target)})"
        raise DataError(f"{name} has pairs like {came}, which serve none of the tasks asked for: {allowed}.")
    return _only(fitting, f"{name} has pairs that several tasks could mean")


def _serves(task: str, given: Any, target: Any) -> bool:
    whole = facts(task).whole
    if isinstance(whole, Whole) and whole.fits(given):
        return target is not None
    words = isinstance(given, (list, tuple)) and all(isinstance(word, str) for word in given)
    listed = isinstance(target, (list, tuple, set, frozenset)) or getattr(target, "ndim", 0) == 1
    match roles_of(task):
        case ("text", "label"):
            # Words with a list beside them are words with their tags.
            return (isinstance(given, str) or (words and not listed)) and target is not None
        case ("tokens", "tags"):
            return words and listed
        case ("text", "summary" | "translation"):
            return isinstance(given, str) and isinstance(target, str)
        case (_, "objects"):
            return isinstance(target, (Mapping, Objects)) or (listed and _all_boxes(target))
        case ("audio", "text"):
            return isinstance(target, str)
        case ("image", "text"):
            return isinstance(target, str) and not _like_mask(target)
        case ("image", "mask"):
            return _like_mask(target)
        case ("image", "label"):
            return target is not None and not _like_mask(target)
        case (_, "label"):
            return target is not None
        case ("text",):
            return isinstance(given, str) and target is None
    return target is None


def _like_mask(target: Any) -> bool:
    """Whether a target is the picture of a mask; what is a label's text ends in no picture's ending."""
    if isinstance(target, (str, os.PathLike)):
        return os.path.splitext(os.fsdecode(target))[1].lower() in IMAGES
    if isinstance(target, (bytes, bytearray, Mask)):
        return True
    return getattr(target, "ndim", 0) >= 2 or hasattr(target, "getpixel")


def _all_boxes(target: Any) -> bool:
    return all(isinstance(item, (Mapping, Detection)) for item in target)


def _only(tasks: Sequence[str], reason: str) -> str:
    if len(tasks) == 1:
        return tasks[0]
    choices = " or ".join(f"task={task!r}" for task in tasks)
    raise DataError(f"{reason}. Say which one is meant: {choices}.")


def _all_roles(tasks: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(role for task in tasks for role in facts(task).all))


def _present(table: Table, role: str, name: str) -> None:
    if name not in table.columns:
        raise DataError(
            f"{table.name} has no column {name!r} (columns={{{role!r}: {name!r}}}).{suggest(name, table.columns)} "
            f"It has: {_listed(table.columns)}.",
            column=name,
        )


def _missing_columns(request: Request, table: Table, names: Mapping[str, str]) -> DataError:
    needs = "; ".join(f"{task} needs {' and '.join(map(repr, roles_of(task)))}" for task in request.candidates)
    # Advice for the task that lacks the least.
    task = min(request.candidates, key=lambda t: sum(names[role] not in table.columns for role in roles_of(t)))
    lacking = [role for role in roles_of(task) if names[role] not in table.columns]
    taken = {names[role] for role in roles_of(task)}
    guesses: dict[str, str] = {}
    for role in lacking:
        guesses[role] = _guess(role, table, taken | set(guesses.values()))
    for role in facts(task).optional:
        other = _guess(role, table, taken | set(guesses.values()), exactly=True)
        guesses.update({role: other} if other in table.columns else {})
    typed = ", ".join(f'"{role}": "{name}"' for role, name in {**(request.columns or {}), **guesses}.items())
    return DataError(
        f"{table.name} has no column {' and no column '.join(map(repr, lacking))}. It has: {_listed(table.columns)}. "
        f"{needs}. Say which they are: columns={{{typed}}}",
        column=lacking[0],
    )


def _guess(role: str, table: Table, taken: set[str], *, exactly: bool = False) -> str:
    free = [name for name in table.columns if name not in taken]
    for name in free:
        if table.kinds.get(name) == role:
            return name
    for other in (role, *_OTHER_NAMES.get(role, ())):
        for name in free:
            if name.strip().lower() == other:
                return name
    close = [] if exactly else difflib.get_close_matches(role, free, n=1, cutoff=0.6)
    return close[0] if close else "..."


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(map(repr, names[:20]))
    return f"{shown}, ... ({len(names)} in all)" if len(names) > 20 else shown or "none"


def _kind(value: Any) -> str:
    if isinstance(value, (list, tuple)) and value:
        return f"{type(value).__name__} of {type(value[0]).__name__}"
    return "nothing" if value is None else type(value).__name__
