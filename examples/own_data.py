"""One's own data in four forms, without an adapter: a class folder, a table, a CoNLL file, a list in Python.

Small models from random weights, a few steps each: what is shown is how data goes in, not what a model reaches.
"""

import csv

import numpy as np
from common import arguments
from PIL import Image

import zoo

options = arguments(__doc__, "own-data")
options.output.mkdir(parents=True, exist_ok=True)
bert = zoo.info("bert-base-cased")
bert = bert.evolve(config={**bert.config, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2})
resnet = zoo.info("resnet18").evolve(input={**zoo.info("resnet18").input.to_dict(), "size": (32, 32)})
steps = {"max_steps": 5, "val": None, "batch_size": 4}

# 1. A folder with one folder a class.
for index in range(16):
    folder = options.output / "shades" / ("dark", "bright")[index % 2]
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((40, 40, 3), 40 + 150 * (index % 2) + index, np.uint8)).save(folder / f"{index}.png")
model = zoo.load(resnet, weights=None, seed=0).finetune(options.output / "shades", **steps)
print("class folder:", model.labels, model.predict(options.output / "shades" / "dark" / "0.png"))

# 2. A table, with column names of its own.
with (options.output / "reviews.csv").open("w", newline="", encoding="utf-8") as file:
    writer = csv.writer(file)
    writer.writerow(["review", "stars"])
    writer.writerows([("a fine film", 5), ("a waste of time", 1)] * 8)
names = {"text": "review", "label": "stars"}
model = zoo.load(bert, weights=None, seed=0).finetune(options.output / "reviews.csv", columns=names, **steps)
print("table:", model.labels, model.predict("a fine film"))

# 3. A two-column CoNLL file.
(options.output / "train.conll").write_text("Ada\tB-PER\nLovelace\tI-PER\nwrote\tO\n.\tO\n\n" * 8, encoding="utf-8")
model = zoo.load(bert, weights=None, seed=0).finetune(options.output / "train.conll", **steps)
print("CoNLL:", model.labels, model.predict("Ada wrote ."))

# 4. A list of pairs; inputs may be paths, bytes, PIL images, arrays or (array, sampling rate).
pairs = [(np.full((40, 40, 3), shade, np.uint8), "dark" if shade < 128 else "bright") for shade in range(0, 256, 16)]
model = zoo.load(resnet, weights=None, seed=0).finetune(pairs, **steps)
print("list:", model.labels, model.evaluate(pairs).metrics["accuracy"])
