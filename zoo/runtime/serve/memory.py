"""Memory of a process that only serves: glibc's, held to what is in use, and Python's, not looked through in vain.

A server exchanges whole models, for weeks.
"""

from __future__ import annotations

import ctypes
import gc
from typing import Any

_MMAP_THRESHOLD, _ARENA_MAX = -3, -8  # malloc.h
_LARGE = 1 << 20  # bytes


def settle() -> None:
    """Before threads begin. What is large goes back to the system as soon as it is free, whatever lies behind it.

    By itself glibc keeps up to eight heaps a core, and puts blocks of up to 32 MB into them once one was freed: with
    five tiny models that were exchanged under load, memory doubled in ten exchanges.
    """
    found = _glibc()
    if found is not None:
        found.mallopt(_ARENA_MAX, 2)
        found.mallopt(_MMAP_THRESHOLD, _LARGE)


def trim() -> None:
    """After a model has gone: its small blocks too."""
    found = _glibc()
    if found is not None:
        found.malloc_trim(0)


def freeze() -> None:
    """When models are ready, or one has gone: what lives now is not looked through for garbage until the next call.

    Else Python stops for some 25 ms now and then to look through all that its modules hold, and the requests that wait
    meanwhile are the slowest hundredth.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    # Python looks through everything when a quarter has come since the last time: now that is a quarter of nothing.
    gc.collect()


def _glibc() -> Any:
    """None where the C library is another."""
    try:
        library = ctypes.CDLL(None)
    # Windows has no such name.
    except (OSError, TypeError):
        return None
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None
