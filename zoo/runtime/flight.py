"""Texts of many callers, written together: each joins between two tokens, and leaves when it has ended.

Continuous batching, after Orca (OSDI 2022): a step reads the weights once for all texts, and none waits for another's
end. Each has its own options, and the same tokens as alone, but for the rounding of a larger batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, final

import numpy as np

from zoo.inference import limits_of
from zoo.modalities.base import Array, Example
from zoo.results import Generation, RowError
from zoo.tasks.generation import Generated, GenerateOptions, Row, begun, further, most_probable, narrow
from zoo.tasks.steppers import Stepper

# Tokens, padded, that are read at once while others wait: what a batch of texts may cost.
_PROMPTS = limits_of("auto", "text", writing=True).cost or 2048


class Joinable(Stepper, Protocol):
    """A stepper whose rows others can join."""

    def join(self, other: Any) -> None:
        """The rows of another of its kind, which has read its prompts, come behind these."""


@dataclass(slots=True, eq=False)
class Passenger:
    """A prompt with its text so far. failed: why there is no more of it."""

    window: Example
    row: Row
    failed: Exception | None = None
    left: bool = False

    @property
    def going(self) -> bool:
        return self.row.finished is None and self.failed is None and not self.left


@final
class Flight:
    """All texts that are being written. One thread at a time.

    make: a stepper without rows. prompt: of `(row, raw input, options, on_error)`, as `Predictor` has it. result: of
    `(window, tokens, options)`.
    """

    def __init__(
        self,
        make: Callable[[], Joinable],
        prompt: Callable[[int, Any, GenerateOptions, Any], Any],
        result: Callable[[Example, Generated, GenerateOptions], Generation],
        *,
        eos_id: int | None,
        pad_id: int,
        decode: Callable[[Array], str],
    ) -> None:
        self._make = make
        self._prompt = prompt
        self._result = result
        self._eos_id = eos_id
        self._pad_id = pad_id
        self._decode = decode
        self._stepper: Joinable | None = None
        self._aboard: list[Passenger] = []
        self._joining: list[Passenger] = []

    @property
    def busy(self) -> bool:
        """Whether it holds texts; the next turn lets go of those that nobody waits for."""
        return self._stepper is not None or bool(self._joining)

    def ticket(
        self, row: int, raw: Any, options: GenerateOptions, on_error: Literal["raise", "return"] = "return"
    ) -> Passenger | RowError:
        """A prompt that has not begun, or why it can't. on_error: as of `predict`."""
        found = self._prompt(row, raw, options, on_error)
        if isinstance(found, RowError):
            return found
        window: Example = found[0]
        return Passenger(window, Row(window.inputs["input_ids"], options, self._eos_id, self._decode))

    def result(self, one: Passenger) -> Generation:
        """Of a passenger that has ended."""
        return self._result(one.window, one.row.result(), one.row.options)

    def turn(self, joining: Sequence[Passenger] = ()) -> None:
        """A token more of every text, or several of one that is alone; of some that join, in their order, the first.
        Raises nothing: what goes wrong with a text is its `failed`, and with a step that of all in it."""
        self._joining += joining
        self._land()
        if self._stepper is not None:
            try:
                self._advance(self._stepper)
            except Exception as error:
                _fail(self._aboard, error)
        self._board()
        if not any(one.going for one in self._aboard):
            self._land()

    def clear(self) -> None:
        """Let go of everything."""
        self._stepper, self._aboard, self._joining = None, [], []

    def _advance(self, stepper: Joinable) -> None:
        narrow(stepper, [one.row for one in self._aboard])
        if len(self._aboard) == 1:
            (one,) = self._aboard
            if (token := further(one.row, stepper)) is not None:
                one.row.take(token)
            return
        tokens = np.array([one.row.tokens[-1] for one in self._aboard], dtype=np.int64)
        _take(self._aboard, stepper.advance(tokens))

    def _land(self) -> None:
        """Those that have ended get off."""
        going = [place for place, one in enumerate(self._aboard) if one.going]
        if self._stepper is not None and 0 < len(going) < len(self._aboard):
            try:
                self._stepper.select(np.array(going, dtype=np.int64))
            except Exception as error:
                _fail(self._aboard, error)
                going = []
        self._aboard = [self._aboard[place] for place in going]
        if not going:
            self._stepper = None

    def _board(self) -> None:
        """Read as many prompts as make a batch: the texts that are being written wait for it."""
        self._joining = [one for one in self._joining if one.going]
        group: list[Passenger] = []
        longest = 0
        for one in self._joining:
            longest = max(longest, one.window.length)
            if group and (len(group) + 1) * longest > _PROMPTS:
                break
            group.append(one)
        self._joining = self._joining[len(group) :]
        if group and not self._read(group) and len(group) > 1:
            # One text's fault must not be another's.
            for one in group:
                one.failed = None
                self._read([one])

    def _read(self, group: Sequence[Passenger]) -> bool:
        """Whether these have joined the others."""
        try:
            stepper = self._make()
            logits = begun([one.row for one in group], stepper, self._pad_id)
            self._land()
            if self._stepper is None:
                self._stepper = stepper
            else:
                self._stepper.join(stepper)
        except Exception as error:
            _fail(group, error)
            return False
        self._aboard = [*self._aboard, *group]
        _take(group, logits)
        return True


def _take(rows: Sequence[Passenger], found: Array) -> None:
    best = most_probable(found)
    for one, logits, token in zip(rows, found, best, strict=True):
        try:
            one.row.take(int(token) if one.row.options.greedy else one.row.draw(logits))
        except Exception as error:
            one.failed = error


def _fail(rows: Sequence[Passenger], error: Exception) -> None:
    for one in rows:
        one.failed = one.failed or error
