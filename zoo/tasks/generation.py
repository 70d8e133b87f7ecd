"""Generation of text, token by token, in NumPy: the same over torch, a cache, or an ONNX graph.

Options have transformers' names and meanings. Sampling draws from one generator a row, each seeded alike: a
prompt and a seed always give the same text, whatever else is in the batch.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, final

import numpy as np

from zoo.errors import ConfigError, InputError, ZooError
from zoo.modalities.base import Array, pad
from zoo.tasks.arrays import softmax
from zoo.tasks.guessing import Drafts, Lookup
from zoo.tasks.steppers import Checker, Drafting, Narrowing, Stepper

# Each has logits of its own, as large as the vocabulary.
_MOST_GUESSED = 64
# What is drawn depends on how close to each other all are: of a model that is sure of little most drafts are wrong.
_FIRST_DRAWN = 1
_NONE: Array = np.zeros(0, dtype=np.int64)

FinishReason = Literal["length", "eos", "stop"]


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """How text is generated.

    max_new_tokens: at most so many. do_sample: draw by probability; else the most probable token is taken, and
    temperature, top_k and top_p mean nothing.
    temperature: logits are divided by it. top_k: only the k most probable tokens may be drawn, 0 for all. top_p: only
    the fewest that together have at least this probability.
    repetition_penalty: the logits of tokens that the row already has are divided by it, negative ones multiplied
    (CTRL, arXiv:1909.05858). seed: of the drawing. stop: texts that end the generation; they are cut off.
    prompt_lookup_num_tokens: so many tokens are guessed at once where a text that is alone in its batch says what it
    said before, 0 for none and up to 64. num_assistant_tokens: so many at most are drafted at once by a bundle's int8
    copy of itself where there is no such guess, on a CPU. Both change the time, and no token but by rounding.
    """

    max_new_tokens: int = 50
    do_sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    prompt_lookup_num_tokens: int = 5
    num_assistant_tokens: int = 7

    def __post_init__(self) -> None:
        stop = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())
        object.__setattr__(self, "stop", stop)
        _require(_whole(self.max_new_tokens, 1), "max_new_tokens", self.max_new_tokens, "a positive whole number")
        _require(isinstance(self.do_sample, bool), "do_sample", self.do_sample, "True or False")
        hint = "a number above 0; for the most probable tokens use do_sample=False"
        _require(_number(self.temperature) and self.temperature > 0, "temperature", self.temperature, hint)
        _require(_whole(self.top_k, 0), "top_k", self.top_k, "a whole number, 0 for no limit")
        _require(_number(self.top_p) and 0 < self.top_p <= 1, "top_p", self.top_p, "a number above 0 and up to 1")
        penalty = self.repetition_penalty
        _require(_number(penalty) and penalty > 0, "repetition_penalty", penalty, "a number above 0, 1 for none")
        _require(_whole(self.seed, 0), "seed", self.seed, "a whole number, 0 or more")
        hint = f"a whole number up to {_MOST_GUESSED}, 0 for no guesses"
        for name in ("prompt_lookup_num_tokens", "num_assistant_tokens"):
            guessed = getattr(self, name)
            _require(_whole(guessed, 0) and guessed <= _MOST_GUESSED, name, guessed, hint)
        texts = all(isinstance(text, str) and text for text in stop)
        _require(texts, "stop", self.stop, "one text or several, not empty")

    @property
    def greedy(self) -> bool:
        """Whether nothing but the most probable token of the logits as they are is asked for."""
        return not self.do_sample and self.repetition_penalty == 1.0


@dataclass(frozen=True, slots=True)
class Generated:
    """What follows one prompt. tokens: without the end-of-text token; with those of a stop text."""

    tokens: tuple[int, ...]
    finish_reason: FinishReason


def generate(
    prompts: Sequence[Array],
    stepper: Stepper,
    options: GenerateOptions,
    *,
    eos_id: int | None,
    pad_id: int,
    decode: Callable[[Array], str],
) -> list[Generated]:
    """Continue each prompt, in the order given.

    prompts: int64 `[T]` each, ragged, at least one token long. decode: token ids int64 `[N]` as text; asked only
    when there are stop texts. Raises InputError for an empty prompt.
    """
    rows = [Row(prompt, options, eos_id, decode) for prompt in prompts]
    for _ in _steps(rows, stepper, pad_id):
        pass
    return [row.result() for row in rows]


def stream(
    prompt: Array, stepper: Stepper, options: GenerateOptions, *, eos_id: int | None, decode: Callable[[Array], str]
) -> Generator[str, None, Generated]:
    """Continue one prompt, and give its text in pieces as it comes: token by token, most of the time.

    A piece is held back while it may still change: half a character, or what may be the beginning of a stop text.
    Together the pieces are the whole text, cut at a stop text. The generator returns the tokens.
    """
    row = Row(prompt, options, eos_id, decode)
    # One row is padded nowhere.
    for _ in _steps([row], stepper, pad_id=0):
        if piece := row.piece():
            yield piece
    return row.result()


def settled(text: str, stop: Sequence[str]) -> str:
    """What more tokens can't change of a text: without half a character or half a stop text at its end."""
    text = text.rstrip("\ufffd")
    half = [item[:size] for item in stop for size in range(1, len(item)) if text.endswith(item[:size])]
    return text[: len(text) - max(map(len, half), default=0)]


def _steps(rows: Sequence[Row], stepper: Stepper, pad_id: int) -> Iterator[None]:
    """Generate until all rows are finished; comes back after each step."""
    if not rows:
        return
    # All rows have the same options.
    greedy = rows[0].options.greedy
    found = begun(rows, stepper, pad_id)
    chosen: Sequence[int] | Array = most_probable(found) if greedy else _drawn(rows, found)
    while True:
        for row, token in zip(rows, chosen, strict=True):
            row.take(int(token))
        yield
        going = np.array([i for i, row in enumerate(rows) if row.finished is None], dtype=np.int64)
        if not len(going):
            return
        if len(going) < len(rows):
            stepper.select(going)
            rows = [rows[i] for i in going]
        if len(rows) == 1:
            last = further(rows[0], stepper)
            if last is None:
                yield
                return
            chosen = [last]
        else:
            tokens = np.array([row.tokens[-1] for row in rows], dtype=np.int64)
            chosen = stepper.best(tokens) if greedy else _drawn(rows, stepper.advance(tokens))


def _drawn(rows: Sequence[Row], found: Array) -> list[int]:
    return [row.draw(logits) for row, logits in zip(rows, found, strict=True)]


def further(row: Row, stepper: Stepper) -> int | None:
    """A step of a row that is alone: it takes what was guessed right, and this is the token after that, which it has
    still to take. None where a guess was its end."""
    checker = stepper if isinstance(stepper, Checker) and stepper.checks else None
    guessed, source = (_NONE, None) if checker is None else _guessed(row, checker)
    if checker is None or source is None:
        last = np.array(row.tokens[-1:], dtype=np.int64)
        return int(stepper.best(last)[0]) if row.options.greedy else row.draw(stepper.advance(last)[0])
    logits = checker.check(np.array([row.tokens[-1], *guessed], dtype=np.int64))
    for right, token in enumerate(guessed):
        chosen = row.choose(logits[right])
        if chosen != token:
            checker.forget(len(guessed) - right)
            source.learn(right, len(guessed))
            return chosen
        row.take(chosen)
        if row.finished is not None:
            return None
    source.learn(len(guessed), len(guessed))
    return row.choose(logits[-1])


def _guessed(row: Row, checker: Checker) -> tuple[Array, Lookup | Drafts | None]:
    """What may follow, and whose guess that is."""
    guessed = row.guess()
    if len(guessed):
        return guessed, row.lookup
    if isinstance(checker, Drafting) and checker.drafts and (most := row.drafts.size(row.room)):
        guessed = checker.draft(row.tokens[-1], most, row.rehearsal())
    return guessed, row.drafts if len(guessed) else None


def narrow(stepper: Stepper, rows: Sequence[Row]) -> None:
    """Tell a stepper what is looked at of the logits of these rows."""
    if isinstance(stepper, Narrowing):
        stepper.narrow = all(row.options.greedy for row in rows)


def begun(rows: Sequence[Row], stepper: Stepper, pad_id: int) -> Array:
    """The logits `[B, V]` of what follows these rows' prompts, which the stepper reads."""
    narrow(stepper, rows)
    ids = pad([np.asarray(row.prompt, dtype=np.int64) for row in rows], pad_id, left=True)
    mask = pad([np.ones(len(row.prompt), dtype=np.int64) for row in rows], 0, left=True)
    return stepper.start(ids, mask)


def cut_at_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop text in it."""
    places = [place for place in (text.find(item) for item in stop) if place >= 0]
    return text[: min(places)] if places else text


def next_token(logits: Array, seen: Array, options: GenerateOptions, rng: np.random.Generator) -> int:
    """One row's next token. logits: float `[V]`; seen: int64 ids of prompt and answer so far."""
    scores = logits.astype(np.float64)
    if np.isnan(scores).any():
        raise _not_numbers()
    if options.repetition_penalty != 1.0:
        scores = _penalised(scores, seen, options.repetition_penalty)
    if not options.do_sample:
        return int(scores.argmax())
    candidates, probabilities = _candidates(scores / options.temperature, options)
    return int(candidates[_draw(probabilities, rng)])


def most_probable(logits: Array) -> Array:
    """int64 `[B]`, the token with the largest of each row's logits `[B, V]`, and -1 for a row with a NaN."""
    # The place of a NaN, where there is one.
    found = logits.argmax(axis=-1)
    return np.where(np.isnan(logits[np.arange(len(found)), found]), -1, found)


@dataclass(slots=True, eq=False)
class Row:
    """One prompt on its way. given: characters of the text that went out in pieces."""

    prompt: Array
    options: GenerateOptions
    eos_id: int | None
    decode: Callable[[Array], str]
    tokens: list[int] = field(default_factory=list)
    finished: FinishReason | None = None
    given: int = 0
    rng: np.random.Generator = field(init=False)
    lookup: Lookup = field(init=False)
    drafts: Drafts = field(init=False)

    def __post_init__(self) -> None:
        if not len(self.prompt):
            raise InputError("The prompt has no tokens. Give a text to continue.")
        self.rng = np.random.default_rng(self.options.seed)
        self.lookup = Lookup(self.options.prompt_lookup_num_tokens)
        most = self.options.num_assistant_tokens
        self.drafts = Drafts(most, _FIRST_DRAWN if self.options.do_sample else most)

    def draw(self, logits: Array) -> int:
        """The next token, by logits `[V]`."""
        return next_token(logits, self._text(), self.options, self.rng)

    def choose(self, logits: Array) -> int:
        """The same, and -1 where the most probable one is asked for and a logit is no number."""
        return int(most_probable(logits[None])[0]) if self.options.greedy else self.draw(logits)

    @property
    def room(self) -> int:
        """Tokens that may be guessed: with one more it is no longer than was asked for."""
        return self.options.max_new_tokens - len(self.tokens) - 1

    def guess(self) -> Array:
        """int64 `[G]`, what may follow by the text so far."""
        return self.lookup.guess(self._text(), self.room)

    def rehearsal(self) -> Rehearsal:
        other = Row(self.prompt, replace(self.options, stop=()), self.eos_id, self.decode, list(self.tokens))
        # The same random numbers: it draws the same tokens but where they are close to each other.
        other.rng = copy.deepcopy(self.rng)
        return Rehearsal(other)

    def take(self, token: int) -> int:
        """See whether the next token is the last. Raises ZooError for -1, which is none."""
        if token < 0:
            raise _not_numbers()
        if token == self.eos_id:
            self.finished = "eos"
            return token
        self.tokens.append(token)
        if self._stopped():
            self.finished = "stop"
        elif len(self.tokens) >= self.options.max_new_tokens:
            self.finished = "length"
        return token

    def piece(self) -> str:
        """What has come and can't change any more since the last time."""
        text = self.decode(np.array(self.tokens, dtype=np.int64))
        text = settled(text, self.options.stop) if self.finished is None else cut_at_stop(text, self.options.stop)
        new = text[self.given :]
        self.given = max(self.given, len(text))
        return new

    def result(self) -> Generated:
        assert self.finished is not None
        return Generated(tuple(self.tokens), self.finished)

    def _text(self) -> Array:
        return np.concatenate([self.prompt, np.array(self.tokens, dtype=np.int64)])

    def _stopped(self) -> bool:
        if not self.options.stop:
            return False
        # The whole answer, because a stop text may begin in the middle of an earlier token.
        text = self.decode(np.array(self.tokens, dtype=np.int64))
        return any(item in text for item in self.options.stop)


@final
class Rehearsal:
    """`zoo.tasks.steppers.Chooser`: what would choose a row's next tokens, and leaves the row as it is."""

    def __init__(self, copy_of_row: Row) -> None:
        self._row = copy_of_row

    @property
    def ended(self) -> bool:
        return self._row.finished is not None

    def __call__(self, logits: Array) -> int:
        return -1 if np.isnan(logits).any() else self._row.take(self._row.choose(logits))


def _not_numbers() -> ZooError:
    return ZooError("The model's logits are not numbers (NaN): damaged weights, or too low a precision.")


def _penalised(scores: Array, seen: Array, penalty: float) -> Array:
    ids = np.unique(seen)
    found = scores[ids]
    out = scores.copy()
    out[ids] = np.where(found < 0, found * penalty, found / penalty)
    return out


def _candidates(scores: Array, options: GenerateOptions) -> tuple[Array, Array]:
    """Tokens that may be drawn, most probable first, and their probabilities, which sum to 1."""
    size = len(scores)
    if 0 < options.top_k < size:
        # Equal scores at the border all stay, as in transformers.
        border = np.partition(scores, size - options.top_k)[size - options.top_k]
        ids = np.flatnonzero(scores >= border)
    else:
        ids = np.arange(size)
    ids = ids[np.argsort(-scores[ids], kind="stable")]
    probabilities = softmax(scores[ids])
    if options.top_p < 1.0:
        before = np.cumsum(probabilities) - probabilities
        keep = max(int((before < options.top_p).sum()), 1)
        ids, probabilities = ids[:keep], probabilities[:keep] / probabilities[:keep].sum()
    return ids, probabilities


def _draw(probabilities: Array, rng: np.random.Generator) -> int:
    place = int(np.searchsorted(np.cumsum(probabilities), rng.random(), side="right"))
    return min(place, len(probabilities) - 1)


def _require(fine: bool, name: str, value: Any, allowed: str) -> None:
    if not fine:
        raise ConfigError(f"{name} is {value!r}; give {allowed}.")


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool) and bool(value >= least)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
