"""The tokenizers library at arm's length: its panics as errors, and no tokenizer that writes a text out without end."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from zoo.errors import SpecError, ZooError
from zoo.plain import load_json

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


def _growth(rule: Any) -> int:
    """The product of what every replacement and prefix within may put in the place of one character."""
    if isinstance(rule, list):
        return math.prod(map(_growth, rule))
    if not isinstance(rule, dict):
        return 1
    own = [len(value) for key, value in rule.items() if key in ("content", "prepend") and isinstance(value, str)]
    return math.prod(max(size, 1) for size in own) * math.prod(_growth(value) for value in rule.values())
