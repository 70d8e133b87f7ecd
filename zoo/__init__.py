"""One interface over text, vision and audio models: load, finetune, predict, export."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zoo import runtime
    from zoo.batching import batch
    from zoo.catalog import info, list_models
    from zoo.entry import evaluate, export, load
    from zoo.index import Index
    from zoo.manifest import verify
    from zoo.model import Model
    from zoo.report import Report
    from zoo.spec import ModelSpec
    from zoo.training.config import TrainConfig
    from zoo.training.lint import lint

__version__ = "0.1.0"

# The one lazy door: a name and the module that has it. Importing `zoo` imports none of them.
_DOOR = {
    "Index": "zoo.index",
    "Model": "zoo.model",
    "ModelSpec": "zoo.spec",
    "Report": "zoo.report",
    "TrainConfig": "zoo.training.config",
    "batch": "zoo.batching",
    "evaluate": "zoo.entry",
    "export": "zoo.entry",
    "info": "zoo.catalog",
    "lint": "zoo.training.lint",
    "list_models": "zoo.catalog",
    "load": "zoo.entry",
    "verify": "zoo.manifest",
}
# Those of them that compute.
_ARRAYS = ("Index", "Model", "batch", "evaluate", "export", "load")
_MODULES = ("errors", "results", "runtime", "spec", "tasks", "modalities")

__all__ = [
    "Index", "Model", "ModelSpec", "Report", "TrainConfig", "__version__", "batch", "evaluate", "export", "info",
    "lint", "list_models", "load", "runtime", "verify",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _DOOR:
        if name in _ARRAYS:
            importlib.import_module("zoo.blas").settle()
        return getattr(importlib.import_module(_DOOR[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"zoo.{name}")
    # ZooError and its kin: zoo.ParityError reads better than zoo.errors.ParityError.
    errors = importlib.import_module("zoo.errors")
    if name in vars(errors) and name[0].isupper() and name != "Any":
        return vars(errors)[name]
    raise AttributeError(f"module 'zoo' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
