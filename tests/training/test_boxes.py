"""A detector learns: a small RT-DETR of random weights finds shapes in pictures that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

import zoo
from tests.tiny import tiny
from zoo.modalities import make_encoder
from zoo.tasks.boxes import to_corners
from zoo.tasks.detection import ObjectDetection
from zoo.training.augment import make_augment


def _shapes(count: int, seed: int) -> list[dict[str, Any]]:
    """Pictures of a red square and a green disc on a dark ground, and where they are."""
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        image = Image.new("RGB", (96, 96), (20, 20, 30))
        draw, objects = ImageDraw.Draw(image), []
        for label, half in (("square", 0), ("disc", 48)):
            size = int(random.integers(24, 40))
            x, y = half + int(random.integers(0, 48 - size)), int(random.integers(0, 96 - size))
            corners = (x, y, x + size - 1, y + size - 1)
            draw.rectangle(corners, fill=(230, 30, 30)) if label == "square" else draw.ellipse(
                corners, fill=(30, 230, 30)
            )
            objects.append({"bbox": [x, y, size, size], "category": label})
        rows.append({"image": image, "objects": objects})
    return rows


def test_a_tiny_detector_learns_shapes_it_has_not_seen() -> None:
    spec = tiny(zoo.info("rtdetr-r18vd"))
    # Statistics that are frozen belong to pretrained weights; random ones learn slowly under them.
    spec = spec.evolve(config={**spec.config, "freeze_backbone_batch_norms": False})
    model = zoo.load(spec, labels=["disc", "square"], weights=None, device="cpu", seed=0)
    rows, unseen = _shapes(32, seed=0), _shapes(16, seed=99)
    model.finetune(
        rows, val=None, epochs=50, batch_size=8, learning_rate=3e-3, augment=False, progress=False, weight_decay=0.0
    )
    losses = [epoch["train_loss"] for epoch in model.history]
    assert losses[-1] < losses[0] / 2.5
    report = model.evaluate(unseen)
    assert model.evaluate(rows).metrics["map_50"] > 0.6
    assert report.metrics["map_50"] > 0.35
    assert {score.label for score in report.per_class} == {"disc", "square"}
    assert all(score.average_precision is not None and score.average_precision > 0.1 for score in report.per_class)


@pytest.mark.parametrize("name", ["rtdetr-r18vd", "detr-resnet-50"])
@pytest.mark.parametrize("strength", ["light", "strong"])
def test_variation_moves_the_boxes_with_what_is_in_them(name: str, strength: str) -> None:
    """Every box that is left lies around the pixels of its object, and no visible object is without one."""
    spec = tiny(zoo.info(name))
    task = ObjectDetection(spec, ("disc", "square"))
    augment = make_augment(spec, task.name, strength, 0)
    assert augment is not None
    mirrored = set()
    for number, row in enumerate(_shapes(12, seed=5)):
        example = task.examples(make_encoder(spec), row["image"], row["objects"])[0]
        for epoch in range(5):
            varied = augment(example, epoch, number)
            again = augment(example, epoch, number)
            assert (varied.inputs["pixel_values"] == again.inputs["pixel_values"]).all()
            targets = varied.targets
            assert len(targets["labels"])
            assert targets["boxes"].shape == (len(targets["labels"]), 4)
            height, width = varied.source.shown
            pixels = varied.inputs["pixel_values"][:, :height, :width].astype(int)
            for label, box in zip(targets["labels"], to_corners(targets["boxes"]) * ([width, height] * 2), strict=True):
                # The disc is green, the square red, whatever brightness became of them.
                hue = pixels[1] - pixels[0] if label == 0 else pixels[0] - pixels[1]
                rows, columns = np.nonzero(hue > hue.max() / 2)
                seen = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                np.testing.assert_allclose(seen, box, atol=1.5)
            if len(targets["labels"]) == 2:
                disc, square = targets["boxes"][np.argsort(targets["labels"])]
                mirrored.add(bool(disc[0] < square[0]))
            assert example.targets["boxes"].shape == (2, 4), "the example itself stays as it is"
    assert mirrored == ({False} if strength == "light" else {False, True})
