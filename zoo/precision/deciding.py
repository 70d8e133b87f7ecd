"""Which of the candidates is kept: the fastest that loses no more than allowed on rows that nothing was chosen by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import structs

from zoo.bundle import Attempt, Quality
from zoo.errors import BundleError
from zoo.precision import judging, speed
from zoo.precision.graphs import weight_of
from zoo.precision.scores import Score
from zoo.precision.search import Candidate, Workbench
from zoo.precision.speed import Speed
from zoo.precision.ways import Precision, Way, ways_of
from zoo.precision.writing import Answer, answer
from zoo.runtime import BundleModel
from zoo.runtime.session import Device
from zoo.training.data import Rows

_CALIBRATED = 128  # rows
_PASSED = "passed, and another was faster"


@dataclass(frozen=True, slots=True)
class Wanted:
    """calibration: rows to find ranges on and to search by. test: rows to judge on, which nothing was chosen by.

    max_drop: of the task's metric; a share of fp32's value where the metric has no upper bound.
    device: where the bundle will run, and is measured.
    """

    precision: str
    calibration: Rows
    test: Rows
    max_drop: float = 0.01
    device: Device = "cpu"


@dataclass(frozen=True, slots=True)
class Kept:
    """quality: the figures. folder: of the reduced graphs; None for those of fp32, or where nothing passed.

    unsupported: the reason, where no way could be run at all.
    """

    quality: Quality
    precision: Precision = "fp32"
    folder: Path | None = None
    unsupported: str | None = None


@dataclass(frozen=True, slots=True)
class _Tried:
    """How a way ended on the rows of the search; no candidate where it can't be run."""

    way: Way
    verdict: str
    candidate: Candidate | None = None
    speed: Speed | None = None


def decide(reference: BundleModel, wanted: Wanted, work: Path) -> Kept:
    """Make what a precision means, and judge it.

    reference: the fp32 bundle, opened where the reduced one will run. work: an empty folder for files.
    """
    bench = Workbench(reference, wanted.calibration, work)
    ways = ways_of(wanted.precision, bench.graphs, lambda: bench.feeds(_CALIBRATED))
    timed = [answer(reference, batch) for batch in judging.timed(reference, wanted.test)]
    tried = [_try(bench, way, wanted, timed) for way in ways]
    base = _base(bench, wanted)
    if wanted.precision != "auto" and all(item.candidate is None for item in tried):
        return Kept(base, unsupported=_unsupported(wanted, tried))
    return _judge(bench, wanted, base, tried)


def _try(bench: Workbench, way: Way, wanted: Wanted, timed: Sequence[Answer]) -> _Tried:
    try:
        candidate = bench.search(way, wanted.max_drop)
        model = bench.open(candidate.folder)
        found = speed.measure(lambda one: one.by(bench.bundle), lambda one: one.by(model), timed)
    except BundleError as error:
        return _Tried(way, f"can't be run: {str(error.__cause__ or error).splitlines()[0]}")
    if not candidate.passed:
        return _Tried(way, "worse than allowed", candidate, found)
    return _Tried(way, _PASSED if found.faster else found.verdict(), candidate, found)


def _judge(bench: Workbench, wanted: Wanted, base: Quality, tried: list[_Tried]) -> Kept:
    """The fastest of those that passed and pass here, too: on rows that nothing was chosen by."""
    judge = judging.judge(bench.bundle, wanted.test)
    before = judge(bench.bundle)
    for place in sorted(range(len(tried)), key=lambda place: -_times(tried[place])):
        item, candidate = tried[place], tried[place].candidate
        if candidate is None or item.verdict != _PASSED:
            continue
        after = judge(bench.open(candidate.folder))
        if before.drop_to(after) > wanted.max_drop:
            worse = f"worse on the rows that judge: {after.value:.4f} after {before.value:.4f}"
            tried[place] = replace(item, verdict=worse)
            continue
        tried[place] = replace(item, verdict="kept")
        found = _figures(item.way.name, before, after, item.speed, candidate.bytes)
        found["left_out"] = candidate.left_out
        return Kept(_with(base, bench, tried, found), item.way.precision, candidate.folder)
    same = _figures("fp32", before, before, None, base.bytes_before) if wanted.precision == "auto" else {}
    return Kept(_with(base, bench, tried, same))


def _times(item: _Tried) -> float:
    return item.speed.times if item.speed is not None else 0.0


def _figures(way: str, before: Score, after: Score, speed: Speed | None, size: int) -> dict[str, Any]:
    drop = before.drop_to(after)
    return {
        "passed": True, "way": way, "before": before.value, "after": after.value, "drop": drop,
        "bytes_after": size, **_timed(speed),
    }  # fmt: skip


def _timed(speed: Speed | None) -> dict[str, Any]:
    if speed is None:
        return {"speed": 1.0}
    return {"speed": speed.times, "speed_between": (speed.low, speed.high)}


def _base(bench: Workbench, wanted: Wanted) -> Quality:
    return Quality(
        passed=False,
        way=None,
        metric=bench.before.metric,
        relative=bench.before.relative,
        max_drop=wanted.max_drop,
        rows=len(wanted.test),
        calibration_rows=len(wanted.calibration),
        device=wanted.device,
        bytes_before=weight_of(bench.bundle.folder, bench.bundle.card),
    )


def _with(base: Quality, bench: Workbench, tried: Sequence[_Tried], found: dict[str, Any]) -> Quality:
    return structs.replace(base, **found, tried=tuple(_attempt(bench, item) for item in tried))


def _attempt(bench: Workbench, item: _Tried) -> Attempt:
    found = item.candidate
    if found is None:
        return Attempt(way=item.way.name, verdict=item.verdict)
    return Attempt(
        way=item.way.name, verdict=item.verdict, before=bench.before.value, after=found.score.value,
        bytes=found.bytes, left_out=len(found.left_out), **_timed(item.speed),
    )  # fmt: skip


def _unsupported(wanted: Wanted, tried: Sequence[_Tried]) -> str:
    reasons = "; ".join(f"{item.way.name} {item.verdict}" for item in tried)
    return (
        f"precision={wanted.precision!r} is nothing for ONNX Runtime's {wanted.device} provider and this graph: "
        f"{reasons or 'it has no operator to convert'}."
    )
