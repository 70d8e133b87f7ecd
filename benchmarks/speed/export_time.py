"""From a loaded BERT of MiniLM's size to a folder that answers by ONNX Runtime: the time, and how large it is."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.text import LABELS
from benchmarks.speed.work import Setting, of_labels, read

FACTS = {
    "title": "Export",
    "model": "BERT of MiniLM's size (6 layers of 384), random weights",
    "data": "a batch of two padded texts; ours compares the bundle with torch too, theirs compares nothing",
}
_HERE = "benchmarks.speed.export_time"


def contests(setting: Setting) -> Iterator[Contest]:
    folder = checkpoints.labelled_minilm(setting.folder / "bert", tiny=setting.quick)
    # Another two than those that are answered: a graph that only knows what it was traced with is refused.
    given = {"folder": str(folder), "inputs": setting.kept("texts", data.texts(4, longest=60))}
    yield Contest(
        "export", 1, "exports",
        [
            Contestant("transformers.exporters, ONNX", f"{_HERE}:exporter", given),
            Contestant("the same, ort_fusions=cpu", f"{_HERE}:exporter", {**given, "fusions": "cpu"}),
            Contestant("zoo, export", f"{_HERE}:ours", given, ours=True),
        ],
    )  # fmt: skip


def exporter(folder: str, inputs: str, fusions: str | None = None) -> Ready:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer
    from transformers.exporters import ExportedModel, OnnxConfig, OnnxExporter

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    texts = read(inputs)

    def run() -> Answer:
        with tempfile.TemporaryDirectory() as target:
            start = time.perf_counter()
            sample = dict(tokenizer([texts[0], texts[1]], padding=True, return_tensors="pt"))
            made = OnnxExporter().export(model, sample, OnnxConfig(dynamic=True, ort_fusions=fusions))
            made.save_pretrained(target)
            seconds = time.perf_counter() - start
            opened = ExportedModel.from_pretrained(target, device="cpu")
            scores = [
                opened(**tokenizer([text], return_tensors="pt")).logits.softmax(-1)[0].tolist() for text in texts[2:]
            ]
            return _answer(scores, seconds, Path(target))

    return Ready(run)


def _answer(scores: list[list[float]], seconds: float, target: Path) -> Answer:
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file()) / 1e6
    found = [dict(zip(LABELS, row, strict=True)) for row in scores]
    return of_labels(found, LABELS, {"seconds": seconds, "mb": size})


def ours(folder: str, inputs: str) -> Ready:
    import zoo

    model = zoo.load(folder, task="text-classification", device="cpu")
    texts = read(inputs)

    def run() -> Answer:
        with tempfile.TemporaryDirectory() as name:
            target = Path(name) / "a.bundle"
            start = time.perf_counter()
            model.export(target)
            seconds = time.perf_counter() - start
            found = [
                {item.label: item.score for item in one.top} for one in zoo.runtime.load(target).predict(texts[2:])
            ]
            return _answer([[one[label] for label in LABELS] for one in found], seconds, target)

    return Ready(run)
