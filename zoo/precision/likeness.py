"""What embeddings are judged by, which have no labels: how near the reduced model's are to those of fp32."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from zoo import index, tasks
from zoo.errors import DataError
from zoo.inference import RowOutcome
from zoo.modalities.base import Array
from zoo.modalities.towers import TEXT, TowersEncoder
from zoo.precision.scores import Score
from zoo.predictor import Predictor
from zoo.runtime import BundleModel
from zoo.tasks.feature_extraction import FeatureExtraction
from zoo.training import data
from zoo.training.data import Row, Rows
from zoo.training.data.rows import Index, Source

COSINE = "cosine"
WITH_ORDER = "cosine_and_nearest"


@final
class Likeness:
    """The reference's vectors of some rows, and how near another model's are to them.

    One model: the mean cosine. Two towers: the lower of that and of the share of rows whose nearest one of the other
    side is the same, which is what such a model is asked for. Both are 1 for the reference itself.
    Raises DataError where only one of two towers would be judged.
    """

    def __init__(self, reference: BundleModel, rows: Rows) -> None:
        self._rows = rows
        self._sides, self._vectors = _embedded(reference, rows)
        towers = isinstance(reference.encoder, TowersEncoder)
        if towers and min(self._sides.sum(), (~self._sides).sum()) < 2:
            raise DataError(
                f"{reference.spec.name} has two towers, and {len(rows)} rows have not two texts and two of the other "
                f'side to judge both on. Give more of each: {{"text": ...}}, {{"{reference.task.columns[0]}": ...}}, '
                "or dicts of both."
            )
        self._nearest = _nearest(self._vectors, self._sides) if towers else None

    def of(self, model: BundleModel) -> Score:
        _, vectors = _embedded(model, self._rows)
        cosine = float((vectors * self._vectors).sum(axis=1).mean())
        if self._nearest is None:
            return Score(COSINE, cosine, True)
        same = float((_nearest(vectors, self._sides) == self._nearest).mean())
        # min() of numbers that are none would take the other.
        return Score(WITH_ORDER, float(np.minimum(cosine, same)), True)


def inputs(model: Predictor, given: Any, columns: Mapping[str, str] | None) -> Rows:
    """What embeddings are made of, as rows without a target.

    given: a list of inputs as predict() takes them, of two towers also dicts of both; the folder of a model's files; or
    for texts, and for pairs of two towers, a table or dataset with the columns of docs/data.md.
    """
    name = model.task.name
    if isinstance(given, Rows):
        return given
    if isinstance(given, (str, os.PathLike)) and Path(given).is_dir():
        kind = model.spec.input.kind
        return Rows(_Raws([index.content(path, kind) for path in index.files(Path(given), kind)]), name)
    if isinstance(given, (list, tuple)):
        return Rows(_Raws(list(_apart(model, given))), name)
    if isinstance(model.encoder, TowersEncoder):
        paired = next(task for task in model.spec.tasks if tasks.get(task).trainable)
        found = data.read(given, tasks=(paired,), task=paired, columns=columns).splits
        side = model.encoder.side
        pairs = [{side: row.input, TEXT: row.target} for row in found.get("val", found["train"])]
        return Rows(_Raws(list(_apart(model, pairs))), name)
    found = data.read(given, tasks=(name,), task=name, columns=columns).splits
    return found.get("val", found["train"])


@final
class _Raws(Source):
    """Inputs as they are, one a row."""

    columns = ("input",)

    def __init__(self, raws: Sequence[Any]) -> None:
        if not raws:
            raise DataError("The data has no rows.")
        self._raws = raws

    def __len__(self) -> int:
        return len(self._raws)

    def where(self, index: int) -> str:
        return f"list[{index}]"

    def row(self, index: int) -> Row:
        return Row(self._raws[index], None, self.where(index))

    def targets(self, places: Index | None = None) -> list[Any]:
        return [None] * (len(self) if places is None else len(places))

    def faults(self) -> Iterator[tuple[int, DataError]]:
        return iter(())


def _apart(model: Predictor, raws: Sequence[Any]) -> Iterator[Any]:
    """A dict of both sides as two inputs: each tower has a vector of its own."""
    encoder = model.encoder
    for raw in raws:
        if isinstance(encoder, TowersEncoder) and isinstance(raw, Mapping) and set(raw) == set(encoder.sides):
            yield from ({side: raw[side]} for side in encoder.sides)
        else:
            yield raw


def _embedded(model: BundleModel, rows: Rows) -> tuple[Array, Array]:
    """bool `[N]`, whether each row is a text of two towers; float64 `[N, D]`, of unit length."""
    options = model.task.parse_options({"normalize": True})
    assert isinstance(model.task, FeatureExtraction)
    found = list(model.outcomes(rows.inputs(), options, batch_size="auto", on_error="raise"))
    vectors = np.stack([model.task.decode(one.outputs, one.windows, options) for one in found]).astype(np.float64)
    # What has the length 1 in float32 has not in float64, and fp32 is to be like itself.
    return np.array([_is_text(one) for one in found]), vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _is_text(outcome: RowOutcome) -> bool:
    return "text_embeds" in outcome.outputs[0]


def _nearest(vectors: Array, sides: Array) -> Array:
    """int64 `[N]`: of each row the nearest of the other side, by its place among those."""
    found = np.zeros(len(vectors), dtype=np.int64)
    for side in (sides, ~sides):
        found[side] = (vectors[side] @ vectors[~side].T).argmax(axis=1)
    return found
