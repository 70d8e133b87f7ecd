"""A small BERT learns labels of ragged texts."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.learning import Job, Scores, labelled, of_trainer, of_zoo
from benchmarks.speed.work import Setting

FACTS = {
    "title": "Fine-tuning",
    "model": "BERT of 4 layers of 256, random weights, all of it trained",
    "data": "texts of log-normal length, median 40 tokens, up to 512; a label that four in five of the words tell",
}
_HERE = "benchmarks.speed.finetune"
_BATCH = 16
_GOAL = 0.5  # of a loss that begins at 1.1


def contests(setting: Setting) -> Iterator[Contest]:
    longest, count, updates = (60, 32, 2) if setting.quick else (512, 320, 40)
    given = {
        "folder": str(checkpoints.small_bert(setting.folder / "bert", tiny=setting.quick)),
        "sure": str(checkpoints.small_bert(setting.folder / "sure", tiny=setting.quick, dropout=0.0)),
        "train": setting.kept("train", _rows(count, longest, 0)),
        "test": setting.kept("test", _rows(setting.size(128, 8), longest, 9000)),
        "updates": updates,
        "batch": _BATCH,
        "rate": 5e-4,
        "device": setting.device,
        "goal": _GOAL,
    }
    grouped = {**given, "strategy": "group_by_length"}
    yield Contest(
        f"{updates} updates of {_BATCH} texts", updates * _BATCH, "samples",
        [
            Contestant("Trainer", f"{_HERE}:trainer", given),
            Contestant("Trainer, group_by_length", f"{_HERE}:trainer", grouped),
            Contestant("zoo, finetune", f"{_HERE}:ours", given, ours=True),
            *(_at_their_best(given, grouped) if setting.device == "cuda" else ()),
        ],
        judged=False,
    )  # fmt: skip


def _at_their_best(given: dict[str, Any], grouped: dict[str, Any]) -> list[Contestant]:
    """bf16 and compiled: what a GPU is for. Rounding is coarser there."""
    fast = {"precision": "bf16", "compiled": True}
    return [
        Contestant(
            "Trainer, grouped, bf16, compiled", f"{_HERE}:trainer", {**grouped, **fast}, tolerance=None
        ),
        Contestant("zoo, bf16, compiled", f"{_HERE}:ours", {**given, **fast}, ours=True, tolerance=None),
    ]  # fmt: skip


def _rows(count: int, longest: int, seed: int) -> list[tuple[str, str]]:
    """A text and its label: four in five of its words are of the label's own."""
    rows = []
    for place, tokens in enumerate(data.lengths(count, median=38, longest=longest - 2, seed=seed, shortest=6)):
        rng = random.Random(seed + place)
        kind = rng.randrange(len(LABELS))
        own = data.WORDS[kind * 50 : kind * 50 + 50]
        words = [rng.choice(own if rng.random() < 0.8 else data.WORDS[150:]) for _ in range(tokens)]
        rows.append((" ".join(words), LABELS[kind]))
    return rows


def trainer(strategy: str = "random", precision: str = "fp32", compiled: bool = False, **given: Any) -> Ready:
    """strategy: `train_sampling_strategy` of TrainingArguments; "random" is its default."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

    job = Job(**given)
    tokenizer = AutoTokenizer.from_pretrained(job.folder)

    def scores(model: Any, texts: Sequence[str]) -> Scores:
        found = []
        with torch.inference_mode():
            for text in texts:
                batch = tokenizer(text, truncation=True, return_tensors="pt").to(model.device)
                found.append(labelled(model.config.id2label, model(**batch).logits.softmax(-1)[0]))
        return found

    return of_trainer(
        job, AutoModelForSequenceClassification.from_pretrained,
        [{**tokenizer(text, truncation=True), "labels": LABELS.index(label)} for text, label in job.rows],
        scores, DataCollatorWithPadding(tokenizer), train_sampling_strategy=strategy, bf16=precision == "bf16",
        torch_compile=compiled,
    )  # fmt: skip


def ours(precision: str = "fp32", compiled: bool = False, **given: Any) -> Ready:
    """precision: as the reference's, on a GPU too."""
    return of_zoo(Job(**given), "text-classification", compile=compiled, precision=precision)
