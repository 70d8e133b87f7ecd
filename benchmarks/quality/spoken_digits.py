"""Spoken digits: a small Wav2Vec2 from random weights, trained by zoo and by transformers.Trainer, at equal options.

Two splits of the Free Spoken Digit recordings: the official one (index 0 to 4 of every digit and speaker for testing),
in which a model may know the speakers, and one in which a speaker (theo) is never heard in training. Batch 32, AdamW
with weight decay 0.01, the same peak rate on a linear schedule with 10 % warm-up. Neither holds rows out: zoo keeps its
last epoch, as Trainer does; neither varies the sound. No package carries pretrained speech weights: what is compared is
the training, and the accuracy is not what a pretrained model reaches.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import arguments, compare, shared_data

import zoo

EPOCHS, RATE, BATCH = 5, 2e-3, 32
SMALL = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192,
         "conv_dim": [64] * 7}  # fmt: skip
Rows = list[tuple[Path, str]]

options = arguments(__doc__)
files = sorted(shared_data("free-spoken-digit/recordings").glob("*.wav"))[:: 40 if options.quick else 1]
labels = [str(digit) for digit in range(10)]
spec = zoo.info("wav2vec2-base")
spec = spec.evolve(config={**spec.config, **SMALL}, parameters=None)


def split(held: str | None) -> tuple[Rows, Rows]:
    parts: tuple[Rows, Rows] = ([], [])
    for path in files:
        digit, speaker, index = path.stem.split("_")
        parts[speaker == held if held else int(index) < 5].append((path, digit))
    return parts


def fresh(seed: int) -> zoo.Model:
    return zoo.load(spec, task="audio-classification", labels=labels, weights=None, seed=seed)


def with_zoo(seed: int, held: str | None) -> float:
    train, test = split(held)
    model = fresh(seed)
    model.finetune(
        train, None, epochs=1 if options.quick else EPOCHS, learning_rate=RATE, batch_size=BATCH, scheduler="linear",
        augment="none", seed=seed, lint=False,
    )  # fmt: skip
    return model.evaluate(test).metrics["accuracy"]


def with_trainer(seed: int, held: str | None) -> float:
    import torch
    from transformers import Trainer, TrainingArguments, set_seed

    train, test = split(held)
    model = fresh(seed)
    encoder = model.encoder
    set_seed(seed)
    encoded = {
        name: [(encoder.encode(path)[0], labels.index(label)) for path, label in rows]
        for name, rows in (("train", train), ("test", test))
    }

    def collate(rows: Any) -> dict[str, torch.Tensor]:
        arrays = encoder.collate([example for example, _ in rows])
        batch = {name: torch.from_numpy(np.asarray(array)) for name, array in arrays.items()}
        return {**batch, "labels": torch.tensor([label for _, label in rows])}

    with tempfile.TemporaryDirectory() as output:
        given = TrainingArguments(
            output_dir=output, num_train_epochs=1 if options.quick else EPOCHS, learning_rate=RATE,
            per_device_train_batch_size=BATCH, per_device_eval_batch_size=BATCH, weight_decay=0.01, warmup_steps=0.1,
            lr_scheduler_type="linear", seed=seed, report_to="none", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, remove_unused_columns=False, use_cpu=not torch.cuda.is_available(),
        )  # fmt: skip
        trainer = Trainer(model=model.module.net, args=given, train_dataset=encoded["train"], data_collator=collate)
        trainer.train()
        found = trainer.predict(encoded["test"])
    return float((np.asarray(found.predictions).argmax(-1) == found.label_ids).mean())


arms = {
    "zoo, official split": lambda seed: with_zoo(seed, None),
    "transformers.Trainer, official split": lambda seed: with_trainer(seed, None),
    "zoo, held-out speaker": lambda seed: with_zoo(seed, "theo"),
    "transformers.Trainer, held-out speaker": lambda seed: with_trainer(seed, "theo"),
}
facts = {
    "data": "Free Spoken Digit: the official split, and one without the speaker theo in training",
    "model": "wav2vec2-base, small, from random weights",
    "metric": "accuracy",
    "epochs": EPOCHS,
    "learning_rate": RATE,
    "batch_size": BATCH,
    "rows": {name: [len(part) for part in split(held)] for name, held in (("official", None), ("held-out", "theo"))},
}
compare("spoken_digits", arms, facts, options)
