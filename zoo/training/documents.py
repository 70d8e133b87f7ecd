"""Documents as pairs of sentences, half of them of two documents: what BERT's pre-training learns from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, final

import numpy as np

from zoo.errors import DataError
from zoo.modalities.base import Array
from zoo.tasks.base import Task
from zoo.training.data.rows import Index, Row, Rows, Source

# Tasks whose rows are documents, and their examples pairs.
PAIRED = ("pretraining",)

# Full stops of Latin, Arabic, Indian and East Asian scripts, the last without white space behind them.
_END = re.compile("(?<=[.!?\u061f\u0964\u2026])\\s+|(?<=[\u3002\uff01\uff1f])\\s*|\\s*\\n\\s*")

OnBad = Callable[[int, DataError], None]


def sentences(document: Any) -> list[str]:
    """The sentences of a document: a list of them, or a text, cut behind full stops and at line ends.

    Raises DataError for a document of fewer than two.
    """
    if isinstance(document, str):
        parts: list[Any] = _END.split(document)
    elif isinstance(document, (list, tuple)):
        parts = list(document)
    else:
        raise DataError(f"A document is a text or a list of its sentences, not {type(document).__name__}.")
    found = [part.strip() for part in parts if isinstance(part, str) and part.strip()]
    if len(found) < 2:
        raise DataError("The document has fewer than two sentences, so that none follows another. Leave it out.")
    return found


@final
class Documents:
    """All documents, and the places of their neighbouring sentences. rows: int64 `[N]`, the document of each pair."""

    def __init__(self, rows: Rows, on_bad: OnBad) -> None:
        self._where = rows.where
        self._texts: dict[int, list[str]] = {}
        for number in range(len(rows)):
            try:
                self._texts[number] = sentences(rows[number].input)
            except DataError as error:
                on_bad(number, error)
        self._numbers = list(self._texts)
        self._places = [(n, i) for n, texts in self._texts.items() for i in range(len(texts) - 1)]
        self.rows: Array = np.array([number for number, _ in self._places], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._places)

    def pair(self, item: int, *, seed: int, epoch: int) -> Row:
        """Two sentences, and whether the second follows the first: a function of the arguments alone."""
        random = np.random.default_rng([seed, epoch, item, 1])
        number, place = self._places[item]
        first, second = self._texts[number][place], self._texts[number][place + 1]
        follows = bool(random.random() < 0.5)
        if not follows:
            second = self._other(number, place, random)
        return Row({"text": first, "text_pair": second}, follows, self._where(number))

    def _other(self, number: int, place: int, random: np.random.Generator) -> str:
        """A sentence of another document; of the same, but not the next one, where there is only one."""
        if len(self._numbers) > 1:
            index = int(random.integers(len(self._numbers) - 1))
            # The last one stands in for the document itself.
            other = self._numbers[index] if self._numbers[index] != number else self._numbers[-1]
            texts = self._texts[other]
        else:
            texts = [text for i, text in enumerate(self._texts[number]) if i != place + 1]
        return texts[int(random.integers(len(texts)))]


@final
class _Pairs(Source):
    """The pairs that evaluation sees: the same ones each time."""

    columns = ("text", "text_pair")

    def __init__(self, documents: Documents) -> None:
        self._documents = documents

    def __len__(self) -> int:
        return len(self._documents)

    def where(self, index: int) -> str:
        return self.row(index).where

    def row(self, index: int) -> Row:
        return self._documents.pair(index, seed=0, epoch=0)

    def targets(self, places: Index | None = None) -> list[Any]:
        wanted = range(len(self)) if places is None else places.tolist()
        return [self.row(index).target for index in wanted]

    def faults(self) -> Iterator[tuple[int, DataError]]:
        return iter(())


def evaluated(task: Task, rows: Rows) -> Rows:
    """The rows to measure on: pairs, where a task's rows are documents. Raises DataError."""
    if task.name not in PAIRED:
        return rows

    def refuse(number: int, error: DataError) -> None:
        raise DataError(f"{rows.where(number)}: {error}", row=number) from error

    return Rows(_Pairs(Documents(rows, refuse)), task.name, skipped=rows.skipped)
