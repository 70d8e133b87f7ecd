"""What targets that are texts say: answers out of a context, summaries, translations."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from zoo.errors import DataError
from zoo.modalities.base import Encoder
from zoo.tasks.answers import spans_of
from zoo.tasks.base import Task
from zoo.training.lint.inputs import Place, unreadable
from zoo.training.lint.report import Finding, weight_of
from zoo.training.lint.tables import SHOWN


def check_answers(
    places: Sequence[Place], task: Task | None, encoder: Encoder | None, *, skip: bool
) -> Iterator[Finding]:
    """Answers that are not where they should be in their context; with a model, those that no window holds whole."""
    placed, lost = unreadable(places, lambda place: spans_of(place.row.target, place.row.input["context"]))
    if lost:
        yield Finding(
            "warning" if skip else "error", "answers-not-in-place",
            f"{len(lost):,} row{'s have answers' if len(lost) > 1 else ' has an answer'} that can't be found in the "
            "context.",
            "An answer is a part of its context, at answer_start, counted in characters. Correct them, or leave them "
            "out with on_error='skip'.", len(lost), tuple(lost[:SHOWN]),
        )  # fmt: skip
    answered = [place for place, spans in placed if spans]
    if task is None or encoder is None or not answered:
        return

    def whole(place: Place) -> bool:
        windows = task.examples(encoder, place.row.input, place.row.target)
        return any(int(np.argmax(window.targets["spans"][:, 0])) > 0 for window in windows)

    read, _ = unreadable(answered, whole)
    cut = [place for place, found in read if not found]
    if cut:
        yield Finding(
            weight_of(len(cut), len(read)), "answers-cut",
            f"{len(cut):,} answer{'s are' if len(cut) > 1 else ' is'} whole in no window of the context.",
            "They are learned as questions without an answer: they are longer than what windows share.", len(cut),
            tuple(place.where for place in cut[:SHOWN]),
        )  # fmt: skip


def check_written(places: Sequence[Place], name: str, task: Task | None, encoder: Encoder | None) -> Iterator[Finding]:
    """Summaries and translations that are empty, copies, longer than their text, or than the model can write."""
    read, _ = unreadable(places, lambda place: (str(place.row.input).strip(), _text(place.row.target)))
    empty = [place for place, (_, target) in read if not target]
    if empty:
        yield Finding(
            "warning", "empty-targets",
            f"{len(empty):,} target{'s are' if len(empty) > 1 else ' is'} an empty text.",
            "The model learns to write nothing. Leave such rows out.", len(empty), _where(empty),
        )  # fmt: skip
    copied = [place for place, (text, target) in read if target and text == target]
    if copied:
        verb = "not translated" if name == "translation" else "the text itself"
        yield Finding(
            weight_of(len(copied), len(read)), "copied-targets",
            f"{len(copied):,} of {len(read):,} targets are {verb}.",
            "The model learns to copy. Leave such rows out.", len(copied), _where(copied),
        )  # fmt: skip
    longer = [place for place, (text, target) in read if name == "summarization" and len(target) > len(text)]
    if longer:
        yield Finding(
            weight_of(len(longer), len(read)), "longer-summaries",
            f"{len(longer):,} of {len(read):,} summaries are longer than their text.",
            "Are the two columns swapped?", len(longer), _where(longer),
        )  # fmt: skip
    if task is not None and encoder is not None:
        yield from _too_long([place for place, (_, target) in read if target], task, encoder)


def _too_long(places: Sequence[Place], task: Task, encoder: Encoder) -> Iterator[Finding]:
    decoder, writing = task.spec.decoder, getattr(encoder, "target", None)
    if decoder is None or writing is None:
        return
    # Its beginning and its end stand beside what is written.
    room = decoder.max_length - 2
    cut = [place for place in places if len(writing.ids(place.row.target)) > room]
    if cut:
        yield Finding(
            weight_of(len(cut), len(places)), "long-targets",
            f"{len(cut):,} of {len(places):,} targets are longer than the {decoder.max_length} tokens that the model "
            "writes.",
            "Their end is left out in training.", len(cut), _where(cut),
        )  # fmt: skip


def _text(target: object) -> str:
    if not isinstance(target, str):
        raise DataError("the target is no text")
    return target.strip()


def _where(places: Sequence[Place]) -> tuple[str, ...]:
    return tuple(place.where for place in places[:SHOWN])
