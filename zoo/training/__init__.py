"""Fine-tuning and evaluation. Importing this package imports no torch; using `train` or `evaluate` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.training.config import TrainConfig

if TYPE_CHECKING:
    from zoo.training.evaluation import evaluate
    from zoo.training.fitting import train
    from zoo.training.lint import lint_before

__all__ = ["TrainConfig", "evaluate", "lint_before", "train"]

_HOMES = {"train": "zoo.training.fitting", "evaluate": "zoo.training.evaluation", "lint_before": "zoo.training.lint"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
