"""Take every family of the catalogue, at tiny size, through fine-tuning and export, and write the table of support.

    python export/catalogue.py                      # all of them: writes docs/support.md; some half an hour
    python export/catalogue.py resnet18 bert-base-cased     # renews the lines of these
    python export/catalogue.py --check resnet18     # exits with 1 where an export fails, writes nothing

Weights are random: what is proven is that a method trains, and that the graph answers as torch does, for every family
and task, with ragged batches. Nothing here says how good a model is.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "docs" / "support.md"
FIGURES = ROOT / "benchmarks" / "results" / "support.json"
sys.path.insert(0, str(ROOT))  # the tiny configurations live with the tests

import zoo  # noqa: E402
from tests.conformance.capabilities import METHODS, Capabilities, capabilities  # noqa: E402
from tests.tiny import FAMILIES  # noqa: E402

Row = dict[str, Any]


def one(family: str, task: str) -> Row:
    """What a family can do with a task, as `tests.conformance.capabilities` finds it."""
    with tempfile.TemporaryDirectory() as folder:
        return capabilities(family, task, Path(folder)).to_dict()


def pairs(families: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Every family, and every task of it. families: some names of the catalogue; one of each family when empty."""
    return [(family, task) for family in families or FAMILIES for task in zoo.info(family).tasks]


def all_of(wanted: Sequence[tuple[str, str]], jobs: int) -> Iterator[Row]:
    """In the order in which they end. Each process has one thread: more would fight for the cores."""
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        running = {pool.submit(one, family, task): (family, task) for family, task in wanted}
        for done in as_completed(running):
            try:
                yield done.result()
            # A fault of ours: the others are still worth knowing.
            except Exception as error:
                family, task = running[done]
                yield Capabilities(family, task, {}, "", failure=f"{type(error).__name__}: {error}").to_dict()


def versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "transformers", "timm", "peft", "onnx")}


def table(rows: Sequence[Mapping[str, Any]], made_with: Mapping[str, str]) -> str:
    methods = METHODS
    parity = ("export: largest difference", "allowed", "results the same", "cases")
    head = ["family", "task", *methods, "bf16", *parity]
    lines = [
        "# What is supported",
        "",
        "Written by `python export/catalogue.py`; not by hand. Every family of the catalogue and every task of it, at",
        "tiny size with random weights, takes a training step with each [method of fine-tuning](finetuning.md), one of",
        "all of it in bf16 (mixed precision), and is exported and compared with torch on raw inputs: torch one by one,",
        "the bundle in batches of several sizes, padded. What LoRA trained is what is exported, merged, where LoRA can",
        "be used. Bundles are in fp32. An empty field: the method is refused for that network, with the reason, or the",
        "task is not for training.",
        "",
        f"Made with {', '.join(f'{name} {number}' for name, number in made_with.items())}.",
        "",
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
    ]
    lines += [_line(row, methods) for row in sorted(rows, key=lambda row: (row["family"], row["task"]))]
    return "\n".join(lines) + "\n"


def _line(row: Mapping[str, Any], methods: Sequence[str]) -> str:
    marks = ["✓" if mark == "yes" else "" for mark in (*(row["methods"].get(m, "") for m in methods), row["bf16"])]
    figures = [f"{row['difference']:.1e}", f"{row['tolerance']:.1e}", f"{row['agreement']:.0%}", str(row["cases"])]
    if row["failure"]:
        figures = [f"**not supported**: {row['failure']}", "", "", ""]
    return f"| {' | '.join([row['family'], row['task'], *marks, *figures])} |"


def write(rows: Sequence[Row], *, whole: bool) -> None:
    """Keep the figures, with those that stay of earlier runs, and write the table of them."""
    known = set(pairs())
    before = [] if whole or not FIGURES.is_file() else json.loads(FIGURES.read_text(encoding="utf-8"))["rows"]
    kept = {(row["family"], row["task"]): row for row in [*before, *rows]}
    found = [row for pair, row in sorted(kept.items()) if pair in known]
    FIGURES.write_text(json.dumps({"versions": versions(), "rows": found}, indent=1) + "\n", encoding="utf-8")
    TABLE.write_text(table(found, versions()), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", help="names of the catalogue; one of each family when none is given")
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 where an export fails")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes side by side")
    options = parser.parse_args()
    rows = []
    for row in all_of(pairs(options.families), options.jobs):
        outcome = row["failure"] or f"{row['difference']:.1e}"
        print(f"{row['family']:24} {row['task']:32} {outcome}", flush=True)
        rows.append(row)
    if not options.check:
        write(rows, whole=not options.families)
    if any(row["failure"] for row in rows):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
