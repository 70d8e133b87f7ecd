"""Objects of an image: what they are, and where."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError
from zoo.modalities.base import Array, Example
from zoo.results import Detection, Detections
from zoo.tasks.arrays import softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.boxes import Objects, objects_of, overlap, suppress, to_centres, to_corners, within
from zoo.tasks.labels import index_of, ordered
from zoo.tasks.losses import refuse

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class DetectionOptions:
    """threshold: only what scores more. top_k: the most an image gives; None is what the family's own processor keeps.

    nms: of two boxes of one label that overlap by more (intersection over union), the lesser goes; None keeps both.
    """

    threshold: float = 0.5
    top_k: int | None = None
    nms: float | None = None

    def __post_init__(self) -> None:
        for name in ("threshold", "nms"):
            value = getattr(self, name)
            if name == "nms" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
                raise ConfigError(f"{name} is {value!r}; give a number from 0 to 1.")
        if self.top_k is not None and (
            isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1
        ):
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")


@final
class ObjectDetection(Task):
    """Outputs `logits [B, Q, C]` (one more, last, for no object in DETR) and `boxes [B, Q, 4]`, centre, width and
    height as shares of the image.

    Targets: int64 `labels [N]`; float32 `boxes [N, 4]`, alike; and bool `crowd [N]`. Crowds are left out of the loss,
    and an answer that hits one is neither right nor wrong, as in COCO.
    """

    name = "object-detection"
    modalities = ("vision",)
    columns = ("image", "objects")
    metric = "map"
    options = DetectionOptions
    # Random weights are sure of nothing, and a trained detector may see nothing in the built-in images.
    sample_options = {"threshold": 0.0, "top_k": 10}  # noqa: RUF012
    windowed = False

    @property
    def exclusive(self) -> bool:
        """Whether the labels and "no object" share one softmax, as in DETR; else each label has its own sigmoid."""
        return self.spec.architecture in ("detr", "yolos")

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """Distinct labels; whole numbers by value, all others alphabetically."""
        return ordered(label for target in targets for label in objects_of(target).labels)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        objects = objects_of(target)
        labels = np.array([index_of(label, self.index) for label in objects.labels], dtype=np.int64)
        return [replace(window, targets=_targets(objects, labels, window.source)) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        from zoo.tasks.matching import detection_loss

        return detection_loss(outputs, targets, self.spec)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        """The number of objects, crowds left out."""
        refuse(self.name, options)
        return float(((targets["labels"] >= 0) & (targets["crowd"] == 0)).sum())

    def scorer(self) -> Scorer:
        from zoo.tasks.average_precision import DetectionScorer

        return DetectionScorer(self)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Detections:
        """Best first."""
        scores, labels, boxes = self.best(outputs[0], windows[0], options.top_k)
        kept = scores > options.threshold
        scores, labels, boxes = scores[kept], labels[kept], boxes[kept]
        chosen = range(len(scores)) if options.nms is None else suppress(boxes, labels, options.nms)
        found = [
            Detection(self.labels[labels[i]], float(scores[i]), tuple(map(float, boxes[i])))  # type: ignore[arg-type]
            for i in chosen
        ]
        return Detections(found, self.labels)

    def best(self, output: Outputs, window: Example, most: int | None = None) -> tuple[Array, Array, Array]:
        """Scores `[K]`, labels `[K]` and boxes `[K, 4]` in pixels of the image, best first, as upstream's
        `post_process_object_detection` scores them. most: None is that function's own number."""
        logits = output["logits"].astype(np.float64)
        queries, count = np.arange(len(logits)), len(self.labels)
        if self.exclusive:
            probabilities = softmax(logits)[:, :count]
            labels = probabilities.argmax(axis=1)
            scores = probabilities[queries, labels]
        else:
            scores = (1.0 / (1.0 + np.exp(-logits[:, :count]))).ravel()
            queries, labels = np.divmod(np.arange(scores.size), count)
        order = np.argsort(-scores, kind="stable")[: most or self._most(len(logits))]
        image = window.source
        scale = np.array([image.width, image.height] * 2, dtype=np.float64)
        boxes = to_corners(output["boxes"][queries[order]].astype(np.float64)) * scale
        return scores[order], labels[order], boxes

    def _most(self, queries: int) -> int:
        return 100 if self.spec.architecture in ("deformable_detr", "conditional_detr") else queries

    def same(self, a: Any, b: Any) -> bool:
        """The same labels in the same places, whatever the order: equal scores have none."""
        if len(a) != len(b):
            return False
        left = list(b)
        for one in a:
            match = next((other for other in left if _same_place(one, other)), None)
            if match is None:
                return False
            left.remove(match)
        return True

    def collate_targets(self, examples: Sequence[Example]) -> dict[str, Array]:
        """As everywhere; images without objects are rows of padding."""
        if not examples[0].targets:
            return {}
        most = max(len(example.targets["labels"]) for example in examples)
        return {
            name: np.stack([_filled(example.targets[name], most) for example in examples])
            for name in ("labels", "boxes", "crowd")
        }


def _targets(objects: Objects, labels: Array, source: Any) -> dict[str, Array]:
    if source is None:
        # Of rows whose images are not opened: their labels are only counted.
        boxes = objects.boxes
    else:
        scale = np.array([source.width, source.height] * 2, dtype=np.float64)
        boxes = to_centres(within(objects, source.height, source.width) / scale)
    return {"labels": labels, "boxes": boxes.astype(np.float32), "crowd": objects.crowd.astype(np.int64)}


def _filled(rows: Array, count: int) -> Array:
    out = np.full((count, *rows.shape[1:]), -100, dtype=rows.dtype)
    out[: len(rows)] = rows
    return out


def _same_place(a: Detection, b: Detection) -> bool:
    if a.label != b.label or abs(a.score - b.score) > 1e-3:
        return False
    boxes = np.array([a.box, b.box], dtype=np.float64)
    near = np.abs(boxes[0] - boxes[1]).max() <= 1e-3 * max(1.0, float(np.abs(boxes).max()))
    return bool(near or overlap(boxes[:1], boxes[1:])[0, 0] > 0.99)
