"""What an answer means: targets, loss, metrics, decoding. Torch is seen inside `loss` alone."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from zoo.errors import ConfigError, InputError, suggest
from zoo.modalities.base import Array, Encoder, Example, pad
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.report import Report
    from zoo.spec import ModelSpec

Outputs = Mapping[str, Array]
IGNORE = -100  # torch's own default for positions that count for nothing


@dataclass(frozen=True, slots=True)
class LossOptions:
    """label_smoothing in [0, 1); class_weights: float32 [C] in the order of the labels, or None; focal: gamma, or
    None for cross-entropy as it is."""

    label_smoothing: float = 0.0
    class_weights: Array | None = None
    focal: float | None = None


@dataclass(frozen=True, slots=True)
class NoOptions:
    """A task whose `predict` takes no options of its own."""


class Scorer(ABC):
    """Metrics as a stream: what it holds grows with the number of classes, not of logits."""

    @abstractmethod
    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        """Count one row: the outputs of all its windows, and the windows with their targets."""

    @abstractmethod
    def compute(self) -> Report: ...


class Writer(Protocol):
    """A forward function that generates: a batch in, outputs with `generated` out."""

    def __call__(self, batch: Any) -> dict[str, Array]: ...

    def stream(self, batch: Any) -> Generator[str, None, dict[str, Array]]:
        """Of a batch of one row the text so far, each time there is more of it; then its outputs.

        Raises ConfigError, before the first piece, for options whose text is known at its end alone.
        """
        ...


class Task(ABC):
    """What an answer means. Concrete tasks are final; they share functions, not a parent.

    A batch of module outputs becomes one mapping a window by `unbatch`; windows of a row go together
    into `decode` and `Scorer.update`.
    """

    name: ClassVar[str]
    modalities: ClassVar[tuple[str, ...]]
    output: ClassVar[str] = "logits"
    columns: tuple[str, str | None]  # the input's and the target's column in a table: ("text", "label")
    more_inputs: ClassVar[tuple[str, ...]] = ()  # further columns of the input, which is then a dict by column
    optional_inputs: ClassVar[tuple[str, ...]] = ()  # further ones that are used where the data has them
    other_targets: ClassVar[tuple[tuple[str, ...], ...]] = ()  # columns that may hold the target instead
    metric: str  # the one that early stopping and the best epoch look at
    higher_is_better: bool = True
    needs_labels: ClassVar[bool] = True
    overlap: ClassVar[float] = 0.0  # of neighbouring windows at prediction
    options: ClassVar[type[Any]] = NoOptions  # a frozen dataclass: what predict() takes beside batch_size and on_error
    sample_options: ClassVar[Mapping[str, Any]] = {}  # what predict() needs beside `samples`, in the parity check
    # The task writes: its `GenerateOptions` or `SequenceOptions` that the parity check tries, one by one.
    generations: ClassVar[tuple[Mapping[str, Any], ...]] = ()
    packs: ClassVar[bool] = False  # whether texts may be trained on one after another in one window
    network: ClassVar[str | None] = None  # another task, whose network and labels this one asks in its own way
    trainable: ClassVar[bool] = True  # False: for prediction alone
    ragged: ClassVar[tuple[str, ...]] = ()  # inputs that `collate` adds whose second axis is of any length
    joint: ClassVar[bool] = False  # True: the loss of a row depends on the other rows of its batch
    matches: ClassVar[bool] = False  # True: an input is held against texts, whose vectors stand beside its outputs
    windowed: ClassVar[bool] = True  # False: an input longer than the model can see is refused

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        self.spec = spec
        self.labels = labels
        self.index = {label: i for i, label in enumerate(labels)}

    @classmethod
    @abstractmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """The labels that these targets need, in a stable order."""

    @abstractmethod
    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        """The windows of one row with `targets`. Raises DataError for a target that can't be used."""

    @abstractmethod
    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        """The loss summed over what `weight` counts: a float32 scalar."""

    @abstractmethod
    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        """What the summed loss is divided by: rows, tokens, or the sum of their class weights.

        Known before the forward pass, so that accumulated batches divide by the whole step's weight and
        equal one large batch even when rows are ragged.
        """

    @abstractmethod
    def scorer(self) -> Scorer: ...

    @abstractmethod
    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        """The outputs of all windows of one row as one result. options: an instance of `self.options`."""

    @abstractmethod
    def same(self, a: Any, b: Any) -> bool:
        """Whether two results are the same answer, whatever their scores: what the parity check counts."""

    def samples(self) -> list[Any]:
        """Raw inputs of ragged size, as predict() takes them, the same on every machine: what parity is checked on."""
        return samples_of(self.spec)

    def traced(self) -> list[Any]:
        """Raw inputs that export traces, as `probe` takes them; of every kind that the network has a graph for."""
        return self.samples()

    @classmethod
    def parse_options(cls, given: Mapping[str, Any]) -> Any:
        """predict()'s own options as the task's dataclass, or ConfigError that names the right one."""
        allowed = [item.name for item in fields(cls.options)]
        for name in given:
            if name not in allowed:
                raise ConfigError(
                    f"predict() of {cls.name} has no option {name!r}.{suggest(name, allowed)} "
                    f"It takes: {', '.join(allowed) or 'none of its own'}."
                )
        return cls.options(**given)

    def collate_targets(self, examples: Sequence[Example]) -> dict[str, Array]:
        """Targets as arrays `[B, ...]`, ragged ones padded with -100 on the side where the inputs are."""
        out: dict[str, Array] = {}
        for name in examples[0].targets:
            rows = [np.asarray(example.targets[name]) for example in examples]
            out[name] = pad(rows, IGNORE, left=self.left_padded) if rows[0].ndim else np.stack(rows)
        return out

    def collate(self, encoder: Encoder, examples: Sequence[Example]) -> dict[str, Array]:
        """The module's inputs `[B, ...]`: the encoder's, and what the task itself adds to them (a decoder's tokens)."""
        return encoder.collate(examples)

    def probe(self, encoder: Encoder, raw: Any, options: Any) -> list[Example]:
        """The windows that export traces and the parity check compares: as predict() sees them, unless a decoder
        needs something to be taught on."""
        return self.encode(encoder, raw, options)

    def writer(self, encoder: Encoder, stepper: Any, options: Any) -> Writer | None:
        """For a task that writes with an encoder-decoder model: the forward function that generates, or None.

        stepper: a `zoo.tasks.sequences.SequenceStepper`. options: an instance of `self.options`.
        """
        return None

    def judged_by(self, metrics: Mapping[str, Any]) -> tuple[str, bool]:
        """Which of these metrics the best epoch is chosen by, and whether higher is better."""
        return self.metric, self.higher_is_better

    @property
    def left_padded(self) -> bool:
        return getattr(self.spec.input, "padding_side", "right") == "left"

    @property
    def width(self) -> int:
        """Numbers that the module answers for each unit of an example's length: what outputs cost in memory."""
        return 1

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        """Outputs `[B, ...]` as one mapping a window. Tasks with a length axis cut the padding off."""
        return [{name: array[i] for name, array in outputs.items()} for i in range(len(examples))]

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        """The windows of one raw input, or InputError when it is longer than a task without windows allows.

        options: an instance of `self.options`, for a task whose windows depend on what predict() was asked; None
        where nothing was asked.
        """
        windows = encoder.encode(self.checked(raw), overlap=self.overlap if self.windowed else 0.0)
        if len(windows) > 1 and not self.windowed:
            raise InputError(
                f"{encoder.describe(raw)} is longer than the model can see, and {self.name} can't be done in windows. "
                "Shorten it."
            )
        return windows

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        """The windows of one labelled row, for training and evaluation.

        A text that `encode` refuses as too long for one answer is cut into windows here: its tokens are
        counted one by one.
        """
        return self.attach(self.windows(encoder, raw), target)

    def windows(self, encoder: Encoder, raw: Any) -> list[Example]:
        """All windows of one raw input, also where `encode` refuses more than one."""
        return encoder.encode(self.checked(raw), overlap=self.overlap)

    def prepare(self, encoder: Encoder, windows: Sequence[Example]) -> list[Example]:
        """Windows as `attach` takes them."""
        return list(windows)

    def checked(self, raw: Any) -> Any:
        """A raw input as it came, or InputError for a pair of texts where the task is of one."""
        if isinstance(raw, Mapping) and "text_pair" in raw and "text_pair" not in self.optional_inputs:
            raise InputError(f"{self.name} is of one text, and a pair of texts came. Give one text.")
        return raw
