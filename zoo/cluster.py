"""A connection to a Ray cluster, for as long as one piece of work needs it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from zoo.errors import missing


def import_ray(purpose: str) -> Any:
    """The module `ray`. Raises MissingDependency with the command that installs it."""
    try:
        import ray
    except ImportError as error:
        raise missing("ray", "ray", purpose) from error
    return ray


@contextmanager
def connected(ray: Any, address: str) -> Iterator[None]:
    """A connection for one piece of work alone, unless there is one already.

    address: "local" starts Ray on this machine; else what `ray.init(address=...)` takes: "auto", "ray://host:10001".
    """
    if ray.is_initialized():
        yield
        return
    started = {} if address == "local" else {"address": address}
    ray.init(
        **started,
        log_to_driver=False,
        logging_level=logging.ERROR,
        include_dashboard=False if address == "local" else None,
    )
    try:
        yield
    finally:
        ray.shutdown()
