"""`zoo.batch`: a bundle over more inputs than one machine has time for, on Ray Data. Torch-free.

The inputs are cut into parts. A part is one answered file in the output's folder, written whole or not at all by the
worker that answered it; so a run that was killed goes on where it was.
"""

from __future__ import annotations

from zoo.batching.run import BatchRun, batch

__all__ = ["BatchRun", "batch"]
