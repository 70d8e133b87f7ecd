"""The tokenizer of a checkpoint: its tokenizer.json, or one converted from older files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from zoo import bundle, hub
from zoo.backends.transformers import pieces
from zoo.backends.transformers.config import quiet
from zoo.backends.transformers.files import read_file
from zoo.backends.transformers.vits_tokenizer import characters, is_vits
from zoo.errors import SpecError
from zoo.modalities.tokenizing import open_tokenizer, read_tokenizer
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import tokenizers


def tokenizer(spec: ModelSpec, *, folder: Path | None) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, or of the hub's repository at the spec's revision."""
    if folder is None:
        folder = _tokenizer_folder(spec)
    file = folder / "tokenizer.json"
    if file.is_file():
        return open_tokenizer(file)
    own = pieces.converted(folder, spec, read_file(folder / "tokenizer_config.json"))
    return own if own is not None else _converted(folder, spec)


def target_tokenizer(spec: ModelSpec, *, folder: Path | None) -> tokenizers.Tokenizer | None:
    """That of the texts which the model writes; None where they have none of their own."""
    if spec.decoder is None:
        return None
    if folder is None and spec.architecture != "marian":
        return None
    folder = folder or _tokenizer_folder(spec)
    if (folder / bundle.TARGET_TOKENIZER).is_file():
        return read_tokenizer(folder, bundle.TARGET_TOKENIZER)
    return pieces.target(folder, spec)


def _tokenizer_folder(spec: ModelSpec) -> Path:
    if spec.weights is None:
        raise SpecError(f"{spec.name} names no repository to take a tokenizer from; pass tokenizer=.")
    repo, revision = spec.weights.repo, spec.weights.revision
    found = hub.find(repo, ("tokenizer.json",), revision=revision)
    if found is not None:
        return found.path.parent
    several = [hub.find(repo, (name,), revision=revision) for name in ("config.json", *hub.TOKENIZER_FILES)]
    there = [item for item in several if item is not None]
    if not there:
        # Asked once more for what is missing, so that the message says what was asked of which hub.
        hub.fetch(repo, "tokenizer.json", revision=revision)
    return there[0].path.parent


def _converted(folder: Path, spec: ModelSpec) -> tokenizers.Tokenizer:
    """A tokenizer of older files (vocab.txt, merges.txt, sentencepiece), converted by transformers."""
    from transformers import AutoTokenizer

    said = read_file(folder / "tokenizer_config.json")
    if is_vits(said):
        return characters(folder, said)
    try:
        with quiet():
            slow = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SpecError(f"{folder} holds no tokenizer that can be read ({error}). Pass tokenizer=.") from error
    found: tokenizers.Tokenizer | None = getattr(slow, "backend_tokenizer", None)
    if found is None:
        raise SpecError(f"{folder} has no tokenizer.json, and its tokenizer can't be converted. Pass tokenizer=.")
    return found
