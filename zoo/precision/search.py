"""What has to stay fp32: the operators that hurt the metric, found with a bounded number of conversions."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from zoo.errors import BundleError
from zoo.precision import judging
from zoo.precision.graphs import Arrays, Graphs, contract, weight_of
from zoo.precision.scores import Score
from zoo.precision.ways import Way
from zoo.runtime import BundleModel
from zoo.runtime.model import open_graphs
from zoo.tasks.sequences import SequenceOptions
from zoo.training.data import Rows

# Operators are judged in groups of neighbours: one conversion a group, and some four to find how many must go.
_GROUPS = 16
_PROBED = 16  # rows
_SEARCHED = 256  # rows
_WRITTEN = 64  # rows where every candidate writes a text about each
# Of the allowed drop: what holds on the rows that it was chosen by has to hold on others, too.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """Reduced graphs: their folder, what stays fp32 in them, and their metric on the rows of the search."""

    way: Way
    folder: Path
    left_out: tuple[str, ...]
    score: Score
    passed: bool
    bytes: int


@final
class Workbench:
    """Where candidates are made and measured: an fp32 bundle, its graphs, rows to judge by, and a folder for files."""

    def __init__(self, bundle: BundleModel, rows: Rows, folder: Path) -> None:
        self.bundle = bundle
        self.graphs = Graphs(bundle)
        self._folder = folder
        most = _WRITTEN if issubclass(bundle.task.options, SequenceOptions) else _SEARCHED
        self._rows = rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), most)).astype(int)))
        self._probes = judging.batches_of(bundle, self._rows, _PROBED)
        self._expected = [bundle.forward(batch) for batch in self._probes]
        self._judge = judging.judge(bundle, self._rows)
        self.before = self._judge(bundle)

    def search(self, way: Way, max_drop: float) -> Candidate:
        """The candidate with as little as possible left out whose drop is half of what is allowed.

        Where there is none: the one with nothing left out, not `passed`.
        Raises BundleError where the provider has no kernels for it.
        """
        whole = self._candidate(way, frozenset(), max_drop)
        if whole.passed:
            return whole
        groups = self._ranked(way)
        fewest, most, found = 1, len(groups) - 1, whole
        while fewest <= most:
            count = (fewest + most) // 2
            tried = self._candidate(way, frozenset(name for group in groups[:count] for name in group), max_drop)
            if tried.passed:
                found, most = tried, count - 1
            else:
                fewest = count + 1
        return found

    def open(self, folder: Path) -> BundleModel:
        """A model over the graphs of a folder, where fp32's run."""
        card = contract(self.bundle.card, folder)
        return BundleModel(self.bundle.folder, card, open_graphs(folder, card, device=self.bundle.session.device))

    def feeds(self, count: int) -> dict[str, list[Arrays]]:
        """What each graph is given for some of the rows."""
        return self.graphs.feeds([batch.inputs for batch in judging.batches_of(self.bundle, self._rows, count)])

    def _candidate(self, way: Way, left_out: frozenset[str], max_drop: float) -> Candidate:
        folder = self._folder / f"{way.name.replace(' ', '_')}_{len(left_out)}"
        self._convert(way, left_out, folder)
        score = self._judge(self.open(folder))
        kept = tuple(name for name in way.nodes if name in left_out)
        passed = self.before.drop_to(score) <= _SHARE * max_drop
        return Candidate(way, folder, kept, score, passed, weight_of(folder, self.bundle.card))

    def _ranked(self, way: Way) -> list[tuple[str, ...]]:
        """Groups of neighbours, first the one that moves the outputs the most when it is converted alone."""
        parts = np.array_split(np.arange(len(way.nodes)), min(_GROUPS, len(way.nodes)))
        groups = [tuple(way.nodes[place] for place in part) for part in parts]
        return sorted(groups, key=lambda group: -self._harm(way, group))

    def _harm(self, way: Way, group: tuple[str, ...]) -> float:
        with self._scratch() as folder:
            self._convert(way, frozenset(way.nodes) - frozenset(group), folder)
            try:
                model = self.open(folder)
            except BundleError:
                return math.inf
            return judging.distance(self._expected, [model.forward(batch) for batch in self._probes])

    def _convert(self, way: Way, left_out: frozenset[str], folder: Path) -> None:
        try:
            self.graphs.convert(way.conversions, left_out, folder)
        except Exception as error:  # The tools raise whatever comes.
            raise BundleError(f"{way.name}: ONNX Runtime's tool could not convert the graph: {error}") from error

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        folder = self._folder / "scratch"
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
