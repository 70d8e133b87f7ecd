"""Grey images, values of more than 8 bits, and classes of which there are few."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import zoo
from tests.tiny import tiny
from zoo.backends import build
from zoo.errors import ConfigError, InputError, SpecError
from zoo.modalities.image import ImageEncoder
from zoo.spec import ImageInput
from zoo.training.batching import steps

INPUT: dict[str, Any] = {"size": (8, 8), "mean": (0.5,) * 3, "std": (0.5,) * 3, "crop_mode": "squash", "crop_pct": 1.0}
RAMP = np.linspace(0, 4095, 64).reshape(8, 8)


def encoded(raw: Any, **changes: Any) -> Any:
    return (
        ImageEncoder(ImageInput(**{**INPUT, "interpolation": "nearest", **changes}))
        .encode(raw)[0]
        .inputs["pixel_values"]
    )


def file(values: Any, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(
    ("window", "low", "high"),
    [("range", 0, 4095), ((0, 4095), 0, 4095), ((1000, 3000), 1000, 3000), ("percentile", 20.475, 4074.525)],
)
@pytest.mark.parametrize("form", ["PNG", "TIFF", "uint16", "int16", "float64", "float TIFF"])
def test_every_form_of_more_than_8_bits_is_windowed_alike(window: Any, low: float, high: float, form: str) -> None:
    if form in ("PNG", "TIFF"):
        raw: Any = file(RAMP.astype(np.uint16), form)
    elif form == "float TIFF":
        raw = file(RAMP.astype(np.float32), "TIFF")
    else:
        raw = RAMP.astype(form)
    expected = np.clip((RAMP - low) / (high - low), 0, 1) * 255
    found = encoded(raw, window=window)
    assert found.shape == (3, 8, 8)
    # Whole numbers lose up to one of 4095 beforehand.
    np.testing.assert_allclose(found[0], expected, atol=1.0)
    assert (found[0] == found[2]).all()


def test_16_bits_are_never_clipped() -> None:
    found = encoded((RAMP * 16).astype(np.uint16))[0]
    np.testing.assert_allclose(found, RAMP * 16 / 257, atol=0.51)


def test_8_bits_stay_as_they_are() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for window in ("full", "range", "percentile", (0, 10)):
        np.testing.assert_array_equal(encoded(values, window=window)[0], values)


def test_one_value_alone_and_numbers_that_are_none() -> None:
    assert not encoded(np.full((8, 8), 700, dtype=np.uint16), window="range").any()
    with pytest.raises(InputError, match="not finite"):
        encoded(np.full((8, 8), np.nan), window="percentile")
    with pytest.raises(ValueError, match="the lower first"):
        ImageInput(**INPUT, window=(3, 3))


def test_one_channel() -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    np.testing.assert_array_equal(encoded(values, channels=1), values[None])
    assert encoded(np.zeros((8, 8, 3), dtype=np.uint8), channels=1).shape == (1, 8, 8)


@pytest.mark.parametrize("name", ["resnet18", "vit-b-16", "convnext-tiny", "mobilenetv3-small", "dinov2-small"])
def test_a_pretrained_first_layer_is_summed(name: str) -> None:
    spec = tiny(zoo.info(name))
    state = build(spec, task="feature-extraction", labels=(), seed=0).net.state_dict()
    grey = spec.evolve(input={**spec.input.to_dict(), "channels": 1, "mean": (0.5,) * 3, "std": (0.5,) * 3})
    coloured = spec.evolve(input={**grey.input.to_dict(), "channels": 3})
    one = build(grey, task="feature-extraction", labels=(), state=state)
    three = build(coloured, task="feature-extraction", labels=(), state=state)
    height, width = spec.input.size  # type: ignore[union-attr]
    pixels = torch.randint(0, 256, (2, 1, height, width), dtype=torch.uint8)
    with torch.inference_mode():
        expected = three.embed(pixel_values=pixels.expand(-1, 3, -1, -1))
        torch.testing.assert_close(one.embed(pixel_values=pixels), expected, atol=1e-4, rtol=1e-4)


def test_one_channel_is_for_timm() -> None:
    with pytest.raises(SpecError, match=r"takes three channels"):
        zoo.load(tiny(zoo.info("segformer-b0-ade")), weights=None, input={"channels": 1})
    with pytest.raises(SpecError, match=r"unknown key.*Did you mean 'window'"):
        zoo.load(tiny(zoo.info("resnet18")), weights=None, input={"windw": "range"})


def test_from_grey_scans_to_a_bundle(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number in range(40):
        ill = number % 10 == 0
        scan = rng.integers(900, 1100, (40, 40)) + (1500 if ill else 0) * (np.arange(40) > 20)
        rows.append((scan.astype(np.uint16), "ill" if ill else "well"))
    spec = tiny(zoo.info("resnet18"))
    model = zoo.load(spec, weights=None, device="cpu", seed=0, input={"channels": 1, "window": (0, 4095)})
    model.finetune(
        rows, val=None, epochs=4, batch_size=8, learning_rate=3e-3, sampler="balanced", augment="light", progress=False
    )
    report = model.evaluate(rows)
    assert report.metrics["auroc"] > 0.95
    assert report.per_class[0].specificity is not None
    bundle = model.export(tmp_path / "scans.bundle")
    scans = [scan for scan, _ in rows[:4]]
    assert [r.label for r in bundle.predict(scans)] == [r.label for r in model.predict(scans)]
    again = model.save(tmp_path / "saved")
    assert zoo.load(again, device="cpu").predict(scans) == model.predict(scans)


def test_a_balanced_epoch_has_equally_many_of_each() -> None:
    classes = np.array([0] * 90 + [1] * 7 + [2] * 3)
    lengths = np.ones(100, dtype=np.int64)
    plan = steps(lengths, 10, seed=0, epoch=0, classes=classes)
    drawn = np.concatenate(plan)
    assert len(drawn) == 100
    assert sorted(np.bincount(classes[drawn]).tolist()) == [33, 33, 34]
    often = np.bincount(drawn, minlength=100)
    assert set(often[:90].tolist()) <= {0, 1}
    for kind in (1, 2):
        assert np.ptp(often[classes == kind]) <= 1
    again = np.concatenate(steps(lengths, 10, seed=0, epoch=0, classes=classes))
    np.testing.assert_array_equal(drawn, again)
    other = np.concatenate(steps(lengths, 10, seed=0, epoch=1, classes=classes))
    assert set(other[other < 90].tolist()) != set(drawn[drawn < 90].tolist())


def test_a_balanced_sampler_needs_one_label_a_row() -> None:
    model = zoo.load(tiny(zoo.info("segformer-b0-ade")), weights=None, device="cpu")
    rows = [(np.zeros((9, 9, 3), dtype=np.uint8), np.eye(9, dtype=np.uint8))] * 4
    with pytest.raises(ConfigError, match="one label a row"):
        model.finetune(rows, val=None, sampler="balanced", max_steps=1, progress=False)
