"""NumPy's matrix products, whose threads leave the cores to those of the network."""

from __future__ import annotations

import os
import sys

# OpenBLAS reads it when NumPy is imported: for so many ticks of the processor, as a power of two, a thread looks for
# more work before it sleeps. Some two milliseconds; NumPy's own is 28, a tenth of a second of a core after each product
# and after the import, when a first answer is on its way.
WAITING = ("OPENBLAS_THREAD_TIMEOUT", "22")


def settle() -> None:
    """Import NumPy with threads that soon sleep. Nothing where it is imported already, or the user has set how long."""
    name, value = WAITING
    if "numpy" in sys.modules or name in os.environ:
        return
    os.environ[name] = value
    try:
        import numpy  # noqa: F401
    finally:
        os.environ.pop(name, None)  # Another thread may have been as far.
