"""The server: one process that answers, or several on one address."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from zoo.runtime.serve import logs, supervisor
from zoo.runtime.serve.listening import listening, reserved
from zoo.runtime.serve.settings import Settings, check


def run(bundles: Sequence[str | Path], settings: Settings) -> bool:
    """Serve until SIGTERM or SIGINT, then finish what is running. SIGHUP loads every bundle again.

    Returns False where a model was still busy at the end: its thread runs on. Raises BundleError, also for a model that
    opens and can't answer, and ConfigError for an address that can't be listened on.
    """
    check(settings)
    logs.configure(settings.log_format)
    if settings.workers > 1:
        with reserved(settings) as place:
            return supervisor.run(bundles, settings, place)
    # A supervisor needs none of what answers.
    from zoo.runtime.serve import worker

    app = worker.open_app(bundles, settings)
    with listening(settings) as listener:
        logs.listening(listener, list(app.shelf.models))
        return worker.answer(app, listener)
