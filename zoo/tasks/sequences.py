"""Generation by encoder-decoder models, in NumPy: greedy, by drawing, or with beams.

The encoder runs once an input; the decoder goes on from a prompt, token by token. Options have transformers' names
and meanings, and the tokens are those of its `model.generate`.

Another modality uses this as text does: its task gives `inputs` as its encoder's arrays (a spectrogram
`input_features [B, 80, 3000]`) and a decoder prompt for each row (`decoder_input_ids`, of one length in a batch), and
has `SequenceOptions`, or a dataclass that extends them, as its `options`. See `zoo.tasks.seq2seq`.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, Protocol, TypeVar

import numpy as np

from zoo.errors import ConfigError, ZooError
from zoo.modalities.base import Array
from zoo.tasks.arrays import log_softmax
from zoo.tasks.beams import Beams
from zoo.tasks.generation import GenerateOptions, next_token
from zoo.tasks.processors import process

EarlyStopping = bool | Literal["never"]
_T = TypeVar("_T")


class Rule(Protocol):
    """What a model's own grammar makes of the next token's scores, after all other processors."""

    def __call__(self, scores: Array, tokens: Array) -> Array:
        """scores: float `[V]`; tokens: int64 `[T]`, written so far, the prompt left out. Returns a changed copy."""


@dataclass(frozen=True, slots=True)
class Settings:
    """`SequenceOptions` with every value known: the caller's, else the model's own, else these.

    Token ids: bad_words_ids are sequences that may not come, suppress_tokens single ones, begin_suppress_tokens
    single ones at the beginning; forced_bos_token_id is the first token, forced_eos_token_id the last one when
    max_new_tokens is reached. rule: of the task, no option.
    """

    max_new_tokens: int = 128
    min_new_tokens: int = 0
    num_beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    no_repeat_ngram_size: int = 0
    repetition_penalty: float = 1.0
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    bad_words_ids: tuple[tuple[int, ...], ...] = ()
    suppress_tokens: tuple[int, ...] = ()
    begin_suppress_tokens: tuple[int, ...] = ()
    rule: Rule | None = None

    def __post_init__(self) -> None:
        for name in ("suppress_tokens", "begin_suppress_tokens"):
            object.__setattr__(self, name, tuple(int(token) for token in getattr(self, name) or ()))
        bad = tuple(tuple(int(token) for token in words) for words in self.bad_words_ids or ())
        object.__setattr__(self, "bad_words_ids", bad)
        # Those that a language model has too are checked where they are said.
        self.drawing()
        _require(_whole(self.min_new_tokens, 0), "min_new_tokens", self.min_new_tokens, "a whole number, 0 for none")
        _require(_whole(self.num_beams, 1), "num_beams", self.num_beams, "a positive whole number, 1 for no beams")
        _require(_number(self.length_penalty), "length_penalty", self.length_penalty, "a number, above 0 for longer")
        allowed = self.early_stopping in (True, False, "never")
        _require(allowed, "early_stopping", self.early_stopping, 'True, False or "never"')
        size = self.no_repeat_ngram_size
        _require(_whole(size, 0), "no_repeat_ngram_size", size, "a whole number, 0 for none")
        _require(all(self.bad_words_ids), "bad_words_ids", self.bad_words_ids, "sequences of token ids, none empty")
        if self.min_new_tokens > self.max_new_tokens:
            raise ConfigError(f"min_new_tokens is {self.min_new_tokens}, and max_new_tokens {self.max_new_tokens}.")
        if self.num_beams > 1 and self.do_sample:
            raise ConfigError("do_sample draws tokens and num_beams searches for the best ones; use one of them.")

    def drawing(self) -> GenerateOptions:
        """The options of choosing one token out of scores that are processed already."""
        # The repetition penalty is checked here, and applied by `process`.
        return GenerateOptions(
            self.max_new_tokens, self.do_sample, self.temperature, self.top_k, self.top_p, self.repetition_penalty,
            self.seed,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class SequenceOptions:
    """How a sequence is generated. None: what the model's own configuration says (`spec.decoder.generation`).

    max_new_tokens, min_new_tokens: at most, at least so many.
    num_beams: how many sequences are followed at once; 1 takes the likeliest token each time. length_penalty: scores
    of sequences are divided by their length to this power. early_stopping: True ends with num_beams sequences, False
    when no better one is likely, "never" when none is possible.
    no_repeat_ngram_size: no run of so many tokens comes twice. repetition_penalty, do_sample, temperature, top_k,
    top_p, seed: as of a language model (`GenerateOptions`).
    forced_bos_token_id, forced_eos_token_id, bad_words_ids, suppress_tokens, begin_suppress_tokens: token ids that
    must or may not come.
    truncation: cut an input that is longer than the model can see, instead of refusing it.
    """

    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None
    no_repeat_ngram_size: int | None = None
    repetition_penalty: float | None = None
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    truncation: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.truncation, bool):
            raise ConfigError(f"truncation is {self.truncation!r}; give True or False.")
        # Wrong values are found when the options are made, not with the first input.
        settings(self, {})


def settings(options: SequenceOptions, own: Mapping[str, Any]) -> Settings:
    """own: the model's own options by name. Raises ConfigError."""
    names = [item.name for item in fields(Settings) if item.name != "rule"]
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    found = {**{name: value for name, value in own.items() if name in names}, **given}
    if "do_sample" in given and given["do_sample"] and "num_beams" not in given:
        found["num_beams"] = 1
    if "max_new_tokens" in given and "min_new_tokens" not in given:
        found["min_new_tokens"] = min(found.get("min_new_tokens", 0), _least(found["max_new_tokens"]))
    return Settings(**found)


def _least(value: Any) -> int:
    return int(value) if _whole(value, 1) else 1


@dataclass(frozen=True, slots=True)
class Made:
    """One generated sequence. tokens: without prompt and end. score: the sum of the tokens' log-probabilities, the
    end's included, over their number to the power of length_penalty."""

    tokens: tuple[int, ...]
    finish_reason: Literal["length", "eos"]
    score: float


class SequenceStepper(Protocol):
    """An encoder-decoder model, one token further at a time. All logits are float32 `[R, V]`, of the next token."""

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        """Run the encoder on its arrays `[B, ...]`, and the decoder on int64 prompts `[B, P]`: R = B."""

    def advance(self, tokens: Array) -> Array:
        """tokens: int64 `[R]`, one more for each row."""

    def select(self, rows: Array) -> None:
        """Go on with these rows, in this order. rows: int64 indices into the current ones; one may come twice."""


def generate(
    stepper: SequenceStepper, inputs: Mapping[str, Array], prompts: Array, settings: Settings, *, eos_id: int | None
) -> list[Made]:
    """A sequence for each row of a batch, whatever else is in it.

    inputs: the encoder's arrays `[B, ...]`. prompts: int64 `[B, P]`, what each row's decoder begins with.
    """
    return drained(step_by_step(stepper, inputs, prompts, settings, eos_id=eos_id))


def step_by_step(
    stepper: SequenceStepper, inputs: Mapping[str, Array], prompts: Array, settings: Settings, *, eos_id: int | None
) -> Generator[list[tuple[int, ...]], None, list[Made]]:
    """The same, and after each token what every row has so far, without its end. Beams are known at their end alone."""
    logits = stepper.start(inputs, prompts)
    if settings.num_beams > 1:
        return _beam_search(stepper, logits, prompts, settings, eos_id)
    rows = [_Row(prompt, settings, eos_id) for prompt in prompts]
    active = rows
    while True:
        tokens = np.array([row.take(scores) for row, scores in zip(active, logits, strict=True)], dtype=np.int64)
        yield [row.written for row in rows]
        going = np.array([i for i, row in enumerate(active) if row.finish is None], dtype=np.int64)
        if not len(going):
            return [row.result() for row in rows]
        if len(going) < len(active):
            stepper.select(going)
            active = [active[i] for i in going]
        logits = stepper.advance(tokens[going])


def drained(steps: Generator[Any, None, _T]) -> _T:
    """What a generator returns in the end."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: _T = end.value
            return result


def _beam_search(
    stepper: SequenceStepper, logits: Array, prompts: Array, settings: Settings, eos_id: int | None
) -> list[Made]:
    beams = settings.num_beams
    rows = [Beams(prompt, settings, eos_id) for prompt in prompts]
    active = rows
    # All beams of a row begin alike; the first step takes candidates from the first one alone.
    stepper.select(np.repeat(np.arange(len(rows)), beams))
    logits = np.repeat(logits, beams, axis=0)
    while True:
        _check(logits)
        chosen = [row.step(logits[i * beams : (i + 1) * beams]) for i, row in enumerate(active)]
        going = [i for i, row in enumerate(active) if not row.finished]
        if not going:
            return [Made(*row.best()) for row in rows]
        stepper.select(np.concatenate([chosen[i][1] + i * beams for i in going]))
        active = [active[i] for i in going]
        logits = stepper.advance(np.concatenate([chosen[i][0] for i in going]))


class _Row:
    """One sequence on its way."""

    def __init__(self, prompt: Array, settings: Settings, eos_id: int | None) -> None:
        self._tokens = np.asarray(prompt, dtype=np.int64)
        self._prompt = len(prompt)
        self._settings = settings
        self._eos_id = eos_id
        self._rng = np.random.default_rng(settings.seed)
        self._choice = settings.drawing()
        self._score = 0.0
        self.finish: Literal["length", "eos"] | None = None

    def take(self, logits: Array) -> int:
        _check(logits)
        scores = process(logits, self._tokens, self._prompt, self._settings, self._eos_id)
        token = next_token(scores, self._tokens[:0], self._choice, self._rng)
        self._score += float(log_softmax(logits.astype(np.float64))[token])
        self._tokens = np.append(self._tokens, token)
        if token == self._eos_id:
            self.finish = "eos"
        elif len(self._tokens) - self._prompt >= self._settings.max_new_tokens:
            self.finish = "length"
        return token

    def result(self) -> Made:
        assert self.finish is not None
        size = len(self._tokens) - self._prompt
        return Made(self.written, self.finish, self._score / size**self._settings.length_penalty)

    @property
    def written(self) -> tuple[int, ...]:
        """Without prompt and end."""
        made = self._tokens[self._prompt :].tolist()
        return tuple(made[:-1] if self.finish == "eos" else made)


def _check(logits: Array) -> None:
    if np.isnan(logits).any():
        raise ZooError("The model's logits are not numbers (NaN): damaged weights, or too low a precision.")


def _require(fine: bool, name: str, value: Any, allowed: str) -> None:
    if not fine:
        raise ConfigError(f"{name} is {value!r}; give {allowed}.")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
