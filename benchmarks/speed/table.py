"""A contest's rows for a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAME = 32


def shown(contest: Mapping[str, Any]) -> str:
    unit = f"{contest['unit']}/s"
    lines = [contest["name"], f"{'':{_NAME}} {'times (lowest to highest)':>22} {unit:>12} {'peak MB':>8}"]
    lines += [line for row in contest["rows"] for line in _row(row)]
    return "\n".join(lines)


def _row(row: Mapping[str, Any]) -> list[str]:
    name = f"{'* ' if row['ours'] else ''}{row['name']}"[:_NAME]
    reason = why(row)
    if reason:
        return [f"{name:{_NAME}} {reason}"[:80]]
    times = f"{row['times']['median']:.2f} ({row['times']['min']:.2f} to {row['times']['max']:.2f})"
    return [f"{name:{_NAME}} {times:>22} {row['per_second']:>12.4g} {row['peak_mb']:>8.0f}"]


def why(row: Mapping[str, Any]) -> str:
    """Why a row has no times; nothing where it has."""
    return next(
        (f"{kind.replace('_', ' ')}: {row[kind]}" for kind in ("left_out", "refused", "failed") if kind in row), ""
    )
