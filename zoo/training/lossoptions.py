"""The options of the loss: class weights, named or counted from the data, label smoothing, the focal loss."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from zoo.errors import ConfigError, suggest
from zoo.modalities.base import Array
from zoo.tasks.base import LossOptions, Task
from zoo.tasks.labels import composed
from zoo.training.config import TrainConfig
from zoo.training.encoding import Items


def loss_options(config: TrainConfig, task: Task, items: Items) -> LossOptions:
    """Raises ConfigError for a label that the model does not have."""
    gamma = 2.0 if config.focal_gamma is None else config.focal_gamma
    return LossOptions(
        config.label_smoothing, _class_weights(config, task, items), gamma if config.loss == "focal" else None
    )


def _class_weights(config: TrainConfig, task: Task, items: Items) -> Array | None:
    given = config.class_weights
    if given is None:
        return None
    if not task.labels:
        raise ConfigError(f"class_weights go with the classes of a classification; {task.name} has none.")
    return balanced(task, items) if given == "balanced" else named(task, given)


def classes_of(task: Task, items: Items) -> Array:
    """int64 `[N]`: the class of each item, for a sampler that balances. Raises ConfigError where it has several."""
    labels = [targets.get("label") for targets in items.targets()]
    if not task.labels or any(label is None or label.ndim or label.dtype.kind not in "iu" for label in labels):
        raise ConfigError(f'sampler="balanced" goes with one label a row, and {task.name} has other targets here.')
    return np.array(labels, dtype=np.int64)


def named(task: Task, given: Mapping[str, float]) -> Array:
    """float32 `[C]`: the given weights, 1 for labels that are not named."""
    weights = np.ones(len(task.labels), dtype=np.float32)
    for name, weight in given.items():
        label = name if name in task.index else composed(name)
        if label not in task.index:
            raise ConfigError(
                f"class_weights names {label!r}, which is no label of this model.{suggest(label, task.labels)} "
                f"Labels: {', '.join(task.labels[:20])}{', ...' if len(task.labels) > 20 else ''}."
            )
        weights[task.index[label]] = weight
    if not weights.any():
        raise ConfigError("class_weights are all 0; at least one label must count.")
    return weights


def balanced(task: Task, items: Items) -> Array:
    """float32 `[C]`: N / (classes seen x count of the class), as scikit-learn's; 1 for a class that never comes."""
    if task.spec.problem_type == "multi_label_classification":
        return _against_the_rest(task, items)
    counts = np.zeros(len(task.labels), dtype=np.int64)
    for targets in items.targets():
        labels = np.atleast_1d(targets["label"] if "label" in targets else targets["labels"])
        counts += np.bincount(labels[labels >= 0], minlength=len(counts))
    seen = counts > 0
    weights = np.ones(len(counts), dtype=np.float32)
    weights[seen] = counts.sum() / (seen.sum() * counts[seen])
    return weights


def _against_the_rest(task: Task, items: Items) -> Array:
    """float32 `[C]`: for each of several labels, rows without it to rows with it; 1 for one that never comes."""
    marks = np.zeros(len(task.labels), dtype=np.float64)
    rows = 0
    for targets in items.targets():
        marks += targets["label"]
        rows += 1
    seen = marks > 0
    weights = np.ones(len(marks), dtype=np.float32)
    # At least a hundredth: a label of every row must still count.
    weights[seen] = np.maximum((rows - marks[seen]) / marks[seen], 0.01)
    return weights
