"""Training on masks: the forms of data, image and mask moved alike, and a model that learns from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.tiny import tiny
from zoo.errors import DataError
from zoo.modalities.base import Example
from zoo.tasks.masks import Mask
from zoo.training.augment import make_augment
from zoo.training.data import read

TASKS = ("image-segmentation", "image-classification")


def picture(seed: int, height: int = 40, width: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc on a dark ground, and its mask."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    cy, cx = rng.integers(12, height - 12), rng.integers(12, width - 12)
    mask = ((y - cy) ** 2 + (x - cx) ** 2 < 100).astype(np.uint8)
    pixels = rng.integers(0, 60, (height, width, 3)) + mask[..., None] * 180
    return pixels.astype(np.uint8), mask


def write(folder: Path, count: int = 3) -> Path:
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for number in range(count):
        pixels, mask = picture(number)
        Image.fromarray(pixels).save(folder / "images" / f"{number} 画.jpg")
        Image.fromarray(mask).save(folder / "masks" / f"{number} 画.png")
    return folder


def test_folders_of_images_and_masks(tmp_path: Path) -> None:
    write(tmp_path / "train")
    write(tmp_path / "val", 1)
    (tmp_path / "labels.txt").write_text("ground\ndisc\n", encoding="utf-8")
    found = read(tmp_path, tasks=TASKS)
    assert found.task == "image-segmentation"
    assert {name: len(rows) for name, rows in found.splits.items()} == {"train": 3, "val": 1}
    row = found.splits["train"][0]
    assert row.input.endswith(".jpg")
    assert row.target.raw.endswith(".png")
    assert row.target.classes == ("ground", "disc")


def test_an_image_without_a_mask_is_named(tmp_path: Path) -> None:
    write(tmp_path / "d")
    next((tmp_path / "d" / "masks").iterdir()).unlink()
    with pytest.raises(DataError, match="has no mask of the same name"):
        read(tmp_path / "d", tasks=TASKS)


def test_a_class_twice_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "d")
    (tmp_path / "d" / "classes.txt").write_text("a\na\n")
    with pytest.raises(DataError, match="come twice"):
        read(tmp_path / "d", tasks=TASKS)


def test_tables_and_pairs(tmp_path: Path) -> None:
    write(tmp_path)
    table = tmp_path / "d.csv"
    table.write_text("image,mask\nimages/0 画.jpg,masks/0 画.png\n", encoding="utf-8")
    (tmp_path / "classes.txt").write_text("ground\ndisc")
    row = read(table, tasks=TASKS).splits["train"][0]
    assert row.target == Mask(str(tmp_path / "masks" / "0 画.png"), ("ground", "disc"))
    pixels, mask = picture(0)
    assert read([(pixels, mask)], tasks=TASKS).task == "image-segmentation"
    assert read([(pixels, "disc"), (pixels, "none")], tasks=TASKS).task == "image-classification"
    table.write_text("image,mask\nimages/0 画.jpg,masks/none.png\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"row 2.*none\.png.*does not exist"):
        read(table, tasks=TASKS)


@pytest.mark.parametrize("strength", ["light", "strong"])
def test_image_and_mask_are_moved_alike(strength: str) -> None:
    spec = tiny(zoo.info("segformer-b0-ade"))
    mask = np.zeros((64, 64), dtype=np.int64)
    mask[10:40, 20:44] = 1
    mask[:3] = -100
    pixels = np.repeat(np.where(mask == 1, 255, 0).astype(np.uint8)[None], 3, axis=0)
    augment = make_augment(spec, "image-segmentation", strength, 0)
    assert augment is not None
    example = Example({"pixel_values": pixels}, 1, targets={"labels": mask, "mask": mask})
    moved = [augment(example, 0, item) for item in range(8)]
    assert len({tuple(one.targets["labels"].ravel()) for one in moved}) > 4
    for one in moved:
        bright = one.inputs["pixel_values"].astype(int).max(axis=0)
        labels = one.targets["labels"]
        assert labels.dtype == np.int64
        assert set(np.unique(labels)) <= {-100, 0, 1}
        assert ((bright > bright.max() / 2) == (labels == 1)).mean() > 0.95
    again = augment(example, 0, 3)
    np.testing.assert_array_equal(again.targets["labels"], moved[3].targets["labels"])


def test_learns_to_find_discs(tmp_path: Path) -> None:
    write(tmp_path / "discs", 16)
    (tmp_path / "discs" / "labels.txt").write_text("ground\ndisc\n")
    model = zoo.load(tiny(zoo.info("segformer-b0-ade")), weights=None, device="cpu", seed=0)
    model.finetune(
        tmp_path / "discs", val=0.2, epochs=12, learning_rate=5e-3, batch_size=4, class_weights="balanced",
        augment="none", progress=False,
    )  # fmt: skip
    assert model.labels == ("ground", "disc")
    report = model.evaluate(tmp_path / "discs")
    assert report.metrics["mean_iou"] > 0.7, report
    pixels, mask = picture(99)
    found = model.predict(pixels)
    assert (found.mask == mask).mean() > 0.9
    assert found.segments[0].label == "ground"
