"""A bundle to results, on ONNX Runtime: no torch, no transformers in the process."""

from __future__ import annotations

from zoo.runtime.model import BundleModel, load

__all__ = ["BundleModel", "load"]
