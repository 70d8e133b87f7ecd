"""The README's table of the main job, from benchmarks/results/main_job.json (a copy of demo-output/main_job.json)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "main_job.json"


def table(found: dict[str, Any]) -> str:
    lines = [
        "| model | task | metric | before | after | largest difference | results the same | bundle / torch time | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found["rows"]:
        ratio = row["bundle_ms_per_item"] / row["torch_ms_per_item"]
        lines.append(
            f"| {row['model']} | {row['task']} | {row['metric']} | {row['before']:.3f} | {row['after']:.3f} "
            f"| {row['parity_max_abs_difference']:.0e} | {row['parity_agreement']:.0%} | {ratio:.2f} "
            f"| {row['bundle_mb']:.0f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(json.loads(RESULTS.read_text(encoding="utf-8"))))
