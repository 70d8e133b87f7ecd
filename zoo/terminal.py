"""Text in a terminal's cells: a Chinese character takes two, a combining mark none."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size


def width(text: str) -> int:
    """Cells that a line takes."""
    return cell_len(text)


def fit(text: str, cells: int) -> str:
    """The text in one line of at most so many cells, its end left out for three dots."""
    flat = " ".join(text.split())
    return flat if cell_len(flat) <= cells else set_cell_size(flat, cells - 3).rstrip() + "..."


def left(text: str, cells: int) -> str:
    """The text with spaces behind it, up to so many cells."""
    return text + " " * (cells - cell_len(text))


def right(text: str, cells: int) -> str:
    """The text with spaces before it, up to so many cells."""
    return " " * (cells - cell_len(text)) + text
