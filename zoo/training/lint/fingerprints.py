"""Equal inputs found by a hash each: of a text as a reader sees it, of a file's bytes, of an array's values."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

Hash = bytes
_BLOCK = 1 << 20


def fingerprints(inputs: Sequence[Any], *, files: bool) -> list[Hash | None]:
    """A hash of every input; None for one that equals no other for certain, or that can't be read.

    files: texts are paths of media. A file is read only where another one has its size.
    """
    if not files:
        return [_of_value(given) for given in inputs]
    sizes = [_size(given) for given in inputs]
    shared = Counter(size for size in sizes if size is not None)
    return [
        _of_file(given) if size is not None and shared[size] > 1 else None if size is not None else _of_value(given)
        for given, size in zip(inputs, sizes, strict=True)
    ]


def _size(given: Any) -> int | None:
    """Bytes of a file; None for what is no path of one."""
    if not isinstance(given, (str, os.PathLike)):
        return None
    try:
        return os.stat(given).st_size
    except (OSError, ValueError):
        return None


def _of_file(path: Any) -> Hash | None:
    found = _hash()
    try:
        with open(path, "rb") as file:
            while block := file.read(_BLOCK):
                found.update(block)
    except OSError:
        return None
    return bytes(found.digest())


def _of_value(given: Any) -> Hash | None:
    found = _hash()
    _feed(given, found.update)
    return bytes(found.digest())


def _feed(given: Any, update: Callable[[bytes], None]) -> None:
    """Each kind with a letter of its own, so that ["a", "b"] and "a b" differ."""
    if isinstance(given, str):
        # White space at the ends and the way an accent is written are nothing that a reader sees.
        update(b"s" + unicodedata.normalize("NFC", given).strip().encode("utf-8", "surrogatepass"))
    elif isinstance(given, (bytes, bytearray, memoryview)):
        update(b"b" + bytes(given))
    elif isinstance(given, Mapping):
        for key in sorted(given, key=str):
            update(b"k" + str(key).encode("utf-8", "surrogatepass"))
            _feed(given[key], update)
    elif isinstance(given, (list, tuple)):
        for item in given:
            update(b"i")
            _feed(item, update)
    elif hasattr(given, "__array__"):
        array = np.asarray(given)
        update(f"a{array.shape}{array.dtype}".encode())
        update(np.ascontiguousarray(array).tobytes())
    else:
        update(b"r" + repr(given).encode("utf-8", "surrogatepass"))


def _hash() -> Any:
    return hashlib.blake2b(digest_size=16)
