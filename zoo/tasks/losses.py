"""Summed losses, and what they are divided by. Torch is imported inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from zoo.errors import ConfigError
from zoo.modalities.base import Array
from zoo.tasks.base import IGNORE, LossOptions

if TYPE_CHECKING:
    from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, options: LossOptions) -> Tensor:
    """Summed over labels that are not -100; torch's own class weights and label smoothing.

    logits: `[..., C]`; labels: int64 `[...]`, or float `[..., C]`, the share of each. Divided by `label_weight`, it is
    torch's mean. Focal: each label's part times `(1 - p) ** gamma`, p the probability of the right one.
    """
    import torch
    from torch.nn import functional

    if labels.is_floating_point():
        return _of_shares(logits, labels, options)

    weights = None
    if options.class_weights is not None:
        weights = torch.as_tensor(options.class_weights, dtype=torch.float32, device=logits.device)
    rows, right = logits.float().flatten(0, -2), labels.flatten()
    losses = functional.cross_entropy(
        rows,
        right,
        weight=weights,
        ignore_index=IGNORE,
        reduction="sum" if options.focal is None else "none",
        label_smoothing=options.label_smoothing,
    )
    if options.focal is None:
        return losses
    found = rows.softmax(dim=-1).gather(-1, right.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    return (losses * _missing(found, options.focal)).sum()


def _of_shares(logits: Tensor, shares: Tensor, options: LossOptions) -> Tensor:
    """What the loss would be with each label in turn, by its share: torch's for probabilities, and focal too."""
    import torch

    scores = logits.float().log_softmax(dim=-1)
    losses = -scores
    if options.class_weights is not None:
        losses = losses * torch.as_tensor(options.class_weights, dtype=torch.float32, device=logits.device)
    smooth = options.label_smoothing
    losses = (1 - smooth) * losses + smooth * losses.mean(dim=-1, keepdim=True)
    if options.focal is not None:
        losses = losses * _missing(scores.exp(), options.focal)
    return (losses * shares).sum()


def binary_cross_entropy(logits: Tensor, marks: Tensor, options: LossOptions) -> Tensor:
    """Summed over rows and labels; class weights weigh a label where it is there, smoothing draws marks to a half.

    logits, marks: `[B, C]`, marks 0 or 1. Divided by their number, it is torch's `binary_cross_entropy_with_logits`.
    Focal: torchvision's `sigmoid_focal_loss` with these weights in place of its alpha.
    """
    import torch
    from torch.nn import functional

    weights = None
    if options.class_weights is not None:
        weights = torch.as_tensor(options.class_weights, dtype=torch.float32, device=logits.device)
    wanted = marks.float() * (1 - options.label_smoothing) + options.label_smoothing / 2
    how = "sum" if options.focal is None else "none"
    losses = functional.binary_cross_entropy_with_logits(logits.float(), wanted, pos_weight=weights, reduction=how)
    if options.focal is None:
        return losses
    scores = logits.float().sigmoid()
    found = scores * marks + (1 - scores) * (1 - marks)
    return (losses * _missing(found, options.focal)).sum()


def _missing(found: Tensor, gamma: float) -> Tensor:
    """`(1 - found) ** gamma`; kept off 0, where a power below 1 has no finite slope."""
    return (1 - found).clamp(min=1e-7) ** gamma


def squared_error(values: Tensor, wanted: Tensor) -> Tensor:
    """Summed over rows: `[B]` and `[B]`."""
    return (values.float() - wanted.float()).square().sum()


def label_weight(labels: Array, options: LossOptions) -> float:
    """How many labels are not -100, or the sum of their class weights; of shares `[..., C]` as of whole labels."""
    if labels.dtype.kind == "f":
        if options.class_weights is None:
            return float(labels.size // labels.shape[-1])
        return float((labels.astype(np.float64) * np.asarray(options.class_weights, dtype=np.float64)).sum())
    counted = labels[labels != IGNORE]
    if options.class_weights is None:
        return float(counted.size)
    return float(np.asarray(options.class_weights, dtype=np.float64)[counted].sum())


def refuse(task: str, options: LossOptions, *, smoothing: bool = False) -> None:
    """ConfigError for options that mean nothing to a task. smoothing: whether label_smoothing does."""
    if options.class_weights is not None:
        raise ConfigError(f"class weights go with the classes of a classification; {task} has none.")
    if options.focal is not None:
        raise ConfigError(f"loss='focal' goes with the labels of a classification; leave loss out for {task}.")
    if options.label_smoothing and not smoothing:
        raise ConfigError(f"label_smoothing means nothing to the loss of {task}; leave it at 0.")
