"""The command `zoo`: thin layers over the Python calls, a file for each group of commands."""

from __future__ import annotations

from zoo.cli.app import app, main

__all__ = ["app", "main"]
