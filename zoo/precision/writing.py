"""What fp32 writes, to be written again by another: the same steps of encoder and decoder, so that times compare."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, final

from zoo.inference import Batch
from zoo.modalities.base import Array
from zoo.runtime import BundleModel
from zoo.tasks.sequences import SequenceOptions, SequenceStepper


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to a batch: what goes through the graphs, or each step of what is written about it.

    steps: names and arguments of a `SequenceStepper`'s methods, as fp32 called for them; None of what writes nothing. A
    reduced model that ended its text early, or never, would else be timed on another work.
    """

    batch: Batch
    steps: tuple[tuple[str, tuple[Any, ...]], ...] | None = None

    def by(self, model: BundleModel) -> None:
        """Have a model give it."""
        if self.steps is None:
            model.forward(self.batch)
            return
        stepper = model.sequence_stepper()
        for name, arguments in self.steps:
            getattr(stepper, name)(*arguments)


def answer(model: BundleModel, batch: Batch) -> Answer:
    """What this model, which is fp32, does for a batch."""
    if not issubclass(model.task.options, SequenceOptions):
        return Answer(batch)
    noted = _Noted(model.sequence_stepper())
    writer = model.task.writer(model.encoder, noted, model.task.parse_options({"num_beams": 1}))
    assert writer is not None
    writer(batch)
    return Answer(batch, tuple(noted.steps))


@final
class _Noted:
    """A `SequenceStepper` that notes what it is asked for."""

    def __init__(self, stepper: SequenceStepper) -> None:
        self._stepper = stepper
        self.steps: list[tuple[str, tuple[Any, ...]]] = []

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        self.steps.append(("start", (dict(inputs), prompts.copy())))
        return self._stepper.start(inputs, prompts)

    def advance(self, tokens: Array) -> Array:
        self.steps.append(("advance", (tokens.copy(),)))
        return self._stepper.advance(tokens)

    def select(self, rows: Array) -> None:
        self.steps.append(("select", (rows.copy(),)))
        self._stepper.select(rows)
