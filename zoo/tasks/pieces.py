"""A text that grows, in pieces: what a stream gives."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import Any

from zoo.modalities.base import Array
from zoo.tasks.generation import settled


def pieces_of(
    texts: Generator[str, None, Mapping[str, Array]], decode: Callable[[dict[str, Array]], Any]
) -> Generator[str, None, Any]:
    """What each text has more than the one before it; in the end the result, with a `text` that they make together.

    texts: as of a `zoo.tasks.base.Writer`. decode: the outputs of one row as a result.
    """
    given = ""
    while True:
        try:
            text = settled(next(texts), ())
        except StopIteration as end:
            result = decode({name: array[0] for name, array in end.value.items()})
            break
        # A tokenizer may write its last word otherwise once another follows: that waits for the end.
        if text.startswith(given) and len(text) > len(given):
            yield text[len(given) :]
            given = text
    if result.text.startswith(given) and len(result.text) > len(given):
        yield result.text[len(given) :]
    return result
