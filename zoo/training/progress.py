"""How a run shows itself: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Mapping
from typing import Any, final

from zoo.training.watch import StepLoss


class Display(ABC):
    """What the loop tells. Abstract or final: `Silent`, `Lines`, `Bar`."""

    @abstractmethod
    def start(self, epochs: int, total: int, done: int) -> None:
        """epochs and optimiser steps of the whole run, and the steps that a resumed one has behind it."""

    @abstractmethod
    def step(self, seen: StepLoss) -> None: ...

    @abstractmethod
    def epoch(self, record: Mapping[str, Any], metric: str | None) -> None: ...

    @abstractmethod
    def say(self, text: str) -> None:
        """A line that stays."""

    @abstractmethod
    def close(self) -> None: ...


@final
class Silent(Display):
    """Nothing at all: progress=False, and every process but the main one."""

    def start(self, epochs: int, total: int, done: int) -> None:
        pass

    def step(self, seen: StepLoss) -> None:
        pass

    def epoch(self, record: Mapping[str, Any], metric: str | None) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class _Pace:
    """Samples a second and the seconds to go, since the start of this process."""

    def __init__(self, total: int, done: int) -> None:
        self._total = total
        self._first = done
        self._begun = time.perf_counter()
        self._samples = 0
        self._losses: deque[StepLoss] = deque(maxlen=20)

    def see(self, seen: StepLoss) -> None:
        self._samples += seen.note.samples
        self._losses.append(seen)

    @property
    def loss(self) -> float:
        """The mean over the last twenty steps."""
        weight = sum(seen.weight for seen in self._losses)
        return sum(seen.loss for seen in self._losses) / weight if weight else 0.0

    @property
    def rate(self) -> float:
        return self._samples / max(time.perf_counter() - self._begun, 1e-9)

    def remaining(self, step: int) -> float:
        gone = step - self._first
        return (time.perf_counter() - self._begun) / gone * (self._total - step) if gone > 0 else 0.0


@final
class Lines(Display):
    """One line about every tenth of an epoch, and one an epoch, to standard error."""

    def start(self, epochs: int, total: int, done: int) -> None:
        self._epochs = epochs
        self._total = total
        self._every = max(1, total // max(1, epochs) // 10)
        self._pace = _Pace(total, done)

    def step(self, seen: StepLoss) -> None:
        self._pace.see(seen)
        if seen.note.step % self._every == 0:
            pace, note = self._pace, seen.note
            self.say(
                f"epoch {note.epoch}/{self._epochs}  step {note.step}/{self._total}  loss {pace.loss:.4f}  "
                f"lr {note.rate:.2e}  {pace.rate:.1f} samples/s  {_clock(pace.remaining(note.step))} to go"
            )

    def epoch(self, record: Mapping[str, Any], metric: str | None) -> None:
        self.say(_summary(record, self._epochs, metric))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        pass


@final
class Bar(Display):
    """A live bar on a terminal; the lines of finished epochs stay above it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True)

    def start(self, epochs: int, total: int, done: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._epochs = epochs
        self._pace = _Pace(total, done)
        self._metric = ""
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[shown]}"),
            console=self._console, transient=True,
        )  # fmt: skip
        self._bar = self._progress.add_task(f"epoch 1/{epochs}", total=total, completed=done, shown="")
        self._progress.start()

    def step(self, seen: StepLoss) -> None:
        self._pace.see(seen)
        note, pace = seen.note, self._pace
        self._progress.update(
            self._bar,
            completed=note.step,
            description=f"epoch {note.epoch}/{self._epochs}",
            shown=f"loss {pace.loss:.4f}  {pace.rate:.1f}/s  {_clock(pace.remaining(note.step))}{self._metric}",
        )

    def epoch(self, record: Mapping[str, Any], metric: str | None) -> None:
        if metric is not None:
            self._metric = f"  {metric} {record[metric]:.4f}"
        self.say(_summary(record, self._epochs, metric))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def display(on: bool) -> Display:
    """The bar on a terminal, lines elsewhere, nothing when it is off."""
    if not on:
        return Silent()
    return Bar() if sys.stderr.isatty() else Lines()


def _summary(record: Mapping[str, Any], epochs: int, metric: str | None) -> str:
    names = ("train_loss", "val_loss", *([metric] if metric else []))
    values = "  ".join(f"{name} {record[name]:.4f}" for name in names if name in record)
    speed = f"{record['samples_per_second']:.1f} samples/s"
    return f"epoch {record['epoch']}/{epochs} done  {values}  {speed}  {_clock(record['seconds'])}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
