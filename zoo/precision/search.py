"""What has to stay fp32: the operators that hurt the metric, found with a bounded number of conversions."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import final

import numpy as np

from zoo.errors import BundleError
from zoo.precision import judging
from zoo.precision.source import Source, write
from zoo.precision.ways import Way
from zoo.runtime import BundleModel
from zoo.runtime.caching import CachedSession
from zoo.runtime.session import Session
from zoo.training.data import Rows

# Operators are judged in groups of neighbours: one conversion a group, and some four to find how many must go.
_GROUPS = 16
_PROBED = 16  # rows
_SEARCHED = 256  # rows
# Of the allowed drop: what holds on the rows that it was chosen by has to hold on others, too.
_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """A reduced graph: its file, what stays fp32 in it, and its metric on the rows of the search."""

    way: Way
    path: Path
    left_out: tuple[str, ...]
    score: judging.Score
    passed: bool

    @property
    def bytes(self) -> int:
        return weight_of(self.path)


@final
class Workbench:
    """Where candidates are made and measured: an fp32 bundle, its graph, labelled rows, and a folder for files."""

    def __init__(self, bundle: BundleModel, source: Source, rows: Rows, folder: Path) -> None:
        assert isinstance(bundle.session, judging.OneGraph)
        self.bundle = bundle
        self.source = source
        self.reference = bundle.session
        self._folder = folder
        self._rows = rows.select(np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SEARCHED)).astype(int)))
        self._probes = judging.inputs_of(bundle, self._rows, _PROBED)
        self._expected = [self.reference.run(batch) for batch in self._probes]
        self.before = judging.measure(bundle, self._rows, self.reference.run)

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

    def open(self, path: Path) -> judging.OneGraph:
        """A session where fp32's runs."""
        session = Session(path, device=self.reference.device)
        if isinstance(self.reference, Session):
            return session
        assert self.bundle.card.graphs is not None
        return CachedSession(session, self.reference.select, self.bundle.card.graphs[0].inputs)

    def feeds(self, count: int) -> list[judging.Arrays]:
        """What the graph itself is given for some of the rows: the same for a cache that is empty."""
        batches = judging.inputs_of(self.bundle, self._rows, count)
        if isinstance(self.reference, Session):
            return batches
        return [
            self.reference.first(batch["input_ids"], batch["attention_mask"], np.arange(batch["input_ids"].shape[1]))
            for batch in batches
        ]

    def _candidate(self, way: Way, left_out: frozenset[str], max_drop: float) -> Candidate:
        path = self._folder / f"{way.name.replace(' ', '_')}_{len(left_out)}.onnx"
        self._convert(way, left_out, path)
        score = judging.measure(self.bundle, self._rows, self.open(path).run)
        kept = tuple(name for name in way.nodes if name in left_out)
        return Candidate(way, path, kept, score, self.before.drop_to(score) <= _SHARE * max_drop)

    def _ranked(self, way: Way) -> list[tuple[str, ...]]:
        """Groups of neighbours, first the one that moves the outputs the most when it is converted alone."""
        parts = np.array_split(np.arange(len(way.nodes)), min(_GROUPS, len(way.nodes)))
        groups = [tuple(way.nodes[place] for place in part) for part in parts]
        return sorted(groups, key=lambda group: -self._harm(way, group))

    def _harm(self, way: Way, group: tuple[str, ...]) -> float:
        with self._scratch() as path:
            self._convert(way, frozenset(way.nodes) - frozenset(group), path)
            try:
                session = self.open(path)
            except BundleError:
                return math.inf
            return judging.distance(self._expected, [session.run(batch) for batch in self._probes])

    def _convert(self, way: Way, left_out: frozenset[str], path: Path) -> None:
        try:
            model = way.convert(self.source.copy(), left_out)
        except Exception as error:  # The tools raise whatever comes.
            raise BundleError(f"{way.name}: ONNX Runtime's tool could not convert the graph: {error}") from error
        write(model, path)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        path = self._folder / "scratch.onnx"
        try:
            yield path
        finally:
            for found in self._folder.glob("scratch.onnx*"):
                found.unlink()


def weight_of(path: Path) -> int:
    """Bytes of a graph, with the weights beside it."""
    return sum(found.stat().st_size for found in (path, path.with_name(f"{path.name}.data")) if found.is_file())
