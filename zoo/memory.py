"""Memory that one batch on a CPU gives back is kept for the next.

glibc gives large pieces back to the system at once, and asks for them anew: with each batch all of its pages are zeroed
again, one fault a page, which took a quarter of ResNet-50's time. See mallopt(3).
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# Bytes. Larger pieces go back at once, and what is free at the end of the heap beyond the second number does, too: with
# a gigabyte of each, speech in batches took twice its memory, in holes between pieces of many sizes.
_PIECE, _KEPT = 2**27, 2**28
# Whoever sets one of them has decided.
_OWN = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TOP_PAD_", "MALLOC_MMAP_MAX_", "GLIBC_TUNABLES")


@functools.cache
def keep() -> bool:
    """From now on in this process. False where nothing was changed: another allocator, or the user's own choice."""
    if any(name in os.environ for name in _OWN) or platform.libc_ver()[0] != "glibc":
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return False
    return bool(set_option(_M_MMAP_THRESHOLD, _PIECE)) and bool(set_option(_M_TRIM_THRESHOLD, _KEPT))
