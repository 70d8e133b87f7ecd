"""Semantic segmentation: a label for every pixel of an image."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Example
from zoo.report import ClassScore, Report
from zoo.results import Segment, Segmentation
from zoo.spec import ImageInput
from zoo.tasks.arrays import softmax
from zoo.tasks.base import IGNORE, LossOptions, Outputs, Scorer, Task
from zoo.tasks.losses import cross_entropy, label_weight
from zoo.tasks.masks import Mask, highest, indices, read_mask, resized
from zoo.tasks.metrics import LabelCounter
from zoo.tasks.upsample import best_classes

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec

# Random weights leave many pixels at the border of two labels, where rounding decides.
_SAME = 0.999


@final
class ImageSegmentation(Task):
    """Outputs `logits [B, C, h, w]`, of any h and w; targets int64 `labels [B, H, W]`, -100 where nothing counts.

    Both sides of the image are resized to the model's input, and the logits back to the image: every pixel gets an
    answer. Metrics are of the masks at their own size.
    """

    name = "image-segmentation"
    modalities = ("vision",)
    columns = ("image", "mask")
    metric = "mean_iou"

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        assert isinstance(spec.input, ImageInput)
        if spec.input.crop_mode != "squash" or spec.input.crop_pct != 1:
            raise ConfigError(
                f"{spec.name} crops its images, and what is cut off would have no label: {self.name} needs "
                'input.crop_mode "squash" with crop_pct 1.'
            )
        self.size = spec.input.size

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        """The classes that the data names; else "0", "1", ... up to the highest id of any mask."""
        top = -1
        for target in targets:
            if isinstance(target, Mask) and target.classes:
                return tuple(dict.fromkeys(target.classes))
            top = max(top, highest(read_mask(target.raw if isinstance(target, Mask) else target)))
        return tuple(map(str, range(top + 1)))

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        mask = indices(target if isinstance(target, Mask) else Mask(target), self.index)
        source = windows[0].source
        if source is not None and (source.height, source.width) != mask.shape:
            raise DataError(
                f"The image has {source.width} x {source.height} pixels and its mask {mask.shape[1]} x {mask.shape[0]}."
            )
        targets = {"labels": resized(mask, self.size), "mask": mask}
        return [replace(window, targets=targets) for window in windows]

    def collate_targets(self, examples: Sequence[Example]) -> dict[str, Array]:
        # Masks at their own size are for the scorer alone.
        found = [example.targets["labels"] for example in examples if "labels" in example.targets]
        return {"labels": np.stack(found)} if found else {}

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        """Cross-entropy over pixels, the logits at the size of the targets, as upstream's."""
        from torch.nn.functional import interpolate

        logits = interpolate(outputs["logits"].float(), targets["labels"].shape[1:], mode="bilinear")
        return cross_entropy(logits.permute(0, 2, 3, 1), targets["labels"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"], options)

    def scorer(self) -> Scorer:
        return _Scorer(self.name, self.labels)

    def same(self, a: Any, b: Any) -> bool:
        """All but one pixel in a thousand."""
        return a.mask.shape == b.mask.shape and float((a.mask == b.mask).mean()) >= _SAME

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Segmentation:
        logits, source = outputs[0]["logits"], windows[0].source
        mask = best_classes(logits, source.height, source.width)
        counts = np.bincount(mask.ravel(), minlength=len(self.labels))
        scores = _scores(logits, mask)
        order = sorted(np.flatnonzero(counts).tolist(), key=lambda index: (-counts[index], index))
        segments = tuple(
            Segment(self.labels[index], index, float(counts[index] / mask.size), scores[index]) for index in order
        )
        kind = np.uint8 if len(self.labels) <= 256 else np.uint16
        return Segmentation(self.labels, segments, source.height, source.width, mask.astype(kind).tobytes())


def _scores(logits: Array, mask: Array) -> dict[int, float]:
    """The mean probability of each label over the grid's cells that lie on its pixels, or over the most likely one."""
    probabilities = softmax(np.moveaxis(logits.astype(np.float32), 0, -1))
    rows, columns = (
        ((np.arange(cells) + 0.5) * (pixels / cells)).astype(np.int64)
        for cells, pixels in zip(logits.shape[1:], mask.shape, strict=True)
    )
    there = mask[rows][:, columns]
    found = {}
    for index in np.unique(mask).tolist():
        own = probabilities[there == index, index]
        found[index] = float(own.mean() if own.size else probabilities[..., index].max())
    return found


@final
class _Scorer(Scorer):
    """mean_iou over the classes that occur, mean_accuracy over those of the masks, pixel_accuracy; IoU by class."""

    def __init__(self, task: str, labels: tuple[str, ...]) -> None:
        self._task = task
        self._counter = LabelCounter(labels)
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        true = windows[0].targets["mask"]
        answered = best_classes(outputs[0]["logits"], *true.shape)
        counts = true != IGNORE
        self._counter.update(true[counts].astype(np.int64), answered[counts])
        self._rows += 1

    def compute(self) -> Report:
        classes = tuple(replace(score, iou=_iou(score)) for score in self._counter.scores())
        found = [score.iou for score in classes if score.iou is not None]
        metrics = {
            "mean_iou": sum(found) / len(found) if found else 0.0,
            "mean_accuracy": self._counter.balanced_accuracy,
            "pixel_accuracy": self._counter.accuracy,
        }
        return Report(
            task=self._task,
            metrics=metrics,
            per_class=classes,
            averages=self._counter.averages(),
            confusion=self._counter.confusion(),
            rows=self._rows,
        )


def _iou(score: ClassScore) -> float | None:
    """Intersection over union; None for a class that neither the masks nor the answers have."""
    # f1 is 2I / (A + B), and the union is A + B - I.
    never = not score.support and score.specificity in (1.0, None)
    return None if never else score.f1 / (2 - score.f1)
