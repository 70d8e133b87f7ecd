"""Two kinds of input for a model with two towers: images or sound, and texts, each by its own encoder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, final

from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import TextEncoder

TEXT = "text"
_OF_TEXT = ("input_ids", "attention_mask", "token_type_ids")


@final
class TowersEncoder(Encoder):
    """Either side's raw inputs, or a pair of both, as what the two towers take.

    media: the encoder of the first side, whose inputs need no name. text: of the other. side: "image" or "audio".
    An input is of the first side unless it says otherwise: `{"text": ...}`, `{"image": ...}`, or a pair of both.
    """

    def __init__(self, media: Encoder, text: TextEncoder, *, side: str) -> None:
        self.media = media
        self.text = text
        self.side = side
        self.ragged = media.ragged | text.ragged

    @property
    def sides(self) -> tuple[str, str]:
        return self.side, TEXT

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One input as windows; a pair as one window for each of its image or recording, with the whole text.

        raw: what the first side's encoder takes, `{side: that}`, `{"text": what the text's encoder takes}`, or both
        keys in one. Raises InputError, also for the text of a pair that is longer than the model can see.
        """
        given = self._named(raw)
        if TEXT not in given:
            return self._media(given[self.side], overlap)
        texts = self.text.encode(given[TEXT], overlap=0.0 if self.side in given else overlap)
        if self.side not in given:
            return texts
        if len(texts) > 1:
            raise InputError(
                f"{self.text.describe(given[TEXT])} is longer than the {self.text.input.max_length} tokens that the "
                f"model sees, and stands beside an {self.side}. Shorten it."
            )
        return [
            Example(
                {**window.inputs, **texts[0].inputs}, window.length, window.source, window=window.window,
                windows=window.windows,
            )
            for window in self._media(given[self.side], overlap)
        ]  # fmt: skip

    def named(self, raw: Any, side: str) -> dict[str, Any]:
        """A raw input that says of which side it is. Raises ConfigError for a side that the model has not."""
        if side not in self.sides:
            raise ConfigError(f"side is {side!r}; this model embeds {self.side!r} and {TEXT!r}.")
        given = self._named(raw) if isinstance(raw, Mapping) else {side: raw}
        if set(given) != {side}:
            raise InputError(f"{self.describe(raw)} came where side={side!r} was asked for.")
        return given

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """The arrays of each side, of those examples that have it: `[B, ...]`, B of one side alone may differ."""
        arrays: dict[str, Array] = {}
        for encoder, texts in ((self.text, True), (self.media, False)):
            own = [part for part in (_part(example, texts=texts) for example in examples) if part.inputs]
            arrays.update(encoder.collate(own) if own else {})
        return arrays

    def describe(self, raw: Any) -> str:
        if isinstance(raw, Mapping) and set(raw) <= set(self.sides) and raw:
            encoders = {self.side: self.media, TEXT: self.text}
            return ", ".join(f"{key}={encoders[key].describe(value)}" for key, value in raw.items())
        return self.media.describe(raw)

    def save(self, folder: Path) -> None:
        self.media.save(folder)
        self.text.save(folder)

    def seconds(self, raw: Any) -> float:
        """How long a recording is. Raises InputError, or AttributeError where the first side is no sound."""
        found: float = self.media.seconds(self._named(raw)[self.side])  # type: ignore[attr-defined]
        return found

    def _named(self, raw: Any) -> dict[str, Any]:
        if isinstance(raw, Mapping) and raw and set(raw) <= set(self.sides):
            return dict(raw)
        return {self.side: raw}

    def _media(self, raw: Any, overlap: float) -> list[Example]:
        try:
            return self.media.encode(raw, overlap=overlap)
        except InputError as error:
            # A text given bare is taken for a path.
            if isinstance(raw, str) and not Path(raw[:255]).suffix:
                raise InputError(
                    f'{error} A text is given as {{"text": ...}}, or to embed() with side="text".'
                ) from error
            raise


def _part(example: Example, *, texts: bool) -> Example:
    """One side's inputs alone."""
    return replace(example, inputs={k: array for k, array in example.inputs.items() if (k in _OF_TEXT) == texts})
