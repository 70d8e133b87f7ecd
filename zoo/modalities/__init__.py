"""Raw input to NumPy: one encoder for text, one for images, one for sound. Torch is never seen here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import SpecError
from zoo.modalities.base import Array, Encoder, Example
from zoo.spec import AudioInput, ImageInput, MelInput, ModelSpec, TabularInput, TextInput

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from zoo.modalities.text import TextEncoder

__all__ = ["Array", "Encoder", "Example", "make_encoder", "side_of"]


def make_encoder(
    spec: ModelSpec,
    *,
    tokenizer: Tokenizer | None = None,
    folder: Path | None = None,
    target: Tokenizer | None = None,
) -> Encoder:
    """The encoder of a model, by `spec.input.kind`; of both kinds of input for a model with two towers.

    tokenizer: for text, and for speech that the model writes down; when not given, `tokenizer.json` of `folder`, a
    saved model or a bundle. target: of the texts that the model writes, where those have a tokenizer of their own;
    from `folder` too. Raises SpecError without either, or with a tokenizer that the input does not allow.
    """
    words = _words(spec, tokenizer, folder) if spec.has_tokenizer else None
    owned = tokenizer is None and target is None
    if isinstance(spec.input, TextInput):
        assert words is not None
        return _text_encoder(spec, spec.input, words, target if target is not None else _target(folder), owned=owned)
    media = _media_encoder(spec, words if spec.decoder is not None else None, owned=owned)
    if spec.text is None:
        return media
    from zoo.modalities.towers import TowersEncoder

    assert words is not None
    return TowersEncoder(media, _text_encoder(spec, spec.text, words, owned=owned), side=side_of(spec))


def side_of(spec: ModelSpec) -> str:
    """What the first tower of a model with two takes: "image" or "audio"."""
    return "image" if isinstance(spec.input, ImageInput) else "audio"


def _media_encoder(spec: ModelSpec, words: Tokenizer | None, *, owned: bool) -> Encoder:
    if isinstance(spec.input, ImageInput):
        from zoo.modalities.image import ImageEncoder

        return ImageEncoder(spec.input)
    if isinstance(spec.input, MelInput):
        from zoo.modalities.spectrogram import MelEncoder

        return MelEncoder(spec.input, words, owned=owned)
    if isinstance(spec.input, TabularInput):
        from zoo.modalities.tabular import TabularEncoder

        return TabularEncoder(spec.input)
    from zoo.modalities.audio import AudioEncoder

    assert isinstance(spec.input, AudioInput)
    return AudioEncoder(spec.input)


def _words(spec: ModelSpec, tokenizer: Tokenizer | None, folder: Path | None) -> Tokenizer:
    from zoo.modalities.tokenizing import read_tokenizer

    if tokenizer is None and folder is None:
        verb = "writes" if spec.decoder is not None and not isinstance(spec.input, TextInput) else "takes"
        raise SpecError(f"{spec.name} {verb} text: it needs a tokenizer, or a folder that holds tokenizer.json.")
    return tokenizer if tokenizer is not None else read_tokenizer(Path(folder or "."))


def _target(folder: Path | None) -> Tokenizer | None:
    from zoo.bundle import TARGET_TOKENIZER
    from zoo.modalities.tokenizing import read_tokenizer

    there = folder is not None and (folder / TARGET_TOKENIZER).is_file()
    return read_tokenizer(folder, TARGET_TOKENIZER) if folder is not None and there else None


def _text_encoder(
    spec: ModelSpec, text: TextInput, words: Tokenizer, target: Tokenizer | None = None, *, owned: bool
) -> TextEncoder:
    from zoo.modalities.text import TextEncoder

    config = spec.config.get("text_config", {}) if spec.text is not None else spec.config
    known = config.get("vocab_size") if spec.decoder is not None else None
    return TextEncoder(
        text,
        words,
        pad_id=_token(config, "pad_token_id"),
        eos_id=_token(config, "eos_token_id"),
        target=target,
        known=known,
        owned=owned,
    )


def _token(config: Mapping[str, Any], name: str) -> int | None:
    value = config.get(name)
    # Some configurations list several; the first is the tokenizer's own.
    first = value[0] if isinstance(value, (list, tuple)) and value else value
    return first if isinstance(first, int) and not isinstance(first, bool) else None
