"""Tokenizers: files read and written, their special tokens, and the library at arm's length.

Its panics become errors, and no tokenizer is used that writes a text out without end.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from zoo.bundle import TOKENIZER
from zoo.errors import SpecError, ZooError
from zoo.modalities.base import Array, shorten
from zoo.plain import load_json

_PAD_TOKENS = ("[PAD]", "<pad>", "<|pad|>", "<|padding|>", "<PAD>")
_EOS_TOKENS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>", "[EOS]", "<|im_end|>")
# The largest vocabularies take some 35 MB.
_MOST_BYTES = 1 << 28
# By how much the rules of a normalizer, together, may lengthen a text; real ones put a mark for a space.
_MOST_GROWTH = 4096


@contextmanager
def tokenizing(doing: str, error: type[ZooError] = SpecError) -> Iterator[None]:
    """Whatever the library raises as `error`. It raises bare Exception, and its panics are no Exception at all."""
    try:
        yield
    except (ZooError, KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except BaseException as found:
        raise error(f"The tokenizer failed in {doing}: {found}") from found


def open_tokenizer(path: Path) -> Tokenizer:
    """A `tokenizer.json`. Raises SpecError for one that can't be read, and one that would fill the memory."""
    if path.stat().st_size > _MOST_BYTES:
        raise SpecError(f"{path} has {path.stat().st_size:,} bytes; tokenizers of up to {_MOST_BYTES:,} are read.")
    with tokenizing(f"reading {path}"):
        found = Tokenizer.from_file(str(path))
        for part in (found.normalizer, found.decoder):
            if part is not None and _growth(load_json(part.__getstate__())) > _MOST_GROWTH:
                raise SpecError(f"{path} was not used: its rules would make a text {_MOST_GROWTH} times as long.")
    return found


def read_tokenizer(folder: Path, name: str = TOKENIZER) -> Tokenizer:
    """`tokenizer.json` of a folder. Raises SpecError where there is none, or none that can be read."""
    path = folder / name
    if not path.is_file():
        raise SpecError(f"{folder} holds no {name}, which a text model needs.")
    return open_tokenizer(path)


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write `tokenizer.json` of a tokenizer that neither cuts nor pads."""
    bare_copy(tokenizer).save(str(folder / TOKENIZER))


def bare_copy(tokenizer: Tokenizer) -> Tokenizer:
    """A copy that neither truncates nor pads: files of real models carry a truncation, often at 128 tokens."""
    # A part written in Python can't be.
    with tokenizing(f"being written as {TOKENIZER}"):
        copy = Tokenizer.from_str(tokenizer.to_str())
    return bare(copy)


def bare(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer itself, which neither truncates nor pads any more. A copy takes longer than reading the file."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def special_around(tokenizer: Tokenizer) -> tuple[Array, Array]:
    """The ids that the tokenizer puts before and after every text, int64."""
    if not tokenizer.num_special_tokens_to_add(False):
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    for probe in ("a", "0", ".", *sorted(tokenizer.get_vocab())):
        with tokenizing(f"reading {shorten(probe)!r}"):
            found = tokenizer.encode(probe)
        inside = np.flatnonzero(np.array(found.special_tokens_mask) == 0)
        if len(inside):
            ids = np.array(found.ids, dtype=np.int64)
            return ids[: inside[0]], ids[inside[-1] + 1 :]
    raise SpecError("The tokenizer gives no token for any text.")


def pad_and_eos(tokenizer: Tokenizer, pad_id: int | None, eos_id: int | None) -> tuple[int, int | None]:
    """The id to pad with, 0 where there is none, and the end-of-text id."""
    eos = _if_known(tokenizer, eos_id)
    if eos is None:
        eos = first_known(tokenizer, _EOS_TOKENS)
    padding = tokenizer.padding
    known = int(padding["pad_id"]) if padding else first_known(tokenizer, _PAD_TOKENS)
    if known is None:
        known = _if_known(tokenizer, pad_id)
    return known if known is not None else eos or 0, eos


def _if_known(tokenizer: Tokenizer, token: int | None) -> int | None:
    known = token is not None and token >= 0 and tokenizer.id_to_token(token) is not None
    return token if known else None


def first_known(tokenizer: Tokenizer, names: Sequence[str]) -> int | None:
    ids = (tokenizer.token_to_id(name) for name in names)
    return next((index for index in ids if index is not None), None)


def within(ids: Array, tokenizer: Tokenizer, known: int | None) -> Array:
    """Ids that the embedding has: the unknown token's for those beyond."""
    if known is None or not (ids >= known).any():
        return ids
    unknown = first_known(tokenizer, ("<unk>", "[UNK]"))
    if unknown is None:
        raise SpecError(f"The tokenizer has tokens beyond the model's {known}, and none for what is unknown.")
    return np.where(ids < known, ids, unknown)


def _growth(rule: Any) -> int:
    """The product of what every replacement and prefix within may put in the place of one character."""
    if isinstance(rule, list):
        return math.prod(map(_growth, rule))
    if not isinstance(rule, dict):
        return 1
    own = [len(value) for key, value in rule.items() if key in ("content", "prepend") and isinstance(value, str)]
    return math.prod(max(size, 1) for size in own) * math.prod(_growth(value) for value in rule.values())
