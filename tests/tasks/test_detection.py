"""Objects of images: answers from outputs, COCO's average precision against pycocotools itself, pictures of boxes."""

from __future__ import annotations

import contextlib
import io
import pickle
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Example
from zoo.modalities.image import ImageEncoder, ImageSource
from zoo.overlay import colour_of
from zoo.results import Detection, Detections, to_plain
from zoo.tasks.boxes import objects_of, overlap, to_centres, within
from zoo.tasks.detection import DetectionOptions, ObjectDetection

LABELS = ("cat", "dog", "owl")


def task(name: str = "rtdetr-r18vd") -> ObjectDetection:
    return ObjectDetection(tiny(zoo.info(name)), LABELS)


def window(height: int, width: int, **targets: Any) -> Example:
    return Example({}, length=1, source=ImageSource(height, width, (96, 96)), targets=targets)


def logit(probability: Any) -> Any:
    return np.log(probability) - np.log1p(-np.asarray(probability))


def test_answers_are_the_best_first_and_in_pixels() -> None:
    scores = np.full((3, 3), 0.01)
    scores[0, 1], scores[1, 0], scores[2, 1] = 0.6, 0.9, 0.7
    boxes = np.array([[0.5, 0.5, 1, 1], [0.25, 0.5, 0.5, 0.2], [0.5, 0.5, 0.9, 1]], dtype=np.float32)
    outputs = {"logits": logit(scores).astype(np.float32), "boxes": boxes}
    found = task().decode([outputs], [window(100, 200)], DetectionOptions())
    assert [(one.label, round(one.score, 4)) for one in found] == [("cat", 0.9), ("dog", 0.7), ("dog", 0.6)]
    np.testing.assert_allclose(found[0].box, (0, 40, 100, 60), atol=1e-4)
    few = task().decode([outputs], [window(100, 200)], DetectionOptions(top_k=2))
    assert few == found[:2]
    apart = task().decode([outputs], [window(100, 200)], DetectionOptions(nms=0.5))
    assert [one.label for one in apart] == ["cat", "dog"]
    assert task().decode([outputs], [window(100, 200)], DetectionOptions(threshold=0.95)) == []


@pytest.mark.parametrize("options", [{"threshold": 1.5}, {"threshold": True}, {"top_k": 0}, {"nms": "half"}])
def test_an_option_out_of_range_is_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        DetectionOptions(**options)


def test_boxes_are_of_the_upright_image() -> None:
    picture = Image.new("RGB", (40, 20))
    exif = picture.getexif()
    exif[0x0112] = 6  # held upright: 20 wide and 40 high
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    detector = task()
    source = ImageEncoder(detector.spec.input).encode(file.getvalue())[0].source  # type: ignore[arg-type]
    assert (source.height, source.width) == (40, 20)
    with pytest.raises(DataError, match="outside of the image of 20 x 40 pixels"):
        within(objects_of([{"bbox": [25, 5, 10, 10], "category": "cat"}]), source.height, source.width)
    found = Detections([Detection("cat", 0.9, (2.0, 30.0, 12.0, 39.0))], LABELS)
    assert found.overlay(file.getvalue()).size == (20, 40)


def _scene(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects, some of them crowds, and answers that miss, shift, double and invent."""
    random = np.random.default_rng(seed)
    truth, answers = [], []
    for _ in range(int(random.integers(0, 7))):
        size = random.uniform(8, 160, 2)
        corner = random.uniform(0, 300 - size)
        label, crowd = int(random.integers(3)), bool(random.random() < 0.15)
        truth.append({"label": label, "box": [*corner, *(corner + size)], "crowd": crowd})
        for _ in range(int(random.integers(0, 3))):
            moved = np.clip([*corner, *(corner + size)] + random.normal(0, 0.06, 4) * size.max(), 0, 300)
            moved = np.sort(moved.reshape(2, 2), axis=0).ravel()
            label = label if random.random() < 0.85 else int(random.integers(3))
            answers.append({"label": label, "box": moved.tolist(), "score": random.uniform(0.05, 0.99)})
    return truth, answers


def test_average_precision_is_pycocotools_own() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    detector, scorer = task(), task().scorer()
    images, annotations, results = [], [], []
    for number in range(25):
        truth, answers = _scene(number)
        images.append({"id": number + 1, "width": 300, "height": 300})
        # As float32 shares, which is what a batch holds.
        given = to_centres(np.array([one["box"] for one in truth]).reshape(-1, 4) / 300).astype(np.float32)
        # No two alike: the last bit of a score would decide their order.
        outputs = -np.random.default_rng(number).uniform(30, 60, (len(answers), 3))
        for query, answer in enumerate(answers):
            outputs[query, answer["label"]] = logit(answer["score"])
        boxes = to_centres(np.array([one["box"] for one in answers]).reshape(-1, 4) / 300)
        row = window(
            300,
            300,
            labels=np.array([one["label"] for one in truth], dtype=np.int64),
            boxes=given,
            crowd=np.array([one["crowd"] for one in truth], dtype=np.int64),
        )
        scorer.update([{"logits": outputs, "boxes": boxes}], [row])
        for one in truth:
            x0, y0, x1, y1 = one["box"]
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": int(one["crowd"])}
            annotations.append({"id": len(annotations) + 1, "image_id": number + 1, "category_id": one["label"], **box})
        # Each box also answers, with a score of next to nothing, for the other labels.
        for score, label, (x0, y0, x1, y1) in zip(
            *detector.best({"logits": outputs, "boxes": boxes}, row, 100), strict=True
        ):
            answer = {"bbox": [x0, y0, x1 - x0, y1 - y0], "score": score}
            results.append({"image_id": number + 1, "category_id": int(label), **answer})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        categories = [{"id": index, "name": name} for index, name in enumerate(LABELS)]
        coco.dataset = {"images": images, "annotations": annotations, "categories": categories}
        coco.createIndex()
        judge = COCOeval(coco, coco.loadRes(results), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    names = ("map", "map_50", "map_75", "map_small", "map_medium", "map_large", "mar_1", "mar_10", "mar_100")
    ours = scorer.compute().metrics
    assert 0.05 < ours["map"] < 0.95
    np.testing.assert_allclose([ours[name] for name in names], judge.stats[:9], atol=1e-6)


def test_a_picture_has_each_box_in_its_labels_colour() -> None:
    photo = np.full((200, 300, 3), 90, dtype=np.uint8)
    found = Detections(
        [Detection("owl", 0.9, (50.0, 60.0, 150.0, 160.0)), Detection("cat", 0.4, (-5.0, 20.0, 40.0, 500.0))], LABELS
    )
    pixels = np.asarray(found.overlay(photo))
    assert pixels.shape == photo.shape
    assert tuple(pixels[100, 50]) == tuple(pixels[159, 100]) == colour_of(2)
    assert tuple(pixels[100, 39]) == colour_of(0)
    assert tuple(pixels[110, 100]) == (90, 90, 90)
    assert tuple(pixels[55, 51]) == colour_of(2), "the label is above its box"
    assert (np.asarray(Detections([], LABELS).overlay(photo)) == photo).all()


def test_detections_are_a_list() -> None:
    found = Detections([Detection("owl", 0.5, (1.0, 2.0, 3.0, 4.0))], LABELS)
    again = pickle.loads(pickle.dumps(found))
    assert again == found == [Detection("owl", 0.5, (1.0, 2.0, 3.0, 4.0))]
    assert again.labels == LABELS
    assert to_plain(found) == [{"label": "owl", "score": 0.5, "box": [1.0, 2.0, 3.0, 4.0]}]
    assert objects_of(found).boxes.tolist() == [[1, 2, 3, 4]]


def test_overlap_of_known_boxes() -> None:
    a = np.array([[0, 0, 10, 10], [0, 0, 0, 0]], dtype=float)
    b = np.array([[5, 0, 15, 10], [20, 20, 30, 30], [0, 0, 10, 10]], dtype=float)
    np.testing.assert_allclose(overlap(a, b), [[1 / 3, 0, 1], [0, 0, 0]])
