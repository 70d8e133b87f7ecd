"""Whisper's own tokens, and the prompt that its decoder begins with.

`<|startofprev|>` text `<|startoftranscript|>` language task `<|notimestamps|>`: the text before, the language and the
task only where there are any, the last one where no times are wanted. Models for English alone have no language and
no task. As OpenAI's `whisper.tokenizer` and transformers' `WhisperForConditionalGeneration.generate`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from zoo.errors import ConfigError, SpecError, suggest
from zoo.modalities.target_text import TargetText
from zoo.spec import ModelSpec
from zoo.tasks.languages import LANGUAGES, code_of
from zoo.tasks.text2text import decoder_of, token_id

TASKS = ("transcribe", "translate")
# What is no speech, by OpenAI's rule: these as one token, alone or after a space, and the first token of the notes.
_RUNS = """<< >> <<< >>> -- --- -( -[ (' (" (( )) ((( ))) [[ ]] {{ }} \u266a\u266a \u266a\u266a\u266a"""
_SYMBOLS = (*'"#()*+/:;<=>@[\\]^_`{|}~\u300c\u300d\u300e\u300f', *_RUNS.split())
_NOTES = tuple("\u2669\u266a\u266b\u266c\u266d\u266e\u266f")


@dataclass(frozen=True, slots=True)
class WhisperTokens:
    """Ids. languages: by code, empty for a model of English alone; tasks: by name. timestamps: of `<|0.00|>`, the
    others after it, one every 20 ms. previous, no_speech: None where the tokenizer has none."""

    start: int
    end: int
    no_timestamps: int
    previous: int | None
    no_speech: int | None
    languages: Mapping[str, int]
    tasks: Mapping[str, int]

    @property
    def timestamps(self) -> int:
        return self.no_timestamps + 1

    def language(self, given: str | None) -> str | None:
        """A language as its code; None in a model of English alone. Raises ConfigError for one that it has not."""
        if given is None:
            return None
        code = code_of(given)
        if not self.languages:
            if code != "en":
                raise ConfigError(f"language is {given!r}, and this model knows English alone: leave it out.")
            return None
        if code not in self.languages:
            near = suggest(code, (*self.languages, *(LANGUAGES[known] for known in self.languages)))
            raise ConfigError(
                f"language is {given!r}, which this model does not know.{near} It knows: {', '.join(self.languages)}."
            )
        return code

    def tail(self, language: str | None, task: str | None, *, timestamps: bool) -> list[int]:
        """What follows `<|startoftranscript|>`. Raises ConfigError for a task that the model can't do."""
        found = [] if timestamps else [self.no_timestamps]
        if not self.languages:
            if task not in (None, "transcribe"):
                raise ConfigError(f"task is {task!r}, and this model transcribes English alone.")
            return found
        assert language is not None, "the language is known or heard by now"
        return [self.languages[language], self.tasks[task or "transcribe"], *found]


def read_tokens(spec: ModelSpec, writing: TargetText) -> WhisperTokens:
    """Raises SpecError for a tokenizer that is none of Whisper's."""

    def needed(name: str) -> int:
        found = writing.id_of(name)
        if found is None:
            raise SpecError(f"The tokenizer of {spec.name} has no token {name!r}, which Whisper needs.")
        return found

    multilingual = decoder_of(spec).multilingual
    codes = {code: writing.id_of(f"<|{code}|>") for code in LANGUAGES} if multilingual else {}
    end = token_id(spec, "eos_token_id")
    silent = writing.id_of("<|nospeech|>")
    return WhisperTokens(
        start=needed("<|startoftranscript|>"),
        end=end if end is not None else needed("<|endoftext|>"),
        no_timestamps=needed("<|notimestamps|>"),
        previous=writing.id_of("<|startofprev|>"),
        # Its older name.
        no_speech=silent if silent is not None else writing.id_of("<|nocaptions|>"),
        languages={code: token for code, token in codes.items() if token is not None},
        tasks={name: needed(f"<|{name}|>") for name in TASKS} if multilingual else {},
    )


def suppressed(tokens: WhisperTokens, writing: TargetText) -> dict[str, tuple[int, ...]]:
    """`suppress_tokens` and `begin_suppress_tokens` where a checkpoint names none: what is no speech, and the special
    tokens that can't come; at the beginning a space and the end."""
    found = {int(writing.ids(text)[0]) for text in (" -", " '")}
    for symbol in (*_SYMBOLS, *_NOTES):
        for text in (symbol, f" {symbol}"):
            ids = writing.ids(text)
            if len(ids) == 1 or symbol in _NOTES:
                found.add(int(ids[0]))
    special = (tokens.start, tokens.previous, tokens.no_speech, writing.id_of("<|startoflm|>"))
    tasks = (writing.id_of(f"<|{name}|>") for name in TASKS)
    found.update(token for token in (*special, *tasks) if token is not None)
    return {
        "suppress_tokens": tuple(sorted(found)),
        "begin_suppress_tokens": (*(int(token) for token in writing.ids(" ")[:1]), tokens.end),
    }
