"""COCO's average precision, by pycocotools, image by image: what is kept is who matched whom, not boxes."""

from __future__ import annotations

import contextlib
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import missing
from zoo.modalities.base import Array, Example
from zoo.report import ClassScore, Report
from zoo.tasks.base import Outputs, Scorer
from zoo.tasks.boxes import area, to_corners

if TYPE_CHECKING:
    from zoo.tasks.detection import ObjectDetection

_MOST = 100  # detections an image, as COCO counts
_SURE = 0.5  # the score and the overlap at which precision and recall of a class are given
_SIZES = ("", "_small", "_medium", "_large")  # under 32 x 32 pixels, up to 96 x 96, beyond


@final
class DetectionScorer(Scorer):
    """map (over overlaps from 0.5 to 0.95), map_50, map_75; map_small, map_medium, map_large of objects of that size in
    the image that came, where there are any; mar_1, mar_10, mar_100: recall with so many answers an image.

    Holds some kilobytes an image. Of each class: precision and recall of answers that score 0.5 and overlap by half;
    average_precision is its map.
    """

    def __init__(self, task: ObjectDetection) -> None:
        self._task = task
        self._coco = _evaluator()
        self._found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)  # by label and size
        self._support = np.zeros(len(task.labels), dtype=np.int64)
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        window = windows[0]
        scores, labels, boxes = self._task.best(outputs[0], window, _MOST)
        answers = _records(labels, boxes, scores=scores)
        targets = window.targets
        scale = np.array([window.source.width, window.source.height] * 2, dtype=np.float64)
        truth = _records(targets["labels"], to_corners(targets["boxes"].astype(np.float64)) * scale, targets["crowd"])
        self._support += np.bincount(targets["labels"][targets["crowd"] == 0], minlength=len(self._support))
        self._rows += 1
        self._coco._gts, self._coco._dts = truth, answers
        for label in sorted({key[1] for key in (*truth, *answers)}):
            self._compare(label)

    def _compare(self, label: int) -> None:
        coco = self._coco
        coco.ious = {(0, label): coco.computeIoU(0, label)}
        for size, limits in enumerate(coco.params.areaRng):
            found = coco.evaluateImg(0, label, limits, _MOST)
            self._found[label, size].append(
                {
                    "dtScores": np.array(found["dtScores"], dtype=np.float64),
                    "dtMatches": np.asarray(found["dtMatches"]) > 0,
                    "dtIgnore": np.asarray(found["dtIgnore"]).astype(bool),
                    "gtIgnore": np.asarray(found["gtIgnore"]).astype(bool),
                }
            )

    def compute(self) -> Report:
        seen = [label for label in range(len(self._task.labels)) if self._found.get((label, 0))]
        curves = {label: self._curves(label) for label in seen}
        precision = np.stack([p for p, _ in curves.values()]) if seen else np.full((1, 10, 101, 4, 3), -1.0)
        recall = np.stack([r for _, r in curves.values()]) if seen else np.full((1, 10, 4, 3), -1.0)
        metrics = {f"map{name}": _mean(precision[:, :, :, size, 2]) for size, name in enumerate(_SIZES)}
        metrics["map_50"], metrics["map_75"] = (_mean(precision[:, at, :, 0, 2]) for at in (0, 5))
        metrics.update({f"mar_{count}": _mean(recall[:, :, 0, at]) for at, count in enumerate((1, 10, 100))})
        order = ("map", "map_50", "map_75", *(f"map{name}" for name in _SIZES[1:]), "mar_1", "mar_10", "mar_100")
        return Report(
            task=self._task.name,
            metrics={name: metrics[name] for name in order if np.isfinite(metrics[name]) or name == "map"},
            per_class=tuple(self._class_score(label, curves) for label in range(len(self._task.labels))),
            rows=self._rows,
        )

    def _curves(self, label: int) -> tuple[Array, Array]:
        """Precision `[10, 101, 4, 3]` and recall `[10, 4, 3]`: by overlap, recall, size, and answers an image."""
        coco, images = self._coco, len(self._found[label, 0])
        coco.params.catIds, coco.params.imgIds = [label], list(range(images))
        coco._paramsEval = coco.params
        coco.evalImgs = [image for size in range(len(_SIZES)) for image in self._found[label, size]]
        # It tells its progress on standard output.
        with contextlib.redirect_stdout(io.StringIO()):
            coco.accumulate()
        return coco.eval["precision"][:, :, 0], coco.eval["recall"][:, 0]

    def _class_score(self, label: int, curves: Mapping[int, tuple[Array, Array]]) -> ClassScore:
        right = wrong = 0
        for image in self._found.get((label, 0), ()):
            sure = (image["dtScores"] >= _SURE) & ~image["dtIgnore"][0]
            right += int((image["dtMatches"][0] & sure).sum())
            wrong += int((~image["dtMatches"][0] & sure).sum())
        support = int(self._support[label])
        precision, recall = right / max(right + wrong, 1), right / max(support, 1)
        f1 = 2 * right / max(right + wrong + support, 1)
        mean = _mean(curves[label][0][:, :, 0, 2]) if label in curves else float("nan")
        name = self._task.labels[label]
        return ClassScore(name, precision, recall, f1, support, average_precision=mean if np.isfinite(mean) else None)


def _mean(values: Array) -> float:
    """Over what is not -1, which says that there was nothing to find."""
    real = values[values > -1]
    return float(real.mean()) if real.size else float("nan")


def _records(
    labels: Array, boxes: Array, crowd: Array | None = None, *, scores: Array | None = None
) -> dict[tuple[int, int], list[dict[str, Any]]]:
    """As pycocotools wants them, by (image, label). Identities count from 1: its 0 says that nothing matched."""
    found: dict[tuple[int, int], list[dict[str, Any]]] = defaultdict(list)
    sizes = area(boxes)
    for index, (label, box) in enumerate(zip(labels.tolist(), boxes.tolist(), strict=True)):
        x0, y0, x1, y1 = box
        record = {"id": index + 1, "bbox": [x0, y0, x1 - x0, y1 - y0], "area": float(sizes[index])}
        if scores is not None:
            record["score"] = float(scores[index])
        else:
            is_crowd = int(crowd[index]) if crowd is not None else 0
            record.update(iscrowd=is_crowd, ignore=is_crowd)
        found[0, label].append(record)
    return found


def _evaluator() -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError as error:
        raise missing("pycocotools", "measure", "Measuring a detector") from error
    return COCOeval(iouType="bbox")
