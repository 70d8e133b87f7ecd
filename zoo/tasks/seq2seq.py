"""What tasks with an encoder-decoder model share: prompts, teaching, losses, generation, metrics of texts.

A task composes these functions; `Summarization` is the shortest example. For another modality:

- `encode` gives each window `decoder_input_ids` beside the encoder's arrays, the prompt that its decoder begins with;
- `attach` uses `taught` with the target's token ids and that prompt;
- `collate` pads the decoder's tokens with `collated`, `unbatch` cuts them with `unbatched`;
- `options` are `SequenceOptions` or extend them, and `generations` says what the parity check tries;
- `writer` makes the forward function that generates. Its outputs are `generated`, one `Written` a row, for `decode`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Encoder, Example, pad
from zoo.modalities.target_text import TargetText
from zoo.report import Report
from zoo.results import Generation
from zoo.tasks.arrays import log_softmax
from zoo.tasks.base import IGNORE, Outputs, Scorer
from zoo.tasks.sequences import Made, SequenceOptions, SequenceStepper, Settings, drained, settings, step_by_step

PROMPT = "decoder_input_ids"
GENERATED = "generated"
# Positions that are counted at once: 64 x 250,000 logits as float64 are 128 MB.
_CHUNK = 64


class Writes(Protocol):
    """An encoder of inputs whose model writes text."""

    @property
    def target(self) -> TargetText: ...


class HasExamples(Protocol):
    """A `zoo.inference.Batch`, as far as it is needed here."""

    @property
    def inputs(self) -> dict[str, Array]: ...
    @property
    def examples(self) -> Sequence[Example]: ...


@dataclass(frozen=True, slots=True)
class Written:
    """A generated text with its tokens."""

    text: str
    made: Made


@dataclass(frozen=True, slots=True)
class Reference:
    """`Example.source` of a labelled row: the input's own source, the text that should be written, and how many of
    the decoder's tokens are the prompt."""

    source: Any
    text: str
    prompt: int


def prompted(windows: Sequence[Example], prompt: Sequence[int]) -> list[Example]:
    """The windows with the tokens that the decoder begins with: int64 `decoder_input_ids [P]`."""
    tokens = np.array(prompt, dtype=np.int64)
    return [replace(window, inputs={**window.inputs, PROMPT: tokens}) for window in windows]


def taught(window: Example, labels: Array, text: str) -> Example:
    """A prompted window with the tokens it should write: the decoder sees each label but the last before the next.

    labels: int64 `[L]`, what follows the prompt's first token, language and end included. As upstream's shift of the
    labels to the right. The prompt's further tokens are replaced by the labels, which begin with them.
    """
    shifted = np.concatenate([window.inputs[PROMPT][:1], labels[:-1]])
    return replace(
        window,
        inputs={**window.inputs, PROMPT: shifted},
        targets={"labels": labels},
        source=Reference(window.source, text, len(window.inputs[PROMPT])),
    )


def collated(encoder: Encoder, examples: Sequence[Example], pad_id: int) -> dict[str, Array]:
    """The encoder's arrays and int64 `decoder_input_ids [B, L]`, padded on the right."""
    return {**encoder.collate(examples), PROMPT: pad([e.inputs[PROMPT] for e in examples], pad_id)}


def unbatched(outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
    """One mapping a window: logits of its own decoder tokens, hidden states of its own input."""
    rows = []
    for i, example in enumerate(examples):
        row = {name: array[i] for name, array in outputs.items()}
        if "logits" in row:
            row["logits"] = row["logits"][: len(example.inputs[PROMPT])]
        mask = example.inputs.get("attention_mask")
        if "encoder_hidden" in row and mask is not None:
            row["encoder_hidden"] = row["encoder_hidden"][: len(mask)]
        rows.append(row)
    return rows


@final
class Writing:
    """A forward function that gives `generated`, an object array `[B]` of `Written`: a `zoo.tasks.base.Writer`."""

    def __init__(self, stepper: SequenceStepper, target: TargetText, chosen: Settings, eos_id: int | None) -> None:
        self._stepper = stepper
        self._target = target
        self._settings = chosen
        self._eos_id = eos_id

    def __call__(self, batch: HasExamples) -> dict[str, Array]:
        found = np.empty(len(batch.examples), dtype=object)
        for rows in _by_prompt(batch.examples):
            for row, made in zip(rows, drained(self._steps(batch, rows)), strict=True):
                found[row] = Written(self._target.text(made.tokens), made)
        return {GENERATED: found}

    def stream(self, batch: HasExamples) -> Generator[str, None, dict[str, Array]]:
        check_streamed(self._settings)
        return self._texts(batch)

    def _texts(self, batch: HasExamples) -> Generator[str, None, dict[str, Array]]:
        steps = self._steps(batch, [0])
        while True:
            try:
                (tokens,) = next(steps)
            except StopIteration as end:
                (made,) = end.value
                break
            yield self._target.text(tokens)
        found = np.empty(1, dtype=object)
        found[0] = Written(self._target.text(made.tokens), made)
        return {GENERATED: found}

    def _steps(self, batch: HasExamples, rows: list[int]) -> Generator[list[tuple[int, ...]], None, list[Made]]:
        inputs = {name: array[rows] for name, array in batch.inputs.items() if name != PROMPT}
        prompts = np.stack([_prompt(batch.examples[row]) for row in rows])
        return step_by_step(self._stepper, inputs, prompts, self._settings, eos_id=self._eos_id)


def check_streamed(settings: Settings) -> None:
    """Raises ConfigError for settings whose text is known at its end alone."""
    if settings.num_beams > 1:
        raise ConfigError(
            f"num_beams is {settings.num_beams}, and which beam wins is known at the end alone. Stream with "
            "num_beams=1, or use predict()."
        )


def _prompt(example: Example) -> Array:
    """Of a taught window, what comes before that which it should find."""
    tokens = example.inputs[PROMPT]
    return tokens[: example.source.prompt] if isinstance(example.source, Reference) else tokens


def _by_prompt(examples: Sequence[Example]) -> list[list[int]]:
    """Rows whose prompts are equally long, together: the decoder pads nothing on the left."""
    groups: dict[int, list[int]] = {}
    for row, example in enumerate(examples):
        groups.setdefault(len(_prompt(example)), []).append(row)
    return list(groups.values())


def resolved(options: SequenceOptions, own: Mapping[str, Any], longest: int) -> Settings:
    """The settings of one call, within what the decoder can write. longest: tokens, the prompt not counted."""
    found = settings(options, own)
    if found.max_new_tokens > longest:
        if options.max_new_tokens is not None:
            raise ConfigError(f"max_new_tokens is {options.max_new_tokens}; this model writes up to {longest}.")
        found = replace(found, max_new_tokens=longest, min_new_tokens=min(found.min_new_tokens, longest))
    return found


def read(outputs: Sequence[Outputs]) -> Any:
    """A row's windows as one `Generation`; of outputs without a text the last token's logits, float32 `[V]`."""
    if GENERATED not in outputs[0]:
        return np.asarray(outputs[-1]["logits"][-1], dtype=np.float32)
    parts: list[Any] = [output[GENERATED] for output in outputs]
    made = [part.made for part in parts]
    return Generation(
        text=" ".join(part.text for part in parts),
        tokens=tuple(token for one in made for token in one.tokens),
        finish_reason=made[-1].finish_reason,
        score=sum(one.score for one in made) / len(made),
    )


class TextMetric(Protocol):
    """A metric of generated texts, as a stream."""

    def update(self, reference: str, text: str) -> None: ...
    def compute(self) -> dict[str, float]: ...


@final
class SequenceScorer(Scorer):
    """loss (nats a token), perplexity and token_accuracy of taught tokens; metrics of texts where they were generated.

    metric: made when the first generated text comes, because its library need not be there without.
    """

    def __init__(self, task: str, metric: Callable[[], TextMetric]) -> None:
        self._task = task
        self._make = metric
        self._metric: TextMetric | None = None
        self._loss = 0.0
        self._tokens = 0
        self._right = 0
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        for output, window in zip(outputs, windows, strict=True):
            labels = window.targets["labels"]
            for start in range(0, len(labels), _CHUNK):
                self._count(output["logits"][start : start + _CHUNK], labels[start : start + _CHUNK])
        self._rows += 1
        if GENERATED in outputs[0]:
            self._metric = self._metric or self._make()
            text = " ".join(output[GENERATED].text for output in outputs)  # type: ignore[attr-defined]
            self._metric.update(windows[0].source.text, text)

    def compute(self) -> Report:
        tokens = max(self._tokens, 1)
        loss = self._loss / tokens
        metrics = {
            **(self._metric.compute() if self._metric is not None else {}),
            # exp of more than 709 does not fit a float.
            "perplexity": math.exp(loss) if loss < 709 else math.inf,
            "loss": loss,
            "token_accuracy": self._right / tokens,
        }
        return Report(task=self._task, metrics=metrics, rows=self._rows)

    def _count(self, logits: Array, labels: Array) -> None:
        counted = labels != IGNORE
        scores = log_softmax(logits[counted].astype(np.float64))
        expected = labels[counted]
        self._loss -= float(scores[np.arange(len(expected)), expected].sum())
        self._right += int((scores.argmax(axis=-1) == expected).sum())
        self._tokens += len(expected)


def target_text(target: Any) -> str:
    """Raises DataError for a target that is no text, or an empty one."""
    if not isinstance(target, str):
        raise DataError(f"a text is expected as target, not {type(target).__name__} {str(target)[:60]!r}")
    if not target.strip():
        raise DataError("the target is empty")
    return target
