"""A bundle to results, on ONNX Runtime: no torch, no transformers in the process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.runtime.model import BundleModel
    from zoo.runtime.opening import load

__all__ = ["BundleModel", "load"]
_DOOR = {"BundleModel": "zoo.runtime.model", "load": "zoo.runtime.opening"}


def __getattr__(name: str) -> Any:
    # The options of `zoo serve` are read from below here, and a command's help needs no NumPy.
    if name in _DOOR:
        return getattr(importlib.import_module(_DOOR[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
