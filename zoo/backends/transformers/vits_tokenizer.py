"""The characters of VITS as a tokenizer.json: upstream's tokenizer is Python alone."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from zoo.errors import SpecError

_CLASS = "VitsTokenizer"


def is_vits(said: Mapping[str, Any]) -> bool:
    """said: a checkpoint's tokenizer_config.json."""
    return said.get("tokenizer_class") == _CLASS


def blank_of(said: Mapping[str, Any]) -> int | None:
    """The token between all others: upstream takes number 0, whatever it stands for."""
    return 0 if said.get("add_blank", True) else None


def characters(folder: Path, said: Mapping[str, Any]) -> Tokenizer:
    """What upstream's VitsTokenizer does before it puts blanks between: lower case, known characters alone.

    In one thing it is as the models' own training: a character that a checkpoint names as its padding ("k" of English)
    has blanks around it like any other. Upstream cuts texts at it, and leaves them out there.

    Raises SpecError for a checkpoint that speaks phonemes, or a language that is written in Latin letters first
    (uroman): both need programs that the zoo does not run.
    """
    if said.get("phonemize", True):
        raise SpecError(
            f"{folder.name} speaks phonemes, which espeak would have to make of a text; that is not supported."
        )
    if said.get("is_uroman", False):
        raise SpecError(
            f"{folder.name} reads its language in Latin letters: every text would have to go through uroman first, "
            "which is not supported. Models of languages in Latin script, or with letters of their own, can be used."
        )
    path = folder / "vocab.json"
    if not path.is_file():
        raise SpecError(f"{folder} has neither a tokenizer.json nor a vocab.json. Pass tokenizer=.")
    return character_tokenizer(
        json.loads(path.read_text("utf-8")), normalize=bool(said.get("normalize", True)), language=said.get("language")
    )


def character_tokenizer(vocab: Mapping[str, int], *, normalize: bool = True, language: str | None = None) -> Tokenizer:
    """A token a character. normalize: to lower case, and without what the vocabulary does not have."""
    unknown = "<unk>" if "<unk>" in vocab else next(iter(vocab))
    tokenizer = Tokenizer(models.WordLevel(dict(vocab), unk_token=unknown))
    letters = [token for token in vocab if len(token) == 1]
    steps: list[Any] = []
    if normalize:
        # A capital that is in the vocabulary stays.
        lowered = {a.upper(): a for a in letters if len(a.upper()) == 1 and a.upper() not in vocab}
        steps += [normalizers.Replace(capital, letter) for capital, letter in lowered.items()]
    if language == "ron":
        # The cedillas of older Romanian texts, as upstream.
        steps.append(normalizers.Replace("\u021b", "\u0163"))
    if normalize:
        known = "".join(map(_escaped, letters))
        steps += [normalizers.Replace(Regex(f"[^{known}]"), ""), normalizers.Strip()]
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.decoder = decoders.Fuse()
    return tokenizer


def _escaped(letter: str) -> str:
    """A character inside the brackets of a pattern."""
    return letter if re.match(r"[\w ]", letter) else f"\\x{{{ord(letter):x}}}"
