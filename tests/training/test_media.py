"""Images, sound and language models through the same loop; workers, augmentation, rows that can't be decoded."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.tiny import tiny
from tests.training.tiny import World, distance, make_world, run, text_world, weights
from zoo import catalog
from zoo.errors import ConfigError, DataError, InputError, TrainingInterrupted
from zoo.modalities.base import Example
from zoo.training.augment import make_augment
from zoo.training.data.rows import Row

FAST = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Path, str]]:
    folder, found = tmp_path_factory.mktemp("pictures"), []
    random = np.random.default_rng(0)
    for number in range(14):
        label = ("dark", "light")[number % 2]
        pixels = random.integers(0, 100, (40, 40, 3)) + 150 * (number % 2)
        path = folder / f"{number}.png"
        Image.fromarray(pixels.astype(np.uint8)).save(path)
        found.append((path, label))
    return found


def image_world(pictures: list[tuple[Path, str]], name: str = "resnet18") -> World:
    spec = tiny(catalog.info(name))
    return make_world(spec, "image-classification", ("dark", "light"), pictures[:10], pictures[10:])


def audio_world(task: str = "audio-classification") -> World:
    random = np.random.default_rng(0)
    pairs: list[tuple[Any, str]] = []
    for number in range(10):
        seconds = random.uniform(0.5, 1.2)
        pitch = (220, 880)[number % 2]
        wave = 0.3 * np.sin(2 * np.pi * pitch * np.arange(int(16_000 * seconds)) / 16_000).astype(np.float32)
        pairs.append(((wave, 16_000), ("low", "high")[number % 2]))
    spec = tiny(catalog.info("wav2vec2-base"))
    labels = ("low", "high") if task == "audio-classification" else ("<pad>", "<unk>", "|", *"ghilow")
    return make_world(spec, task, labels, pairs[:7], pairs[7:])


def test_images_learn(pictures: list[tuple[Path, str]]) -> None:
    world = image_world(pictures)
    history, _ = run(world, **{**FAST, "epochs": 8, "learning_rate": 1e-2})
    assert history[-1]["train_loss"] < 0.6 * history[0]["train_loss"]
    assert max(record["accuracy"] for record in history) == 1.0


@pytest.mark.parametrize("method", ["full", "head"])
def test_workers_change_nothing(method: str, pictures: list[tuple[Path, str]]) -> None:
    """Augmentation is a function of seed, epoch and item, whichever process does it."""
    found = []
    for workers in (0, 2):
        world = image_world(pictures)
        _, losses = run(world, num_workers=workers, augment="strong", method=method, **FAST)
        found.append((losses, weights(world.module)))
    assert found[0][0] == found[1][0]
    assert distance(found[0][1], found[1][1]) == 0.0


def test_a_signal_to_the_whole_group_is_heard_once(pictures: list[tuple[Path, str]], tmp_path: Path) -> None:
    """Ctrl-C on a terminal: workers go on, the step ends, the checkpoint is written."""

    def interrupt(seen: Any) -> None:
        if seen.note.step == 2:
            for worker in multiprocessing.active_children():
                os.kill(worker.pid or 0, signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(TrainingInterrupted, match="SIGINT in epoch 1, step 2"):
        run(image_world(pictures), num_workers=2, on_step=interrupt, output_dir=tmp_path, **FAST)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000002"]
    gc.collect()
    assert multiprocessing.active_children() == []


def test_head_alone_keeps_batch_statistics(pictures: list[tuple[Path, str]]) -> None:
    world = image_world(pictures)
    before = weights(world.module)
    run(world, method="head", **FAST)
    changed = {name for name, tensor in weights(world.module).items() if not torch.equal(tensor, before[name])}
    assert changed
    assert all(world.module.in_head(name.removeprefix("net.")) for name in changed)


def test_a_corrupt_image_is_named_or_left_out(pictures: list[tuple[Path, str]], tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0][0].read_bytes()[:100])
    for workers in (0, 1):
        world = image_world(pictures)
        world.rows[6] = Row(broken, "dark", "class folder: dark/broken.png")
        with pytest.raises(InputError, match=r"dark/broken\.png") as raised:
            run(world, num_workers=workers, **FAST)
        assert raised.value.row == 6
        history, losses = run(world, num_workers=workers, on_error="skip", **FAST)
        assert len(losses) == 6
        assert len(history[-1]["skipped"]) == 1
        assert "dark/broken.png" in history[-1]["skipped"][0]


def test_a_corrupt_validation_image(pictures: list[tuple[Path, str]], tmp_path: Path) -> None:
    world = image_world(pictures)
    world.val[1] = Row(tmp_path / "missing.png", "dark", "val/missing.png")
    with pytest.raises(InputError, match=r"val/missing\.png"):
        run(world, **FAST)
    history, _ = run(world, on_error="skip", **FAST)
    assert "val/missing.png" in history[0]["skipped"][0]


def test_balanced_weights_decode_no_image(pictures: list[tuple[Path, str]]) -> None:
    world = image_world(pictures)
    world.rows = [row for row in world.rows if row.target == "dark" or row.where in ("rows[1]", "rows[3]")]
    run(world, class_weights="balanced", **FAST)


def test_sound_learns() -> None:
    world = audio_world()
    history, losses = run(world, **{**FAST, "epochs": 4, "learning_rate": 5e-3})
    assert all(np.isfinite(losses))
    assert history[-1]["train_loss"] < history[0]["train_loss"]


def test_speech_with_an_impossible_transcript_is_found_before_training() -> None:
    world = audio_world("automatic-speech-recognition")
    history, losses = run(world, **FAST)
    assert {"wer", "cer", "val_loss"} <= history[0].keys()
    assert all(np.isfinite(losses))
    world.rows[2] = Row(world.rows[2].input, "wow " * 300, "speech.csv, line 3")
    with pytest.raises(DataError, match=r"speech\.csv, line 3: .*transcript"):
        run(world, **FAST)
    history, _ = run(world, on_error="skip", **FAST)
    assert "speech.csv, line 3" in history[0]["skipped"][0]


def test_class_weights_mean_nothing_to_speech() -> None:
    with pytest.raises(ConfigError, match="class weights"):
        run(audio_world("automatic-speech-recognition"), class_weights="balanced", **FAST)


def test_a_language_model_learns() -> None:
    random = np.random.default_rng(0)
    texts = [" ".join(random.choice(["one", "two", "three"], 6)) for _ in range(20)]
    spec = tiny(catalog.info("gpt2"))
    pairs = [(text, None) for text in texts]
    world = make_world(spec, "text-generation", (), pairs[:16], pairs[16:])
    history, _ = run(world, **{**FAST, "learning_rate": 5e-3, "epochs": 4})
    assert history[-1]["perplexity"] < history[0]["perplexity"] < 400


def test_texts_longer_than_the_model_are_windows() -> None:
    world = text_world(rows=12)
    world.rows[5] = Row("alpha " * 400, "many", "long")
    _, losses = run(world, **FAST)
    assert len(losses) > 2 * 3
    assert all(np.isfinite(losses))


# Augmentation.


@pytest.mark.parametrize("strength", ["light", "strong"])
@pytest.mark.parametrize("name", ["resnet18", "wav2vec2-base"])
def test_augmentation_is_a_function_of_its_key(name: str, strength: str) -> None:
    spec = tiny(catalog.info(name))
    augment = make_augment(spec, spec.tasks[0], strength, seed=3)
    assert augment is not None
    example = _example(spec)
    key = next(iter(example.inputs))
    before = example.inputs[key].copy()
    state = torch.get_rng_state()
    one, again = augment(example, 0, 7), augment(example, 0, 7)
    others = [augment(example, 1, 7), augment(example, 0, 8)]
    assert np.array_equal(one.inputs[key], again.inputs[key])
    assert all(not np.array_equal(one.inputs[key], other.inputs[key]) for other in others)
    assert one.inputs[key].dtype == before.dtype
    assert one.inputs[key].shape == before.shape
    assert np.array_equal(example.inputs[key], before), "the original is left alone"
    assert torch.equal(torch.get_rng_state(), state)


def test_what_is_not_augmented() -> None:
    assert make_augment(tiny(catalog.info("bert-base-cased")), "text-classification", "light", 0) is None
    assert make_augment(tiny(catalog.info("resnet18")), "image-classification", "none", 0) is None


def test_augmented_sound_is_what_the_model_expects() -> None:
    spec = tiny(catalog.info("wav2vec2-base"))
    augment = make_augment(spec, "audio-classification", "strong", seed=0)
    assert augment is not None
    wave = augment(_example(spec), 0, 0).inputs["input_values"]
    assert abs(float(wave.mean())) < 1e-4
    assert float(wave.std()) == pytest.approx(1.0, abs=1e-3)
    loud = spec.evolve(input={**spec.input.to_dict(), "normalize": False})
    raw = make_augment(loud, "audio-classification", "strong", seed=0)
    assert raw is not None
    assert float(np.abs(raw(_example(spec), 0, 0).inputs["input_values"]).max()) <= 1.0


def test_transcribed_speech_is_not_shifted() -> None:
    spec = tiny(catalog.info("wav2vec2-base"))
    augment = make_augment(spec, "automatic-speech-recognition", "light", seed=0)
    assert augment is not None
    example = _example(spec)
    for item in range(5):
        wave = augment(example, 0, item).inputs["input_values"]
        assert np.corrcoef(wave, example.inputs["input_values"])[0, 1] > 0.99


def _example(spec: Any) -> Example:
    random = np.random.default_rng(0)
    if spec.modality == "vision":
        return Example({"pixel_values": random.integers(0, 256, (3, *spec.input.size), dtype=np.uint8)}, 1)
    wave = random.standard_normal(4000).cumsum().astype(np.float32)
    wave = (wave - wave.mean()) / wave.std()
    return Example({"input_values": wave, "attention_mask": np.ones(4000, dtype=np.int64)}, 4000)
