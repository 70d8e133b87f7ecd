"""A bundle to results, on ONNX Runtime: no torch, no transformers in the process."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo.runtime.model import BundleModel, load

__all__ = ["BundleModel", "load"]


def __getattr__(name: str) -> Any:
    # The options of `zoo serve` are read from below here, and a command's help needs no NumPy.
    if name in __all__:
        return getattr(importlib.import_module("zoo.runtime.model"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
