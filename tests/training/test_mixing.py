"""Images mixed, colours drawn, sound hidden in parts: what it does, and that the loop's promises hold with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.wav2vec2 import modeling_wav2vec2

from tests.tiny import tiny
from tests.training.test_media import audio_world, image_world, pictures  # noqa: F401
from tests.training.test_optimizers import check_resumes
from tests.training.tiny import World, distance, make_world, run, text_world, weights
from zoo import catalog
from zoo.errors import ConfigError
from zoo.spec import MelInput
from zoo.tasks.base import LossOptions
from zoo.training import TrainConfig, encoding
from zoo.training.augment import make_augment
from zoo.training.mixing import mixed
from zoo.training.specaugment import SpectrogramMasks

FAST: dict[str, Any] = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-2, "optimizer": "sgd", "warmup_ratio": 0.0}
Pictures = list[tuple[Path, str]]


def _items(world: World, **options: Any) -> Any:
    items = encoding.make_items(world.train, world.encoder, world.task, pytest.fail, None)
    return items, mixed(items, world.task, TrainConfig(**options))


def test_mixup_blends_pixels_and_labels_alike(pictures: Pictures) -> None:  # noqa: F811
    """Dark and light pictures: the label's share says how light the blend is."""
    plain, blended = _items(image_world(pictures), mixup=1.0)
    dark, light = (float(plain.load(0, item)[0].inputs["pixel_values"].mean()) for item in (0, 1))
    shares = []
    for item in range(len(plain)):
        example = blended.load(0, item)[0]
        label, pixels = example.targets["label"], example.inputs["pixel_values"]
        assert (label.dtype, label.sum(), pixels.dtype) == (np.float32, pytest.approx(1.0), np.uint8)
        assert float(pixels.mean()) == pytest.approx(label[0] * dark + label[1] * light, abs=5)
        shares.append(float(label.max()))
        again, later = blended.load(0, item)[0], blended.load(1, item)[0]
        assert np.array_equal(again.inputs["pixel_values"], pixels)
        assert not np.array_equal(later.inputs["pixel_values"], pixels)
    assert min(shares) < 0.9


def test_cutmix_puts_in_a_part(pictures: Pictures) -> None:  # noqa: F811
    plain, cut = _items(image_world(pictures), cutmix=1.0)
    found = 0
    for item in range(len(plain)):
        before, example = plain.load(0, item)[0], cut.load(0, item)[0]
        own = int(before.targets["label"])
        same = (before.inputs["pixel_values"] == example.inputs["pixel_values"]).all(axis=0).mean()
        if example.targets["label"][own] < 1.0:
            found += 1
            assert same == pytest.approx(example.targets["label"][own], abs=0.03)
    assert found >= 2


def test_targets_are_whole_where_nothing_is_mixed(pictures: Pictures) -> None:  # noqa: F811
    plain, same = _items(image_world(pictures), mixup=1.0, mix_probability=0.0)
    for item in range(len(plain)):
        example = same.load(0, item)[0]
        assert np.array_equal(example.inputs["pixel_values"], plain.load(0, item)[0].inputs["pixel_values"])
        assert example.targets["label"].tolist() == np.eye(2)[int(plain.load(0, item)[0].targets["label"])].tolist()
    assert [int(t["label"]) for t in same.targets()] == [int(t["label"]) for t in plain.targets()]
    world = image_world(pictures)
    whole = world.task.collate_targets([same.load(0, item)[0] for item in range(4)])
    labels = world.task.collate_targets([plain.load(0, item)[0] for item in range(4)])
    options = LossOptions(class_weights=np.array([0.5, 3.0], dtype=np.float32))
    assert world.task.weight(whole, options) == world.task.weight(labels, options)


def test_accumulating_mixed_images_equals_one_batch(pictures: Pictures) -> None:  # noqa: F811
    found = []
    for size, times in ((6, 1), (2, 3)):
        world = image_world(pictures, "vit-b-16")
        _, losses = run(
            world, **{**FAST, "batch_size": size}, gradient_accumulation=times, mixup=0.4, cutmix=1.0,
            class_weights={"dark": 0.5}, label_smoothing=0.1, sampler="balanced",
        )  # fmt: skip
        found.append((weights(world.module), losses))
    assert found[0][1] == pytest.approx(found[1][1], abs=1e-5)
    assert distance(found[0][0], found[1][0]) < 1e-5
    _, plain = run(image_world(pictures, "vit-b-16"), **{**FAST, "batch_size": 6})
    assert plain != pytest.approx(found[0][1], abs=1e-3)


def test_mixing_resumes(pictures: Pictures, tmp_path: Path) -> None:  # noqa: F811
    options = {**FAST, "epochs": 3, "mixup": 0.4, "cutmix": 1.0, "augment": "randaugment", "ema_decay": 0.9}
    check_resumes(tmp_path, at=5, make=lambda: image_world(pictures), **options)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"mixup": 0.2}, "mixup goes with image-classification by labels, and this is text-classification"),
        ({"cutmix": 1.0}, "cutmix goes with image-classification"),
        ({"augment": "randaugment"}, "augment='randaugment' is for image-classification; give 'light' or 'strong'"),
        ({"spec_augment": True}, "spec_augment is for sound, and bert-base-cased takes none: leave it out"),
        ({"mask_time_prob": 0.1}, "mask_time_prob is for sound"),
    ],
)
def test_what_does_not_go_with_a_text(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(text_world(), **options)


def test_options_that_contradict() -> None:
    with pytest.raises(ConfigError, match=r"mix_probability is of mixup and cutmix; give mixup=0\.2 or cutmix=1\.0"):
        TrainConfig(mix_probability=0.5)
    with pytest.raises(ConfigError, match="spec_augment=False hides none; leave out one"):
        TrainConfig(mask_time_prob=0.5, spec_augment=False)


def test_randaugment_changes_more_than_light(pictures: Pictures) -> None:  # noqa: F811
    world = image_world(pictures)
    plain = encoding.make_items(world.train, world.encoder, world.task, pytest.fail, None).load(0, 1)[0]
    augment = make_augment(world.task.spec, "image-classification", "randaugment", 0)
    assert augment is not None
    seen = [augment(plain, epoch, 1).inputs["pixel_values"] for epoch in range(12)]
    assert len({pixels.tobytes() for pixels in seen}) == 12
    assert all(pixels.shape == seen[0].shape and pixels.dtype == np.uint8 for pixels in seen)
    assert np.array_equal(augment(plain, 3, 1).inputs["pixel_values"], seen[3])


# Sound.


def _hidden(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bool, int]]:
    """Of each forward pass of a waveform model: whether it trained, and how many entries were hidden."""
    seen: list[tuple[bool, int]] = []
    original = modeling_wav2vec2.Wav2Vec2Model._mask_hidden_states

    def mask(self: Any, hidden: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        before = hidden.detach().clone()
        after: torch.Tensor = original(self, hidden, *args, **kwargs)
        seen.append((self.training, int((after != before).sum())))
        return after

    monkeypatch.setattr(modeling_wav2vec2.Wav2Vec2Model, "_mask_hidden_states", mask)
    return seen


@pytest.mark.parametrize(
    ("options", "hides"),
    [
        ({"spec_augment": True, "mask_time_prob": 0.5}, True),
        ({"mask_time_prob": 0.0, "mask_feature_prob": 0.5}, True),
        ({"spec_augment": False}, False),
        ({"mask_time_prob": 0.0, "mask_feature_prob": 0.0}, False),
    ],
)
def test_waveform_models_hide_in_training_alone(
    options: dict[str, Any], hides: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, seen = audio_world(), _hidden(monkeypatch)
    own = world.module.net.config
    own.mask_time_length = 2  # the model is tiny, and the recordings are short
    before = own.to_dict()
    run(world, **FAST, **options)
    assert {trained for trained, _ in seen} == {True, False}
    assert any(count for trained, count in seen if trained) == hides
    assert not any(count for trained, count in seen if not trained)
    assert own.to_dict() == before


def test_nothing_is_hidden_of_recordings_shorter_than_a_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen = audio_world(), _hidden(monkeypatch)
    world.module.net.config.mask_time_length = 500
    run(world, **FAST, spec_augment=True, mask_time_prob=0.5)
    assert seen
    assert not any(count for _, count in seen)


@pytest.mark.parametrize("layout", ["whisper", "kaldi"])
def test_spectrograms_lose_bands_and_stretches_of_the_recording(layout: Any) -> None:
    spec = MelInput(sampling_rate=16_000, layout=layout, bins=40, frames=200)
    shape = (40, 200) if layout == "whisper" else (200, 40)
    features = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    example = encoding.Example({"input_features": features}, length=16_000)
    masks = SpectrogramMasks(spec, seed=0)
    lost = []
    for epoch in range(8):
        found = masks(example, epoch, 0).inputs["input_features"]
        changed = (found != features) if layout == "whisper" else (found != features).T
        assert not changed[:, 100:].any(), "a second of sound: what follows is silence"
        lost.append((int(changed[:, :100].all(axis=1).sum()), int(changed[:, :100].all(axis=0).sum())))
        assert np.array_equal(masks(example, epoch, 0).inputs["input_features"], found)
    assert max(bands for bands, _ in lost) > 0
    assert max(stretches for _, stretches in lost) > 0
    assert max(bands for bands, _ in lost) <= 16
    assert max(stretches for _, stretches in lost) <= 20
    short = encoding.Example({"input_features": features}, length=1_600)
    assert masks(short, 0, 0) is short


def test_a_spectrogram_model_trains_with_it() -> None:
    random = np.random.default_rng(0)
    pairs = [((random.standard_normal(16_000).astype(np.float32) * 0.1, 16_000), ("a", "b")[i % 2]) for i in range(6)]
    found = []
    for on in (None, True):
        world = make_world(tiny(catalog.info("ast-audioset")), "audio-classification", ("a", "b"), pairs[:4], pairs[4:])
        history, losses = run(world, spec_augment=on, **FAST)
        found.append((history[0]["val_loss"], losses))
    assert found[0][1] != found[1][1]
    with pytest.raises(ConfigError, match="of a spectrogram give spec_augment=True alone"):
        run(world, mask_time_prob=0.1)
