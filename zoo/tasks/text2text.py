"""What summarization and translation share: a text with its prefix and languages, as an encoder-decoder sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from zoo.errors import ConfigError, InputError, SpecError, suggest
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.target_text import TargetText
from zoo.modalities.text import TextEncoder, read_text
from zoo.spec import Decoder, ModelSpec
from zoo.tasks.seq2seq import prompted, resolved, target_text, taught
from zoo.tasks.sequences import SequenceOptions, Settings


def decoder_of(spec: ModelSpec) -> Decoder:
    if spec.decoder is None:
        raise SpecError(f"{spec.name} has no decoder: its spec needs `decoder: {{max_length: ...}}`.")
    return spec.decoder


def start_id(spec: ModelSpec) -> int:
    """The token that the decoder begins with."""
    for name in ("decoder_start_token_id", "bos_token_id", "pad_token_id"):
        found = spec.config.get(name)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
    raise SpecError(f"{spec.name} has no decoder_start_token_id in its config.")


def token_id(spec: ModelSpec, name: str) -> int | None:
    found = spec.config.get(name)
    first = found[0] if isinstance(found, (list, tuple)) and found else found
    return first if isinstance(first, int) and not isinstance(first, bool) else None


def pair_of(decoder: Decoder, source: str | None, target: str | None) -> tuple[str | None, str | None]:
    """Source and target language, the model's own where none is named. Raises ConfigError that lists the languages."""
    for name, code in (("src_lang", source), ("tgt_lang", target)):
        if code is not None and not decoder.languages:
            raise ConfigError(f"{name} is {code!r}, and this model has one pair of languages: leave it out.")
    found = (source or decoder.source_language, target or decoder.target_language)
    for name, code in zip(("src_lang", "tgt_lang"), found, strict=True):
        if decoder.languages and code not in decoder.languages:
            known = ", ".join(sorted(decoder.languages))
            what = f"{name} is {code!r}, which is no language of this model." if code else f"{name} is needed."
            raise ConfigError(f"{what}{suggest(code or '', decoder.languages)} It knows: {known}.")
    return found


def windows(
    spec: ModelSpec, task: str, encoder: Encoder, raw: Any, languages: tuple[str | None, str | None], *, cut: bool
) -> list[Example]:
    """A text as one window, prompted. cut: what is longer than the model can see is left out, else an InputError."""
    decoder = decoder_of(spec)
    text, _ = read_text(raw)
    if not text.strip():
        raise InputError("The text is empty. Give a text.")
    names = [decoder.languages.get(code or "", "") for code in languages]
    prefix = decoder.prefixes.get(task, "")
    found = encoder.encode(prefix.format(source=names[0], target=names[1]) + text)
    if len(found) > 1 and not cut:
        longest = getattr(spec.input, "max_length", 0)
        raise InputError(
            f"{encoder.describe(raw)} is longer than the model can see ({longest} tokens). "
            "Shorten it, or give truncation=True to leave out its end."
        )
    first = replace(found[0], window=0, windows=1)
    if decoder.language_tokens:
        first = _in_language(first, words(encoder), names[0], spec)
    return prompted([first], [start_id(spec)])


def _in_language(window: Example, writing: TargetText, token: str, spec: ModelSpec) -> Example:
    """The window with another language's token in front. The tokenizer puts one there: that of its own default."""
    if not len(writing.before):
        raise SpecError(f"The tokenizer of {spec.name} puts no language before a text; such models are not read yet.")
    ids = np.array(window.inputs["input_ids"], dtype=np.int64)
    ids[0] = language_id(writing, token, spec)
    return replace(window, inputs={**window.inputs, "input_ids": ids})


def language_id(writing: TargetText, token: str, spec: ModelSpec) -> int:
    found = writing.id_of(token)
    if found is None:
        raise SpecError(f"The tokenizer of {spec.name} has no token {token!r}, which its spec names for a language.")
    return found


def teach(
    spec: ModelSpec, encoder: Encoder, window: Example, target: Any, language: str | None, *, longest: int | None = None
) -> Example:
    """A prompted window with its target, cut to what the decoder can write. Raises DataError for what is no text."""
    decoder = decoder_of(spec)
    text = target_text(target)
    writing = words(encoder)
    before = np.array(writing.before)
    if decoder.language_tokens:
        before[:1] = language_id(writing, decoder.languages[language or ""], spec)
    after = writing.after
    if not len(after):
        end = token_id(spec, "eos_token_id")
        after = np.array([end] if end is not None else [], dtype=np.int64)
    room = (longest or decoder.max_length) - len(before) - len(after)
    labels: Array = np.concatenate([before, writing.ids(text)[: max(room, 0)], after])
    return taught(window, labels, text)


def settings_of(spec: ModelSpec, encoder: Encoder, options: SequenceOptions, language: str | None) -> Settings:
    """The settings of a call: a target language is the first token written."""
    decoder = decoder_of(spec)
    found = resolved(options, decoder.generation, decoder.max_length - 1)
    if decoder.language_tokens and options.forced_bos_token_id is None:
        first = language_id(words(encoder), decoder.languages[language or ""], spec)
        found = replace(found, forced_bos_token_id=first)
    return found


def same(a: Any, b: Any) -> bool:
    """Whether two texts were written with the same tokens; of logits the difference is the comparison."""
    return bool(a.tokens == b.tokens) if hasattr(a, "tokens") and hasattr(b, "tokens") else True


def probe_target(raw: Any) -> str:
    """What a decoder is taught on in the parity check: the input's own beginning, so that rows are ragged."""
    return read_text(raw)[0]


def words(encoder: Encoder) -> TargetText:
    assert isinstance(encoder, TextEncoder), "summaries and translations are written by models of text"
    return encoder.target
