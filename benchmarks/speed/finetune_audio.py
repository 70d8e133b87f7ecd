"""A small Wav2Vec2 learns labels of recordings of ragged length, of which nothing is hidden."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.learning import Job, Scores, labelled, of_trainer, of_zoo
from benchmarks.speed.work import Setting

FACTS = {
    "title": "Fine-tuning on recordings",
    "model": "Wav2Vec2 of 4 layers of 256, layer norm in its feature extractor, random weights, all of it trained",
    "data": "WAV files of 1-3 s; the label is how high their tones are; those of the proof are of one length",
}
_HERE = "benchmarks.speed.finetune_audio"
_BATCH = 8


def contests(setting: Setting) -> Iterator[Contest]:
    updates = setting.size(4, 2)
    given = {
        "folder": str(checkpoints.small_wav2vec2(setting.folder / "wav2vec2", tiny=setting.quick)),
        "sure": str(checkpoints.small_wav2vec2(setting.folder / "sure", tiny=setting.quick, dropout=0.0)),
        "train": setting.kept("train", _rows(setting, "train", setting.size(24, 10))),
        "test": setting.kept("test", _rows(setting, "test", setting.size(16, 4))),
        "updates": updates,
        "batch": _BATCH,
        "rate": 3e-4,
        "device": setting.device,
    }
    grouped = {**given, "strategy": "group_by_length"}
    yield Contest(
        f"{updates} updates of {_BATCH} recordings", updates * _BATCH, "samples",
        [
            Contestant("Trainer", f"{_HERE}:trainer", given),
            Contestant("Trainer, group_by_length", f"{_HERE}:trainer", grouped),
            Contestant("zoo, finetune", f"{_HERE}:ours", given, ours=True),
        ],
        judged=False,
    )  # fmt: skip


def _rows(setting: Setting, name: str, count: int) -> list[tuple[str, str]]:
    """A recording and its label. The first ones, which are the proof's, are of one length: nothing is padded there."""
    seed = 0 if name == "train" else 9000
    rows = []
    for place in range(count):
        kind = place % len(LABELS)
        lengths = (1.0, 1.0) if place < _BATCH else (1.0, setting.size(3, 1))
        (path,) = data.recordings(
            setting.folder / f"{name}{place}", 1, shortest=lengths[0], longest=lengths[1], seed=seed + place,
            pitch=(100 + 1000 * kind, 900 + 1000 * kind),
        )  # fmt: skip
        rows.append((str(path), LABELS[kind]))
    return rows


def trainer(strategy: str = "random", **given: Any) -> Ready:
    """Recordings are read and prepared before, as its examples do it; the padding is told to the model."""
    import soundfile
    import torch
    from transformers import AutoFeatureExtractor, AutoModelForAudioClassification

    job = Job(**given)
    extractor = AutoFeatureExtractor.from_pretrained(job.folder)

    def heard(path: str) -> Any:
        sound, rate = soundfile.read(path, dtype="float32")
        return extractor(sound, sampling_rate=rate)["input_values"][0]

    def collated(rows: list[dict[str, Any]]) -> dict[str, Any]:
        batch = extractor.pad([{"input_values": row["input_ids"]} for row in rows], return_tensors="pt")
        return {**batch, "labels": torch.tensor([row["labels"] for row in rows])}

    @torch.inference_mode()
    def scores(model: Any, paths: Sequence[str]) -> Scores:
        sounds = (torch.from_numpy(heard(path))[None].to(model.device) for path in paths)
        return [labelled(model.config.id2label, model(sound).logits.softmax(-1)[0]) for sound in sounds]

    # Under the one name by which Trainer finds lengths out.
    rows = [{"input_ids": heard(path), "labels": LABELS.index(label)} for path, label in job.rows]
    return of_trainer(
        job, AutoModelForAudioClassification.from_pretrained, rows, scores, collated, train_sampling_strategy=strategy,
        remove_unused_columns=False,
    )  # fmt: skip


def ours(**given: Any) -> Ready:
    options = {"augment": "none", "spec_augment": False, "precision": "fp32"}
    return of_zoo(Job(**given), "audio-classification", **options)
