"""`zoo serve`: bundles over HTTP, without torch. `App(bundles, settings)` is the ASGI application.

Raises MissingDependency, with the command that installs it, where Starlette and its kin are not there.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from zoo.errors import missing
from zoo.runtime.serve.settings import Limits, Settings

if TYPE_CHECKING:
    from zoo.runtime.serve.app import App
    from zoo.runtime.serve.running import run

__all__ = ["App", "Limits", "Settings", "run"]


def __getattr__(name: str) -> Any:
    if name not in ("App", "run"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(f"zoo.runtime.serve.{'app' if name == 'App' else 'running'}")
    except ModuleNotFoundError as error:
        if (error.name or "zoo").partition(".")[0] == "zoo":
            raise
        raise missing(str(error.name), "serve", "Serving bundles") from error
    return getattr(module, name)
