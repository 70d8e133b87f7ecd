"""The compiler that torch's own needs on a CPU."""

from __future__ import annotations

import os
import shutil

from zoo.errors import ConfigError


def check(device: str) -> None:
    """Raises ConfigError where torch would find none at the first batch. device: its type, such as "cpu"."""
    known = [os.environ.get("CXX"), "g++", "clang++"]
    if device == "cpu" and not any(shutil.which(name) for name in known if name):
        raise ConfigError(
            "compile=True needs a C++ compiler on the CPU, and there is none on PATH (g++, clang++, or what CXX "
            "names). Install one (on Debian: apt install g++), or leave compile out."
        )
