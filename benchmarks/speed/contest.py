"""Contestants side by side on the same work: compared first, then timed in turn, each in a process of its own.

Processes of their own, so that no one's imports, thread pools or memory are another's. A contestant whose answers are
further from the first one's than its tolerance is refused before anything is timed, and when a later answer does.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from benchmarks.speed.answers import Answer, Distance, distance, tells

ROOT = Path(__file__).resolve().parents[2]
# Of the session that measures: they would be a handicap, or reach for a hub.
_DROPPED = ("PYTHONDONTWRITEBYTECODE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONPATH")
# Importing takes one core, and more at once would take memory.
_AHEAD = 2
_SET = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true", "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, slots=True)
class Contestant:
    """start: `module:function` that gives a `Ready`; arguments: its own, as JSON has them.

    tolerance: how far numbers may be from the first contestant's; None where a difference is the price, as of int8: it
        is written down and not judged.
    left_out: why it can't take part; it is not started then.
    """

    name: str
    start: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    ours: bool = False
    tolerance: float | None = 1e-3
    python: Path | None = None
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Contest:
    """name: what is done. items: how many of `unit` one run handles. The first contestant is the reference, of answers
    and of ratios. told: whether its answers must differ from item to item."""

    name: str
    items: float
    unit: str
    contestants: Sequence[Contestant]
    told: bool = True
    judged: bool = True
    gflop: float | None = None
    gb: float | None = None


class Refused(Exception):
    """Its answers are not the reference's."""


class Failed(Exception):
    """It ended; the last line that it wrote."""


class Running(Protocol):
    """A contestant that runs. Raises Failed where it does no more."""

    def first(self) -> Answer:
        """Wait until it has loaded and answered once."""

    def run(self) -> tuple[Answer, dict[str, float]]:
        """Answer once more: the answer, and its figures with `seconds` and `peak_mb` among them."""

    def close(self) -> None: ...


Start = Callable[[Contestant, Path], Running]
"""Gets a file for what the contestant writes, too."""


class Process:
    """A contestant in a process of its own."""

    def __init__(self, contestant: Contestant, log: Path) -> None:
        self._log = log
        command = [
            str(contestant.python or sys.executable), "-m", "benchmarks.speed.contestant", contestant.start,
            json.dumps(contestant.arguments),
        ]  # fmt: skip
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                command, cwd=ROOT, env=surroundings(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=file,
                text=True,
            )  # fmt: skip

    def first(self) -> Answer:
        return self._read()[0]

    def run(self) -> tuple[Answer, dict[str, float]]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(self._last_line()) from error
        return self._read()

    def _read(self) -> tuple[Answer, dict[str, float]]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait()
            raise Failed(self._last_line())
        said = json.loads(line)
        return Answer(said["exact"], said["numbers"]), said["figures"]

    def _last_line(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return lines[-1] if lines else f"it ended with {self._process.returncode} and said nothing"

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


def surroundings() -> dict[str, str]:
    """The environment of a contestant, and of what it starts."""
    return {**{name: value for name, value in os.environ.items() if name not in _DROPPED}, **_SET}


def hold(contest: Contest, rounds: int, tell: Callable[[str], None], start: Start = Process) -> dict[str, Any]:
    """All contestants in turn, so many times, and a row for each of them.

    tell: gets a line for every contestant that starts or is refused, and for every round.
    Raises RuntimeError where the reference itself does not answer, or answers every item alike.
    """
    rows: dict[str, dict[str, Any]] = {c.name: {"name": c.name, "ours": c.ours} for c in contest.contestants}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        entered = _enter(contest, Path(name), stack, rows, tell, start)
        timed = _rounds(entered, rounds, rows, tell, judged=contest.judged)
    reference = timed[contest.contestants[0].name]
    for name, figures in timed.items():
        rows[name].update(summary(figures, reference, contest.items))
    costs = {name: value for name in ("gflop", "gb") if (value := getattr(contest, name)) is not None}
    return {"name": contest.name, "items": contest.items, "unit": contest.unit, **costs, "rows": list(rows.values())}


@dataclass(slots=True)
class _Entered:
    """Who takes part, by name, and the reference's answer."""

    running: dict[str, tuple[Contestant, Running]]
    reference: Answer


def _enter(
    contest: Contest, folder: Path, stack: ExitStack, rows: dict[str, dict[str, Any]], tell: Callable[[str], None],
    start: Start,
) -> _Entered:  # fmt: skip
    running: dict[str, tuple[Contestant, Running]] = {}
    reference: Answer | None = None
    for contestant, process in _started(contest, folder, stack, rows, tell, start):
        try:
            answer = process.first()
            if reference is None:
                reference = _told(contest, answer)
            rows[contestant.name].update(_judged(contestant, reference, answer))
        except (Failed, Refused) as reason:
            if reference is None:
                raise RuntimeError(f"{contestant.name}, the reference of {contest.name}, failed: {reason}") from None
            _out(rows[contestant.name], reason, tell)
            process.close()
            continue
        running[contestant.name] = (contestant, process)
    if reference is None:
        raise RuntimeError(f"{contest.name}: its first contestant is left out, and so there is no reference.")
    return _Entered(running, reference)


def _started(
    contest: Contest, folder: Path, stack: ExitStack, rows: dict[str, dict[str, Any]], tell: Callable[[str], None],
    start: Start,
) -> Iterator[tuple[Contestant, Running]]:  # fmt: skip
    """All that take part. While one answers for the first time, which nobody times, the next ones import and load."""
    loading: deque[tuple[Contestant, Running]] = deque()
    for place, contestant in enumerate(contest.contestants):
        if contestant.left_out:
            rows[contestant.name]["left_out"] = contestant.left_out
            tell(f"{contestant.name} is left out: {contestant.left_out}")
            continue
        process = start(contestant, folder / f"{place}.log")
        stack.callback(process.close)
        loading.append((contestant, process))
        if len(loading) > _AHEAD:
            yield loading.popleft()
    yield from loading


def _told(contest: Contest, answer: Answer) -> Answer:
    tolerance = contest.contestants[0].tolerance or 0.0
    if contest.told and not tells(answer, tolerance):
        raise RuntimeError(
            f"{contest.name}: the reference answers every item alike, so that no answer proves anything."
        )
    return answer


def _judged(contestant: Contestant, reference: Answer, answer: Answer) -> dict[str, float]:
    found: Distance = distance(reference, answer)
    if contestant.tolerance is not None and not found.within(contestant.tolerance):
        raise Refused(f"{found} as the reference's; {contestant.tolerance:.2g} and all are allowed")
    return {"difference": found.difference, "same": found.same}


def _out(row: dict[str, Any], reason: Failed | Refused, tell: Callable[[str], None]) -> None:
    kind = "refused" if isinstance(reason, Refused) else "failed"
    row[kind] = str(reason)
    tell(f"{row['name']} {'is refused' if kind == 'refused' else 'failed'}: {reason}")


def _rounds(
    entered: _Entered, rounds: int, rows: dict[str, dict[str, Any]], tell: Callable[[str], None], *, judged: bool
) -> dict[str, list[dict[str, float]]]:
    """The figures of every round, by name. Every other round goes the other way about."""
    timed: dict[str, list[dict[str, float]]] = {name: [] for name in entered.running}
    for turn in range(rounds):
        for name in list(timed) if turn % 2 == 0 else list(timed)[::-1]:
            contestant, process = entered.running[name]
            try:
                answer, figures = process.run()
                if judged:
                    _judged(contestant, entered.reference, answer)
            except (Failed, Refused) as reason:
                del timed[name]
                _out(rows[name], reason, tell)
                process.close()
                continue
            timed[name].append(figures)
        tell(f"round {turn + 1} of {rounds}")
    return timed


def summary(
    figures: Sequence[Mapping[str, float]], reference: Sequence[Mapping[str, float]], items: float
) -> dict[str, Any]:
    """times: how many times as quick as the reference, round by round. Other figures: their medians."""
    seconds = [run["seconds"] for run in figures]
    ratios = [run["seconds"] / own for run, own in zip(reference, seconds, strict=True)]
    others = {key for run in figures for key in run} - {"seconds", "peak_mb"}
    return {
        "seconds": spread(seconds),
        "per_second": items / statistics.median(seconds),
        "times": spread(ratios),
        "peak_mb": max(run["peak_mb"] for run in figures),
        **{key: spread([run[key] for run in figures]) for key in sorted(others)},
    }


def spread(values: Iterable[float]) -> dict[str, float]:
    found = list(values)
    return {"median": statistics.median(found), "min": min(found), "max": max(found)}
