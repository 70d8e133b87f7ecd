"""A small BERT learns labels of ragged texts: equal updates, batches and rates; the held-out loss must be equal."""

from __future__ import annotations

import math
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
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
# Of the loss: rows come in another order, and so do the masks of dropout.
_TOLERANCE = 0.1


def contests(setting: Setting) -> Iterator[Contest]:
    folder = checkpoints.small_bert(setting.folder / "bert", tiny=setting.quick)
    longest, count, updates = (60, 32, 2) if setting.quick else (512, 320, 40)
    given = {
        "folder": str(folder),
        "train": setting.kept("train", _rows(count, longest, 0)),
        "test": setting.kept("test", _rows(setting.size(128, 8), longest, 9000)),
        "updates": updates,
        "device": setting.device,
    }
    grouped = {**given, "strategy": "group_by_length"}
    yield Contest(
        f"{updates} updates of {_BATCH} texts", updates * _BATCH, "samples",
        [
            Contestant("Trainer", f"{_HERE}:trainer", given, tolerance=_TOLERANCE),
            # Its loss ends higher than is allowed of others: written down here, and not judged.
            Contestant("Trainer, group_by_length", f"{_HERE}:trainer", grouped, tolerance=None),
            Contestant("zoo, finetune", f"{_HERE}:ours", given, ours=True, tolerance=_TOLERANCE),
        ],
        told=False,
    )  # fmt: skip


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


def trainer(folder: str, train: str, test: str, updates: int, device: str, strategy: str = "random") -> Ready:
    """strategy: `train_sampling_strategy` of TrainingArguments; "random" is its default."""
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

    def before() -> Any:
        return Trainer(
            model=AutoModelForSequenceClassification.from_pretrained(folder),
            args=TrainingArguments(
                output_dir=tempfile.mkdtemp(), max_steps=updates, per_device_train_batch_size=_BATCH,
                learning_rate=_RATE, lr_scheduler_type="linear", warmup_steps=updates // 10, weight_decay=0.01,
                train_sampling_strategy=strategy, save_strategy="no", report_to=[], disable_tqdm=True,
                use_cpu=device == "cpu",
            ),
            train_dataset=rows, data_collator=DataCollatorWithPadding(tokenizer),
        )  # fmt: skip

    def run(made: Any) -> Answer:
        start = time.perf_counter()
        made.train()
        seconds = time.perf_counter() - start
        scores = _scores(made.model.eval(), tokenizer, [text for text, _ in read(test)])
        return _learned(scores, [label for _, label in read(test)], seconds)

    return Ready(run, before)


def _scores(model: Any, tokenizer: Any, texts: Sequence[str]) -> list[dict[str, float]]:
    import torch

    found = []
    with torch.inference_mode():
        for text in texts:
            batch = tokenizer(text, truncation=True, return_tensors="pt").to(model.device)
            found.append(dict(zip(LABELS, model(**batch).logits.softmax(-1)[0].tolist(), strict=True)))
    return found


def _learned(scores: Sequence[dict[str, float]], labels: Sequence[str], seconds: float) -> Answer:
    loss = sum(-math.log(max(found[label], 1e-12)) for found, label in zip(scores, labels, strict=True)) / len(labels)
    return Answer(numbers=[[loss]], figures={"seconds": seconds, "loss": loss})


def ours(folder: str, train: str, test: str, updates: int, device: str) -> Ready:
    import zoo

    rows = [(text, label) for text, label in read(train)]
    load: Callable[[], Any] = lambda: zoo.load(folder, task="text-classification", device=device)  # noqa: E731

    def run(model: Any) -> Answer:
        start = time.perf_counter()
        model.finetune(
            rows, None, max_steps=updates, epochs=1000, batch_size=_BATCH, learning_rate=_RATE, scheduler="linear",
            warmup_steps=updates // 10, weight_decay=0.01, lint=False, progress=False,
        )  # fmt: skip
        seconds = time.perf_counter() - start
        found = [
            {item.label: item.score for item in one.top} for one in model.predict([text for text, _ in read(test)])
        ]
        return _learned(found, [label for _, label in read(test)], seconds)

    return Ready(run, load)
