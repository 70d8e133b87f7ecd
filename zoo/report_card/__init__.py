"""`report.html` of a bundle: what it is, what goes in and comes out, what was measured. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo import bundle
from zoo.report_card.sections import (
    commands,
    facts_of,
    files,
    fine_tuning,
    made_with,
    parity,
    quality,
    tensors,
    times,
)  # fmt: skip
from zoo.report_card.words import preprocessing, short
from zoo.report_html import bullets, page, section

if TYPE_CHECKING:
    from zoo.bench import Timing

__all__ = ["html", "write"]


def write(folder: Path) -> Path:
    """Put the report beside a finished card, before the manifest is made of the folder."""
    path = folder / bundle.REPORT
    path.write_text(html(folder), encoding="utf-8")
    return path


def html(folder: Path, timings: Sequence[Timing] = ()) -> str:
    """The whole page of a bundle; with its times, which needs matplotlib, where there are any."""
    card = bundle.read_card(folder)
    parts = {
        "The model": facts_of(card, folder),
        "How to run it": commands(card),
        "Inputs and outputs": tensors(card),
        "Preprocessing": bullets(preprocessing(card)),
        "Agreement with torch": parity(card),
        "Less than fp32": quality(card),
        "Times": times(timings),
        "Fine-tuning": fine_tuning(card),
        "Files": files(folder),
        "Made with": made_with(card),
    }
    title = f"{short(card.spec.title or card.spec.name)}: {card.task}"
    return page(title, [section(name, body) for name, body in parts.items() if body])
