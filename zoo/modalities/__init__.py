"""Raw input to NumPy: one encoder for text, one for images, one for sound. Torch is never seen here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo.errors import SpecError
from zoo.modalities.base import Array, Encoder, Example
from zoo.spec import ImageInput, MelInput, ModelSpec, TabularInput, TextInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Array", "Encoder", "Example", "make_encoder"]


def make_encoder(spec: ModelSpec, *, tokenizer: Tokenizer | None = None, folder: Path | None = None) -> Encoder:
    """The encoder of a model, by `spec.input.kind`.

    tokenizer: for text, and for speech that the model writes down; when not given, `tokenizer.json` of `folder`, a
    saved model or a bundle. Raises SpecError without either, or with a tokenizer that the input does not allow.
    """
    words = _words(spec, tokenizer, folder) if spec.has_tokenizer else None
    if isinstance(spec.input, TextInput):
        from zoo.modalities.text import TextEncoder

        assert words is not None
        pad_id, eos_id = _token(spec, "pad_token_id"), _token(spec, "eos_token_id")
        return TextEncoder(spec.input, words, pad_id=pad_id, eos_id=eos_id)
    if isinstance(spec.input, ImageInput):
        from zoo.modalities.image import ImageEncoder

        return ImageEncoder(spec.input)
    if isinstance(spec.input, MelInput):
        from zoo.modalities.spectrogram import MelEncoder

        return MelEncoder(spec.input, words)
    if isinstance(spec.input, TabularInput):
        from zoo.modalities.tabular import TabularEncoder

        return TabularEncoder(spec.input)
    from zoo.modalities.audio import AudioEncoder

    return AudioEncoder(spec.input)


def _words(spec: ModelSpec, tokenizer: Tokenizer | None, folder: Path | None) -> Tokenizer:
    from zoo.modalities.text import read_tokenizer

    if tokenizer is None and folder is None:
        verb = "takes" if isinstance(spec.input, TextInput) else "writes"
        raise SpecError(f"{spec.name} {verb} text: it needs a tokenizer, or a folder that holds tokenizer.json.")
    return tokenizer if tokenizer is not None else read_tokenizer(Path(folder or "."))


def _token(spec: ModelSpec, name: str) -> int | None:
    value = spec.config.get(name)
    # Some configurations list several; the first is the tokenizer's own.
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first if isinstance(first, int) and not isinstance(first, bool) else None
