"""BERT-base over ragged texts: a label each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, bundles, exported, of_labels, read, torch_dtype

FACTS = {
    "title": "Labels of ragged texts",
    "model": "BERT-base, random weights",
    "data": "texts of log-normal length, median 40 tokens, up to 512",
}
_HERE = "benchmarks.speed.text"


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    folder = checkpoints.bert(setting.folder / "bert", tiny=setting.quick)
    texts = data.texts(setting.size(64, 6), longest=512 if not setting.quick else 60)
    model = zoo.load(folder, task="text-classification", device="cpu")
    made = exported(setting, model, data.texts(setting.size(16, 8), longest=60, seed=7000))
    del model
    given = {"folder": str(folder), "inputs": setting.kept("texts", texts), "device": setting.device}
    yield Contest(
        f"{len(texts)} texts", len(texts), "texts",
        [
            Contestant("transformers pipeline", f"{_HERE}:pipeline", given),
            Contestant("pipeline, sorted, 8 a batch", f"{_HERE}:pipeline", {**given, "batch_size": 8}),
            Contestant("torch loop, sorted, 8 a batch", f"{_HERE}:loop", {**given, "batch_size": 8}),
            Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
            *bundles(f"{_HERE}:bundle", given, made),
        ],
    )  # fmt: skip


def pipeline(folder: str, inputs: str, device: str, batch_size: int | None = None, precision: str = "fp32") -> Ready:
    """batch_size: None is the default, one by one in the order given; else sorted by length, to pad little."""
    import transformers

    asked = transformers.pipeline("text-classification", model=folder, device=device, dtype=torch_dtype(precision))
    texts = read(inputs)

    def run() -> Answer:
        if batch_size is None:
            return _of_dicts(asked(texts, top_k=None))
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found = asked([texts[place] for place in order], top_k=None, batch_size=batch_size)
        return _of_dicts([item for _, item in sorted(zip(order, found, strict=True), key=lambda pair: pair[0])])

    return Ready(run)


def _of_dicts(found: Any) -> Answer:
    return of_labels([{score["label"]: score["score"] for score in item} for item in found], LABELS)


def loop(folder: str, inputs: str, device: str, batch_size: int) -> Ready:
    """What one writes oneself: sort by length, tokenize, forward, softmax."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).to(device).eval()
    names = [model.config.id2label[place] for place in range(len(LABELS))]
    texts = read(inputs)

    @torch.inference_mode()
    def run() -> Answer:
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        found: dict[int, dict[str, float]] = {}
        for start in range(0, len(texts), batch_size):
            places = order[start : start + batch_size]
            batch = tokenizer([texts[place] for place in places], padding=True, return_tensors="pt").to(device)
            scores = model(**batch).logits.softmax(-1).tolist()
            found.update((p, dict(zip(names, row, strict=True))) for p, row in zip(places, scores, strict=True))
        return of_labels([found[place] for place in range(len(texts))], LABELS)

    return Ready(run)


def ours(folder: str, inputs: str, device: str, precision: str = "fp32") -> Ready:
    import zoo

    model = zoo.load(folder, task="text-classification", device=device, precision=precision)
    texts = read(inputs)
    return Ready(lambda: _of_results(model.predict(texts)))


def bundle(folder: str, inputs: str, device: str) -> Ready:
    import zoo

    model = zoo.runtime.load(folder, device=device)
    texts = read(inputs)
    return Ready(lambda: _of_results(model.predict(texts)))


def _of_results(found: Any) -> Answer:
    return of_labels([{score.label: score.score for score in item.top} for item in found], LABELS)
