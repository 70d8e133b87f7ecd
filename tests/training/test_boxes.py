"""A detector learns: a small RT-DETR of random weights finds shapes in pictures that it has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageDraw

import zoo
from tests.tiny import tiny


def _shapes(count: int, seed: int) -> list[dict[str, Any]]:
    """Pictures of a red square and a green disc on a dark ground, and where they are."""
    random, rows = np.random.default_rng(seed), []
    for _ in range(count):
        image = Image.new("RGB", (96, 96), (20, 20, 30))
        draw, objects = ImageDraw.Draw(image), []
        for label, half in (("square", 0), ("disc", 48)):
            size = int(random.integers(24, 40))
            x, y = half + int(random.integers(0, 48 - size)), int(random.integers(0, 96 - size))
            corners = (x, y, x + size, y + size)
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
