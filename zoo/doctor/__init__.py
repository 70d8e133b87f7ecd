"""What is wrong with an installation, and what mends it: facts are collected once, then judged by pure functions."""

from __future__ import annotations

from zoo.doctor.checks import Finding, Level, diagnose
from zoo.doctor.facts import Facts, Needed, TorchCuda, collect

__all__ = ["Facts", "Finding", "Level", "Needed", "TorchCuda", "collect", "diagnose"]
