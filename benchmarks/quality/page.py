"""docs/quality.md, from the figures of benchmarks/results/quality_*.json: `python benchmarks/quality/page.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "quality.md"
HEAD = """# What training reaches

Written by `python benchmarks/quality/page.py`; not by hand. Each table is of a script that anyone can run, with the
same model trained by what one would otherwise use, at equal data, epochs, batch and peak rate, in turn in one process;
of entities this project's row is of a later run than the other. The mean over the seeds, the lowest and the highest.
"""
TITLES = {
    "entities": "Named entities",
    "topics": "Topics of news",
    "images": "Images: all of the network, LoRA, the head alone",
    "spoken_digits": "Spoken digits",
    "boxes": "Boxes",
    "ratings": "Ratings of films",
}


def page(found: Mapping[str, Mapping[str, Any]]) -> str:
    """found: by the script's name, what it wrote."""
    return "\n".join([HEAD, *(_section(name, found[name]) for name in TITLES if name in found)])


def _section(name: str, result: Mapping[str, Any]) -> str:
    result = _ratings(result) if "arms" not in result else result
    versions = ", ".join(f"{key} {value}" for key, value in result["versions"].items())
    lines = [
        f"## {TITLES[name]}",
        "",
        f"`python benchmarks/quality/{name}.py`. {result['data']}. Model: {result['model']}. "
        f"Epochs: {result['epochs']}. "
        f"Seeds: {result['seeds']}. Device: {result.get('device', 'cpu')}. {versions}.",
        "",
        f"| {result['metric']} | mean | lowest | highest |",
        "|---|---|---|---|",
    ]
    lines += [f"| {arm} | {x['mean']:.3f} | {x['min']:.3f} | {x['max']:.3f} |" for arm, x in result["arms"].items()]
    return "\n".join(lines) + "\n"


def _ratings(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of ratings.py, which has no seed of the other arm's: one result a split."""
    names = {"rmse": "Wide & Deep", "bias_rmse": "bias model"}
    values = {arm: [run[key] for run in result["runs"]] for key, arm in names.items()}
    return {
        "data": result["what"],
        "model": "wide-and-deep",
        "metric": "RMSE",
        "epochs": result["options"]["epochs"],
        "seeds": len(result["seeds"]),
        "versions": result["versions"],
        "arms": {arm: {"mean": sum(v) / len(v), "min": min(v), "max": max(v)} for arm, v in values.items()},
    }


def results() -> dict[str, Any]:
    paths = sorted(RESULTS.glob("quality_*.json"))
    return {path.stem.removeprefix("quality_"): json.loads(path.read_text(encoding="utf-8")) for path in paths}


if __name__ == "__main__":
    PAGE.write_text(page(results()), encoding="utf-8")
