"""A small BERT learns labels of ragged texts: equal updates, batches and rates.

What is compared first is a proof: all rows are one batch and nothing is dropped out, so that order and chance have no
part, and after some updates the scores must be equal. In the rounds each has a seed of its own, and the losses tell how
much was learned.
"""

from __future__ import annotations

import itertools
import math
import random
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, read

FACTS = {
    "title": "Fine-tuning",
    "model": "BERT of 4 layers of 256, random weights, all of it trained",
    "data": "texts of log-normal length, median 40 tokens, up to 512; a label that four in five of the words tell",
}
_HERE = "benchmarks.speed.finetune"
_BATCH = 16
_RATE = 5e-4
_UPDATES_OF_PROOF = 6


def contests(setting: Setting) -> Iterator[Contest]:
    folder = checkpoints.small_bert(setting.folder / "bert", tiny=setting.quick)
    sure = checkpoints.small_bert(setting.folder / "sure", tiny=setting.quick, dropout=0.0)
    longest, count, updates = (60, 32, 2) if setting.quick else (512, 320, 40)
    given = {
        "folder": str(folder),
        "sure": str(sure),
        "train": setting.kept("train", _rows(count, longest, 0)),
        "test": setting.kept("test", _rows(setting.size(128, 8), longest, 9000)),
        "updates": updates,
        "device": setting.device,
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
    return [
        Contestant(
            "Trainer, grouped, bf16, compiled", f"{_HERE}:trainer", {**grouped, "fast": True}, tolerance=None
        ),
        Contestant("zoo, bf16, compiled", f"{_HERE}:ours", {**given, "fast": True}, ours=True, tolerance=None),
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


def trainer(
    folder: str, sure: str, train: str, test: str, updates: int, device: str, strategy: str = "random",
    fast: bool = False,
) -> Ready:  # fmt: skip
    """strategy: `train_sampling_strategy` of TrainingArguments; "random" is its default. fast: bf16 and compiled."""
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    tokenizer = AutoTokenizer.from_pretrained(folder)
    rows = [
        {**tokenizer(text, truncation=True), "labels": LABELS.index(label)} for text, label in read(train)
    ]  # fmt: skip
    texts, labels = map(list, zip(*read(test), strict=True))

    def make(checkpoint: str, some: Sequence[Any], steps: int, seed: int) -> Any:
        return Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(checkpoint),
            args=TrainingArguments(
                output_dir=tempfile.mkdtemp(), max_steps=steps, per_device_train_batch_size=_BATCH,
                learning_rate=_RATE, lr_scheduler_type="linear", warmup_steps=updates // 10, weight_decay=0.01,
                train_sampling_strategy=strategy, save_strategy="no", report_to=[], disable_tqdm=True, seed=seed,
                use_cpu=device == "cpu", bf16=fast, torch_compile=fast,
            ),
            train_dataset=some, data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip

    def proof() -> Answer:
        made = make(sure, rows[:_BATCH], _UPDATES_OF_PROOF, seed=0)
        made.train()
        return _answer(_scores(made.model.eval(), tokenizer, texts))

    def run(made: Any) -> Answer:
        start = time.perf_counter()
        made.train()
        seconds = time.perf_counter() - start
        return _answer(_scores(made.model.eval(), tokenizer, texts), labels, seconds)

    seeds = itertools.count()
    return Ready(run, lambda: make(folder, rows, updates, next(seeds)), proof)


def _scores(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[dict[str, float]]:
    import torch

    found = []
    with torch.inference_mode():
        for text in texts:
            batch = tokenizer(text, truncation=True, return_tensors="pt").to(model.device)
            found.append(dict(zip(LABELS, model(**batch).logits.softmax(-1)[0].tolist(), strict=True)))
    return found


def _answer(
    scores: Sequence[Mapping[str, float]], labels: Sequence[str] = (), seconds: float | None = None
) -> Answer:  # fmt: skip
    """labels, seconds: of a run that is timed, whose loss on these texts is a figure of its own."""
    numbers = [[found[label] for label in LABELS] for found in scores]
    if seconds is None:
        return Answer(numbers=numbers)
    loss = sum(-math.log(max(found[label], 1e-12)) for found, label in zip(scores, labels, strict=True)) / len(labels)
    return Answer(numbers=numbers, figures={"seconds": seconds, "loss": loss})


def ours(
    folder: str, sure: str, train: str, test: str, updates: int, device: str, fast: bool = False
) -> Ready:  # fmt: skip
    """fast: bf16 and compiled; else fp32, as the reference, on a GPU too."""
    import zoo

    rows = [(text, label) for text, label in read(train)]
    texts, labels = map(list, zip(*read(test), strict=True))
    seeds = itertools.count()

    def load(checkpoint: str) -> Any:
        return zoo.load(checkpoint, task="text-classification", device=device)

    def learn(model: Any, some: Sequence[Any], steps: int, seed: int) -> None:
        model.finetune(
            some, None, max_steps=steps, epochs=1000, batch_size=_BATCH, learning_rate=_RATE, scheduler="linear",
            warmup_steps=updates // 10, weight_decay=0.01, lint=False, progress=False, seed=seed,
            compile=fast, precision="bf16" if fast else "fp32",
        )  # fmt: skip

    def told(model: Any) -> list[dict[str, float]]:
        return [{item.label: item.score for item in one.top} for one in model.predict(texts)]

    def proof() -> Answer:
        model = load(sure)
        learn(model, rows[:_BATCH], _UPDATES_OF_PROOF, seed=0)
        return _answer(told(model))

    def run(model: Any) -> Answer:
        start = time.perf_counter()
        learn(model, rows, updates, next(seeds))
        seconds = time.perf_counter() - start
        return _answer(told(model), labels, seconds)

    return Ready(run, lambda: load(folder), proof)
