"""Segmentation: masks in every form, scores beside scikit-learn's, answers at the size of the image."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo import tasks
from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Example
from zoo.modalities.image import ImageEncoder, ImageSource
from zoo.overlay import colour_of
from zoo.results import to_plain
from zoo.spec import ImageInput, ModelSpec
from zoo.strict import read
from zoo.tasks.masks import Mask, indices, read_mask
from zoo.tasks.upsample import best_classes

INPUT: dict[str, Any] = {"kind": "image", "size": [32, 32], "mean": [0.5] * 3, "std": [0.5] * 3}
SQUASH = {**INPUT, "crop_mode": "squash", "crop_pct": 1.0}
LABELS = ("ground", "sky", "boat")
RNG = np.random.default_rng(0)


def task(labels: tuple[str, ...] = LABELS, **changes: Any) -> Any:
    spec = ModelSpec(
        name="x",
        modality="vision",
        tasks=("image-segmentation",),
        backend="transformers",
        architecture="segformer",
        input=read(ImageInput, {**SQUASH, **changes}, where="it"),
    )
    return tasks.make("image-segmentation", spec, labels)


def png(pixels: Any, palette: bool = False, mode: str | None = None) -> bytes:
    image = Image.fromarray(pixels)
    if palette:
        image = image.convert("P") if image.mode != "L" else image
        image.putpalette([255, 0, 0] * 256)
    file = io.BytesIO()
    (image.convert(mode) if mode else image).save(file, "PNG")
    return file.getvalue()


IDS = RNG.integers(0, 3, (20, 30)).astype(np.uint8)


@pytest.mark.parametrize(
    "raw",
    [
        IDS,
        IDS.astype(np.int64),
        IDS[None],
        IDS[..., None],
        png(IDS),
        png(IDS, palette=True),
        png(IDS.astype(np.uint16)),
        png(IDS, mode="RGB"),
        Image.fromarray(IDS),
    ],
    ids=["uint8", "int64", "first axis", "last axis", "grey", "palette", "16 bits", "grey as colours", "PIL"],
)
def test_masks_are_read_as_ids(raw: Any) -> None:
    found = read_mask(raw)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, IDS)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (png(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8)), "has colours"),
        (np.zeros((4, 4), dtype=np.float32), "not float32"),
        (np.zeros((4, 4, 3), dtype=np.uint8), r"not \[4, 4, 3\]"),
        (np.full((4, 4), -1), "from -1"),
        (np.zeros((0, 4), dtype=np.uint8), "not"),
        (b"no picture", "not an image"),
    ],
)
def test_what_is_no_mask_is_refused(raw: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_mask(raw)


def test_ids_become_places_by_the_names_of_the_data() -> None:
    mask = np.array([[0, 1, 255]], dtype=np.uint8)
    index = {"sky": 0, "boat": 1, "ground": 2}
    np.testing.assert_array_equal(indices(Mask(mask, ("ground", "sky")), index), [[2, 0, -100]])
    np.testing.assert_array_equal(indices(Mask(mask), index), [[0, 1, -100]])
    with pytest.raises(DataError, match="class 7, and there are 3 labels"):
        indices(Mask(np.array([[7]])), index)
    with pytest.raises(DataError, match="'tree' is none"):
        indices(Mask(mask, ("tree",)), index)


def test_labels_are_the_data_s_or_its_ids() -> None:
    kind = tasks.get("image-segmentation")
    assert kind.labels_of([Mask(IDS, ("a", "b", "c"))]) == ("a", "b", "c")
    assert kind.labels_of([np.array([[0, 255]]), np.array([[2, 1]])]) == ("0", "1", "2")


def test_a_mask_of_another_size_is_named() -> None:
    windows = [Example({}, 1, source=ImageSource(20, 31, (32, 32)))]
    with pytest.raises(DataError, match="31 x 20 pixels and its mask 30 x 20"):
        task().attach(windows, IDS)
    found = task().attach([Example({}, 1, source=ImageSource(20, 30, (32, 32)))], IDS)[0].targets
    assert found["labels"].shape == (32, 32)
    assert found["labels"].dtype == np.int64
    np.testing.assert_array_equal(found["mask"], IDS)


def test_what_is_cropped_has_no_label() -> None:
    with pytest.raises(ConfigError, match="crops its images"):
        task(crop_mode="center")


@pytest.mark.parametrize("size", [(7, 11), (16, 16), (61, 40), (1, 3), (9, 130)])
def test_the_answer_is_upstream_s_post_processing(size: tuple[int, int]) -> None:
    import torch
    from transformers import SegformerImageProcessor
    from transformers.modeling_outputs import SemanticSegmenterOutput

    logits = RNG.normal(size=(1, 5, 16, 16)).astype(np.float32)
    output = SemanticSegmenterOutput(logits=torch.from_numpy(logits))  # type: ignore[arg-type]
    expected = SegformerImageProcessor().post_process_semantic_segmentation(output, target_sizes=[size])[0]
    found = best_classes(logits[0], *size)
    # Rounding may break a tie the other way.
    assert (found == expected.numpy()).mean() >= 0.999


def scored(rows: int = 4) -> Any:
    ours, scorer, true, answered = task(), task().scorer(), [], []
    for row in range(rows):
        height, width = 20 + row, 30
        mask = RNG.integers(0, 2, (height, width)).astype(np.uint8)
        mask[0] = 255
        logits = RNG.normal(size=(3, height, width)).astype(np.float32)
        logits[2] -= 9 * (row > 0)
        window = Example({}, 1, source=ImageSource(height, width, (32, 32)))
        scorer.update([{"logits": logits}], ours.attach([window], mask))
        true.append(mask[mask != 255])
        answered.append(logits.argmax(0)[mask != 255])
    return scorer.compute(), np.concatenate(true), np.concatenate(answered)


def test_scores_agree_with_scikit_learn() -> None:
    from sklearn import metrics

    report, true, answered = scored()
    expected = metrics.jaccard_score(true, answered, average=None, labels=[0, 1, 2])
    assert [score.iou for score in report.per_class] == pytest.approx(list(expected))
    assert report.metrics["mean_iou"] == pytest.approx(expected.mean())
    assert report.metrics["pixel_accuracy"] == pytest.approx((true == answered).mean())
    recalls = [(answered[true == k] == k).mean() for k in (0, 1)]
    assert report.metrics["mean_accuracy"] == pytest.approx(np.mean(recalls))
    assert "IoU" in str(report)


def test_a_class_that_never_comes_does_not_count() -> None:
    scorer = task().scorer()
    logits = np.stack([np.ones((4, 4)), np.zeros((4, 4)), np.zeros((4, 4))]).astype(np.float32)
    window = Example({}, 1, source=ImageSource(4, 4, (32, 32)))
    scorer.update([{"logits": logits}], task().attach([window], np.zeros((4, 4), dtype=np.uint8)))
    report = scorer.compute()
    assert [score.iou for score in report.per_class] == [1.0, None, None]
    assert report.metrics["mean_iou"] == 1.0


def test_the_loss_is_upstream_s() -> None:
    import torch

    ours = task()
    logits = torch.randn(2, 3, 8, 8)
    labels = torch.randint(0, 3, (2, 32, 32))
    labels[:, :4] = -100
    from zoo.tasks.base import LossOptions

    up = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear", align_corners=False)
    expected = torch.nn.functional.cross_entropy(up, labels, ignore_index=-100)
    weight = ours.weight({"labels": labels.numpy()}, LossOptions())
    found = ours.loss({"logits": logits}, {"labels": labels}, LossOptions())
    torch.testing.assert_close(found / weight, expected)


def result(height: int = 40, width: int = 60) -> Any:
    logits = np.zeros((3, 8, 8), dtype=np.float32)
    logits[0, 4:], logits[1, :4], logits[2, 3:5, 2:6] = 2, 2, 5
    return task().decode([{"logits": logits}], [Example({}, 1, source=ImageSource(height, width, (32, 32)))], None)


def test_a_result_lists_its_segments_and_is_json() -> None:
    found = result()
    assert found.mask.shape == (40, 60)
    assert found.mask.dtype == np.uint8
    assert sum(segment.area for segment in found.segments) == pytest.approx(1)
    assert {segment.label for segment in found.segments} == set(LABELS)
    for segment in found.segments:
        assert (found.mask == segment.index).mean() == pytest.approx(segment.area)
        assert 1 / 3 < segment.score <= 1
    plain = json.loads(json.dumps(to_plain(found)))
    mask = np.asarray(Image.open(io.BytesIO(base64.b64decode(plain["mask"]["data"]))))
    np.testing.assert_array_equal(mask, found.mask)
    assert result() == found
    assert "boat" in repr(found)
    assert len(repr(found)) < 300


def test_more_than_256_labels_take_two_bytes() -> None:
    labels = tuple(f"label {i}" for i in range(300))
    logits = np.zeros((300, 4, 4), dtype=np.float32)
    logits[299] = 1
    found = task(labels).decode([{"logits": logits}], [Example({}, 1, source=ImageSource(5, 6, (32, 32)))], None)
    assert found.mask.dtype == np.uint16
    assert (found.mask == 299).all()
    assert np.asarray(Image.open(io.BytesIO(found.png()))).max() == 299


def test_the_overlay_covers_the_image_and_has_a_legend() -> None:
    found = result()
    photo = np.full((40, 60, 3), 200, dtype=np.uint8)
    bare = found.overlay(photo, legend=False)
    assert bare.size == (60, 40)
    assert found.overlay(photo).size[0] > 60
    expected = np.array(colour_of(0)) * 0.55 + 200 * 0.45
    np.testing.assert_allclose(np.asarray(bare)[38, 2], expected, atol=1)
    np.testing.assert_array_equal(np.asarray(found.overlay(photo, alpha=0, legend=False))[38, 2], [200] * 3)
    assert len({colour_of(index) for index in range(150)}) == 150
    for other in (None, png(photo), Image.fromarray(photo), (photo[..., 0].astype(np.uint16) * 100)):
        assert found.overlay(other, legend=False).size == (60, 40)
    with pytest.raises(ConfigError, match="alpha is 2"):
        found.overlay(photo, alpha=2)


def test_the_picture_is_squashed_and_its_size_kept() -> None:
    window = ImageEncoder(read(ImageInput, SQUASH, where="it")).encode(np.zeros((20, 50, 3), dtype=np.uint8))[0]
    assert window.inputs["pixel_values"].shape == (3, 32, 32)
    assert (window.source.height, window.source.width) == (20, 50)
