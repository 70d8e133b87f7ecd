"""What changes the scores of the next token of a sequence: transformers' logits processors, in NumPy.

Names, order and results are those of `transformers.generation` (`_get_logits_processor`), for one row.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.modalities.base import Array

if TYPE_CHECKING:
    from zoo.tasks.sequences import Settings

_NEVER = -np.inf


def process(scores: Array, tokens: Array, prompt: int, settings: Settings, eos_id: int | None) -> Array:
    """The scores a search may choose from; a changed copy.

    scores: float `[V]`, logits (greedy, sampling) or log-probabilities (beams).
    tokens: int64 `[T]`, the decoder's tokens so far, its prompt of `prompt` tokens included.
    """
    scores = scores.copy()
    if settings.repetition_penalty != 1.0:
        seen = np.unique(tokens)
        found = scores[seen]
        penalty = settings.repetition_penalty
        scores[seen] = np.where(found < 0, found * penalty, found / penalty)
    if settings.no_repeat_ngram_size:
        scores[_repeating(tokens, settings.no_repeat_ngram_size)] = _NEVER
    for bad in settings.bad_words_ids:
        if bad != (eos_id,) and _ends_with(tokens, bad[:-1]):
            scores[bad[-1]] = _NEVER
    if eos_id is not None and len(tokens) - prompt < settings.min_new_tokens:
        scores[eos_id] = _NEVER
    if settings.forced_bos_token_id is not None and len(tokens) == 1:
        scores = _only(scores, settings.forced_bos_token_id)
    if settings.forced_eos_token_id is not None and len(tokens) - prompt == settings.max_new_tokens - 1:
        scores = _only(scores, settings.forced_eos_token_id)
    if settings.suppress_tokens:
        scores[list(settings.suppress_tokens)] = _NEVER
    if settings.begin_suppress_tokens and len(tokens) == _begin(prompt, settings):
        scores[list(settings.begin_suppress_tokens)] = _NEVER
    return scores if settings.rule is None else settings.rule(scores, tokens[prompt:])


def _begin(prompt: int, settings: Settings) -> int:
    """How many tokens there are when the first free one is chosen."""
    return prompt if prompt > 1 or settings.forced_bos_token_id is None else prompt + 1


def _only(scores: Array, token: int) -> Array:
    forced = np.full_like(scores, _NEVER)
    forced[token] = 0.0
    return forced


def _repeating(tokens: Array, size: int) -> Array:
    """The tokens that would complete a run of `size` tokens which the sequence already has."""
    if len(tokens) < size:
        return tokens[:0]
    runs = np.lib.stride_tricks.sliding_window_view(tokens, size)
    last = tokens[len(tokens) + 1 - size :]
    return np.asarray(runs[(runs[:, :-1] == last).all(axis=1), -1])


def _ends_with(tokens: Array, ending: tuple[int, ...]) -> bool:
    return len(ending) <= len(tokens) and tuple(tokens[len(tokens) - len(ending) :].tolist()) == ending
