"""Export every family of the catalogue at tiny size, check parity, and write the support table.

    python export/catalogue.py                      # writes docs/support.md
    python export/catalogue.py --check              # exits with 1 where an export fails, writes nothing

Weights are random: what is proven is that the graph answers as torch does, for every family and task, with
ragged batches. Nothing here says how good a model is.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the tiny configurations live with the tests

import zoo  # noqa: E402


@dataclass(frozen=True, slots=True)
class Row:
    """One family and task: the figures of its parity check, or why there are none."""

    family: str
    task: str
    difference: float = 0.0
    tolerance: float = 0.0
    agreement: float = 0.0
    cases: int = 0
    failure: str = ""


def export_one(family: str, task: str, folder: Path) -> Row:
    """Load a family at tiny size with random weights, export it, and return what the parity check found."""
    from tests.conformance.conftest import tiny_model

    try:
        found = tiny_model(family, task).export(folder / f"{family}-{task}.bundle").card.parity
    except zoo.ZooError as error:
        return Row(family, task, failure=str(error).splitlines()[0])
    assert found is not None
    return Row(family, task, found.max_abs_difference, found.tolerance, found.agreement, found.cases)


def export_all(families: list[str] | None = None) -> Iterator[Row]:
    from tests.tiny import FAMILIES

    with tempfile.TemporaryDirectory() as folder:
        for family in families or FAMILIES:
            for task in zoo.info(family).tasks:
                yield export_one(family, task, Path(folder))


def table(rows: list[Row]) -> str:
    lines = [
        "# Export support",
        "",
        "Written by `python export/catalogue.py`; not by hand. Every family of the catalogue, at tiny size with random",
        "weights, exported and compared with torch on raw inputs: torch one by one, the bundle in batches of several",
        f"sizes, padded. torch {version('torch')}, transformers {version('transformers')}, timm {version('timm')}.",
        "",
        "| family | task | largest difference | allowed | results the same | cases |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        figures = (
            f"{row.difference:.1e} | {row.tolerance:.1e} | {row.agreement:.0%} | {row.cases}"
            if not row.failure
            else f"**not supported**: {row.failure} | | |"
        )
        lines.append(f"| {row.family} | {row.task} | {figures} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="names of the catalogue; one of each family when none is given")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where an export fails")
    options = parser.parse_args()
    rows = []
    for row in export_all(options.families):
        print(f"{row.family:24} {row.task:32} {row.failure or f'{row.difference:.1e}'}", flush=True)
        rows.append(row)
    if not options.check and not options.families:
        (ROOT / "docs" / "support.md").write_text(table(rows), encoding="utf-8")
    if any(row.failure for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
