"""Spoken digits with a small Wav2Vec2 that starts from RANDOM weights: no package carries pretrained ones.

Without the Free Spoken Digit recordings (--data FOLDER), two readers from PocketSphinx' test data are told apart.
"""

import os
from pathlib import Path

import soundfile
from common import arguments, finish, pocketsphinx_recordings

import zoo

Rows = list[tuple[object, str]]


def spoken_digits(folder: Path, limit: int | None) -> tuple[Rows, Rows]:
    """{digit}_{speaker}_{index}.wav; the official split tests on index 0 to 4 of every digit and speaker."""
    rows = [(path, path.stem.split("_")) for path in sorted(folder.glob("*.wav"))][:: 1 if limit is None else 12]
    test: Rows = [(path, digit) for path, (digit, _, index) in rows if int(index) < 5]
    return [(path, digit) for path, (digit, _, index) in rows if int(index) >= 5], test


def readers(folder: Path, output: Path) -> tuple[Rows, Rows]:
    """One second pieces of each reader's recordings, the last third of each recording held out."""
    train: Rows = []
    test: Rows = []
    for path in sorted(folder.rglob("*.wav")):
        wave, rate = soundfile.read(path, dtype="float32")
        pieces = [wave[start : start + rate] for start in range(0, len(wave) - rate, rate // 2)]
        for index, piece in enumerate(pieces):
            target = output / f"{path.stem}-{index}.wav"
            soundfile.write(target, piece, rate)
            (train if index < len(pieces) * 2 // 3 else test).append((target, path.parent.name))
    return train, test


options = arguments(__doc__, "audio")
shared = Path(os.environ.get("ZOO_SHARED_DATA", "../shared/data")) / "free-spoken-digit" / "recordings"
if shared.is_dir():
    train, test = spoken_digits(shared, 300 if options.quick else None)
else:
    pieces = options.output / "pieces"
    pieces.mkdir(exist_ok=True)
    train, test = readers(pocketsphinx_recordings(options.output), pieces)

spec = zoo.info("wav2vec2-base")
if not options.hub:
    print("Wav2Vec2, small, from random weights: what it knows of speech it learns here.")
    small = {"hidden_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 192}
    spec = spec.evolve(config={**spec.config, **small, "conv_dim": [64] * 7}, parameters=None)
labels = sorted({label for _, label in train})
model = zoo.load(
    spec, task="audio-classification", labels=labels, weights="pretrained" if options.hub else None, seed=0
)
before = model.evaluate(test)
model.finetune(
    train,
    val=0.1,
    epochs=1 if options.quick else 4,
    learning_rate=2e-3,
    batch_size=32,
    output_dir=options.output / "run",
)
finish(model, before, test, [path for path, _ in test[:32]], options.output, metric="accuracy")
