"""Text that a decoder writes, as ids of tokens and back."""

from __future__ import annotations

from typing import Any, final

import numpy as np
from tokenizers import Tokenizer

from zoo.errors import DataError
from zoo.modalities.base import Array
from zoo.modalities.tokenizing import special_around, tokenizing, within


@final
class TargetText:
    """The tokenizer of what a decoder writes, one that neither truncates nor pads.

    before, after: int64, the special tokens around every target. Thread-safe and picklable, as an encoder is.
    """

    def __init__(self, tokenizer: Tokenizer, known: int | None = None) -> None:
        self.tokenizer = tokenizer
        self._known = known
        self.before, self.after = special_around(self.tokenizer)

    def ids(self, text: Any) -> Array:
        """int64 `[N]` of a target, without special tokens. Raises DataError for what is no text."""
        if not isinstance(text, str):
            raise DataError(f"a text is expected as target, not {type(text).__name__} {str(text)[:60]!r}")
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            raise DataError(f"the target is not valid Unicode: character {error.start} is half of a pair") from error
        with tokenizing("reading the target", DataError):
            ids = np.array(self.tokenizer.encode(text, add_special_tokens=False).ids, dtype=np.int64)
        return within(ids, self.tokenizer, self._known)

    def text(self, ids: Array | tuple[int, ...]) -> str:
        """Token ids as text, special tokens left out."""
        with tokenizing("writing tokens as text"):
            return str(self.tokenizer.decode([int(token) for token in ids], skip_special_tokens=True)).strip()

    def id_of(self, token: str) -> int | None:
        """The id of a token by its own writing ("</s>", "__de__"), or None."""
        found: int | None = self.tokenizer.token_to_id(token)
        return found
