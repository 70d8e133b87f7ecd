"""A recording of any length, heard by Whisper window by window: the loop of `WhisperForConditionalGeneration.generate`.

Each window begins where the last complete stretch of speech ended, so no word is cut by a window's border.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from zoo.modalities.base import Array, Example
from zoo.modalities.target_text import TargetText
from zoo.results import Spoken
from zoo.tasks.arrays import softmax
from zoo.tasks.seq2seq import GENERATED, PROMPT, HasExamples, Reference, check_streamed
from zoo.tasks.sequences import Made, SequenceStepper, Settings, drained, step_by_step
from zoo.tasks.timestamps import Stretch, TimestampRule, stretches
from zoo.tasks.whisper import WhisperTokens

FEATURES = "input_features"


@dataclass(frozen=True, slots=True)
class Plan:
    """One call's choices, every value known. longest: tokens that the decoder sees, its prompt included.

    settings: of windows without a text before them; language: a code, None to hear it.
    silence, least: a window with `<|nospeech|>` likelier than the one and a mean log-probability below the other is
    left out; None for never, and for whatever probability.
    """

    settings: Settings
    longest: int
    frames: int
    language: str | None = None
    task: str | None = None
    timestamps: bool = False
    before: tuple[int, ...] = ()
    remember: bool = False
    silence: float | None = None
    least: float | None = None
    latest: int | None = None


@dataclass(frozen=True, slots=True)
class Heard:
    """What one recording said. segments: where times were asked for. made: of each window that was kept."""

    text: str
    made: tuple[Made, ...]
    tokens: tuple[int, ...]
    segments: tuple[Spoken, ...]
    language: str | None


@dataclass(slots=True)
class _Recording:
    """One recording on its way. frames: of the spectrogram that have sound. tail: of the prompt, None until known."""

    features: Array
    frames: int
    timed: bool
    language: str | None
    tail: list[int] | None
    seek: int = 0
    silence: float = 0.0
    parts: list[Stretch] = field(default_factory=list)
    made: list[Made] = field(default_factory=list)

    @property
    def left(self) -> int:
        return self.frames - self.seek


@final
class Listener:
    """A forward function that gives `generated`, an object array `[B]` of `Heard`: a `zoo.tasks.base.Writer`."""

    def __init__(self, stepper: SequenceStepper, tokens: WhisperTokens, writing: TargetText, plan: Plan) -> None:
        self._stepper = stepper
        self._tokens = tokens
        self._writing = writing
        self._plan = plan
        self._rule = TimestampRule(tokens.timestamps, tokens.end, plan.latest)

    def __call__(self, batch: HasExamples) -> dict[str, Array]:
        rows = [self._recording(example) for example in batch.examples]
        while going := [row for row in rows if row.left > 0]:
            for group in _alike(going, [len(self._head(row)) for row in going], [row.timed for row in going]):
                drained(self._hear(group))
        return self._outputs(rows)

    def stream(self, batch: HasExamples) -> Generator[str, None, dict[str, Array]]:
        check_streamed(self._plan.settings)
        return self._texts(batch)

    def _texts(self, batch: HasExamples) -> Generator[str, None, dict[str, Array]]:
        """Token by token, where a window is the whole recording and is kept for certain; else window by window."""
        (row,) = [self._recording(example) for example in batch.examples]
        sure = not row.timed and self._plan.silence is None
        while row.left > 0:
            for (tokens,) in self._hear([row]):
                if sure:
                    yield self._text(tokens)
            yield self._text([token for part in row.parts for token in part.tokens])
        return self._outputs([row])

    def _outputs(self, rows: Sequence[_Recording]) -> dict[str, Array]:
        found = np.empty(len(rows), dtype=object)
        found[:] = [self._heard(row) for row in rows]
        return {GENERATED: found}

    def _recording(self, example: Example) -> _Recording:
        features = np.asarray(example.inputs[FEATURES])
        source = example.source.source if isinstance(example.source, Reference) else example.source
        frames = max(1, source.samples * 100 // source.sampling_rate)
        long = features.shape[1] > self._plan.frames
        # A long recording goes on where the last timestamp is.
        timed = self._plan.timestamps or long
        language, tail = self._plan.language, None
        if isinstance(example.source, Reference):
            known = example.inputs[PROMPT][1 : example.source.prompt].tolist()
            tail = known[: len(known) - timed]
            language = next((code for code, token in self._tokens.languages.items() if token in known), None)
        elif language is not None or not self._tokens.languages:
            tail = self._tokens.tail(language, self._plan.task, timestamps=timed)
        return _Recording(features, frames, timed, language, tail)

    def _head(self, row: _Recording) -> list[int]:
        """The prompt up to `<|startoftranscript|>`: what was said before, where that is wanted."""
        plan, tokens = self._plan, self._tokens
        before: list[int] = list(plan.before)
        if plan.remember:
            for part in row.parts:
                twice = len(part.tokens) > 2 and part.tokens[-2] >= tokens.timestamps
                before += part.tokens[: -1 if twice else None]
        if not before or tokens.previous is None:
            return [tokens.start]
        return [tokens.previous, *before[-(plan.longest // 2 - 1) :], tokens.start]

    def _hear(self, rows: Sequence[_Recording]) -> Generator[list[tuple[int, ...]], None, None]:
        """One window of each row, token by token; their prompts are of one length."""
        windows = np.stack([self._window(row) for row in rows])
        heads = np.array([self._head(row) for row in rows], dtype=np.int64)
        logits = self._stepper.start({FEATURES: windows}, heads)
        for row, scores in zip(rows, logits, strict=True):
            self._listen(row, scores)
        tails = np.array([row.tail for row in rows], dtype=np.int64).reshape(len(rows), -1)
        prompts = np.concatenate([heads, tails], axis=1)
        stepper = _Begun(self._stepper, logits, tails)
        settings = self._settings(prompts, rows[0].timed)
        made = yield from step_by_step(stepper, {}, prompts, settings, eos_id=self._tokens.end)
        for row, one in zip(rows, made, strict=True):
            self._keep(row, one)

    def _window(self, row: _Recording) -> Array:
        """float32 `[bins, frames]`. Beyond a long recording's end stand zeros, as upstream has them."""
        part = row.features[:, row.seek : row.seek + self._plan.frames]
        return np.pad(part, ((0, 0), (0, self._plan.frames - part.shape[1])))

    def _listen(self, row: _Recording, scores: Array) -> None:
        """What the scores after `<|startoftranscript|>` say: the language, and whether there is speech at all."""
        if row.tail is None:
            codes = list(self._tokens.languages)
            best = int(np.argmax(scores[[self._tokens.languages[code] for code in codes]]))
            row.language = codes[best]
            row.tail = self._tokens.tail(row.language, self._plan.task, timestamps=row.timed)
        if self._tokens.no_speech is not None:
            row.silence = float(softmax(scores.astype(np.float64))[self._tokens.no_speech])

    def _settings(self, prompts: Array, timed: bool) -> Settings:
        settings = self._plan.settings
        longest = min(settings.max_new_tokens, self._plan.longest - prompts.shape[1])
        least = min(settings.min_new_tokens, longest)
        rule = self._rule if timed else None
        return replace(settings, max_new_tokens=longest, min_new_tokens=least, rule=rule)

    def _keep(self, row: _Recording, made: Made) -> None:
        heard = min(row.left, self._plan.frames)
        plan = self._plan
        silent = plan.silence is not None and row.silence > plan.silence
        if silent and (plan.least is None or made.score < plan.least):
            row.seek += heard
            return
        # Without the rule a stray timestamp means nothing.
        begin = self._tokens.timestamps if row.timed else int(np.iinfo(np.int64).max)
        parts, done = stretches(made.tokens, begin, row.seek, heard)
        row.parts += parts
        row.made.append(made)
        row.seek += done

    def _heard(self, row: _Recording) -> Heard:
        tokens = tuple(token for part in row.parts for token in part.tokens)
        segments = [
            Spoken(text, part.start, part.end) for part in row.parts if (text := self._text(part.tokens))
        ] if self._plan.timestamps else []  # fmt: skip
        return Heard(self._text(tokens), tuple(row.made), tokens, tuple(segments), row.language)

    def _text(self, tokens: Sequence[int]) -> str:
        return self._writing.text(tuple(token for token in tokens if token < self._tokens.timestamps))


@final
class _Begun:
    """A `SequenceStepper` that has read the first part of its prompts already: `start` reads the rest of them."""

    def __init__(self, stepper: SequenceStepper, logits: Array, rest: Array) -> None:
        self._stepper = stepper
        self._logits = logits
        self._rest = rest
        self.advance = stepper.advance
        self.select = stepper.select

    def start(self, inputs: Mapping[str, Array], prompts: Array) -> Array:
        logits = self._logits
        for tokens in self._rest.T:
            logits = self._stepper.advance(np.ascontiguousarray(tokens))
        return logits


def _alike(rows: Sequence[_Recording], *keys: Sequence[Any]) -> list[list[_Recording]]:
    """Rows with the same keys, together."""
    groups: dict[tuple[Any, ...], list[_Recording]] = {}
    for row, *values in zip(rows, *keys, strict=True):
        groups.setdefault(tuple(values), []).append(row)
    return list(groups.values())
