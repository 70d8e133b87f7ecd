"""The losses of DETR's family: each object is matched with one query, and the others learn that there is none.

Hungarian matching and losses as of "End-to-End Object Detection with Transformers" (2005.12872), with the focal loss of
"Deformable DETR" (2010.04159), and the varifocal one of RT-DETR (2304.08069). Torch is imported inside.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from zoo.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["softmax", "focal", "varifocal"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """costs: of class, L1 and GIoU in the matching. coefficients: of the same three in the loss.

    no_object: weight of that class in the softmax. alpha, gamma: of the focal losses.
    """

    kind: Kind
    costs: tuple[float, float, float]
    coefficients: tuple[float, float, float]
    no_object: float = 0.1
    alpha: float = 0.25
    gamma: float = 2.0


def recipe_of(spec: ModelSpec) -> Recipe:
    """The weights that the model's own configuration states."""
    config = spec.config
    if "rt_detr" in spec.architecture:
        return Recipe(
            "varifocal",
            (
                config.get("matcher_class_cost", 2),
                config.get("matcher_bbox_cost", 5),
                config.get("matcher_giou_cost", 2),
            ),
            (config.get("weight_loss_vfl", 1), config.get("weight_loss_bbox", 5), config.get("weight_loss_giou", 2)),
            alpha=config.get("focal_loss_alpha", 0.75),
            gamma=config.get("focal_loss_gamma", 2.0),
        )
    softmax = spec.architecture in ("detr", "yolos")
    conditional = spec.architecture == "conditional_detr"
    return Recipe(
        "softmax" if softmax else "focal",
        (config.get("class_cost", 2 if conditional else 1), config.get("bbox_cost", 5), config.get("giou_cost", 2)),
        (1, config.get("bbox_loss_coefficient", 5), config.get("giou_loss_coefficient", 2)),
        no_object=config.get("eos_coefficient", 0.1),
        alpha=config.get("focal_alpha", 0.25),
    )


def detection_loss(outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], spec: ModelSpec) -> Tensor:
    """The losses of the last layer and of every other that is given, summed over objects: a float32 scalar.

    outputs: `logits [B, Q, C]`, `boxes [B, Q, 4]`, and perhaps `aux_logits [B, L, Q, C]` and `aux_boxes [B, L, Q, 4]`.
    targets: `labels [B, N]`, `boxes [B, N, 4]` (centre, width, height), `crowd [B, N]`; -100 where nothing is.
    """
    recipe = recipe_of(spec)
    wanted = list(_objects(targets))
    total = _layer_loss(outputs["logits"].float(), outputs["boxes"].float(), wanted, recipe)
    for layer in range(outputs["aux_logits"].shape[1] if "aux_logits" in outputs else 0):
        logits, boxes = outputs["aux_logits"][:, layer], outputs["aux_boxes"][:, layer]
        total = total + _layer_loss(logits.float(), boxes.float(), wanted, recipe)
    return total


def _objects(targets: Mapping[str, Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Labels `[n]` and boxes `[n, 4]` of each image, without padding and crowds."""
    for labels, boxes, crowd in zip(targets["labels"], targets["boxes"], targets["crowd"], strict=True):
        real = (labels >= 0) & (crowd == 0)
        yield labels[real], boxes[real]


def _layer_loss(logits: Tensor, boxes: Tensor, wanted: list[tuple[Tensor, Tensor]], recipe: Recipe) -> Tensor:
    import torch

    rows, queries, labels, aims = _matched(logits.detach(), boxes.detach(), wanted, recipe)
    found = boxes[rows, queries]
    distance = (found - aims).abs().sum()
    apart = (1 - _giou(found, aims, paired=True)).sum()
    classes = torch.full(logits.shape[:2], -1, dtype=torch.int64, device=logits.device)
    classes[rows, queries] = labels
    if recipe.kind == "softmax":
        named = _softmax_loss(logits, classes, recipe, len(labels))
    elif recipe.kind == "focal":
        named = _focal_loss(logits, classes, recipe)
    else:
        quality = torch.zeros_like(classes, dtype=logits.dtype)
        quality[rows, queries] = _iou(found.detach(), aims)
        named = _varifocal_loss(logits, classes, quality, recipe)
    by_class, by_distance, by_giou = recipe.coefficients
    return by_class * named + by_distance * distance + by_giou * apart


def _matched(
    logits: Tensor, boxes: Tensor, wanted: list[tuple[Tensor, Tensor]], recipe: Recipe
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The cheapest assignment in each image: image and query of each matched object, its label, and its box."""
    import torch
    from scipy.optimize import linear_sum_assignment

    rows, queries, labels, aims = [], [], [], []
    for row, (label, aim) in enumerate(wanted):
        # What is not finite is matched last; the loss itself is then not finite, and is reported.
        cost = torch.nan_to_num(_cost(logits[row], boxes[row], label, aim, recipe), nan=1e9, posinf=1e9, neginf=1e9)
        chosen, of = (torch.as_tensor(index, device=logits.device) for index in linear_sum_assignment(cost.cpu()))
        rows.append(torch.full_like(chosen, row))
        queries.append(chosen)
        labels.append(label[of])
        aims.append(aim[of])
    return torch.cat(rows), torch.cat(queries), torch.cat(labels), torch.cat(aims)


def _cost(logits: Tensor, boxes: Tensor, labels: Tensor, aims: Tensor, recipe: Recipe) -> Tensor:
    """`[Q, n]`: how badly each query fits each object."""
    import torch

    if recipe.kind == "softmax":
        by_class = -logits.softmax(-1)[:, labels]
    else:
        alpha, gamma = 0.25, 2.0  # of the matching, in all of the family, whatever the loss has
        found = logits.sigmoid()[:, labels]
        against = (1 - alpha) * found**gamma * -(1 - found + 1e-8).log()
        by_class = alpha * (1 - found) ** gamma * -(found + 1e-8).log() - against
    of_class, of_distance, of_giou = recipe.costs
    distance = torch.cdist(boxes, aims, p=1)
    return of_class * by_class + of_distance * distance - of_giou * _giou(boxes, aims)


def _softmax_loss(logits: Tensor, classes: Tensor, recipe: Recipe, objects: int) -> Tensor:
    """Upstream's is the weighted mean over all queries of the batch; times the objects, so that it adds up."""
    import torch
    from torch.nn import functional

    none = logits.shape[-1] - 1
    weights = torch.ones(none + 1, device=logits.device)
    weights[none] = recipe.no_object
    mean = functional.cross_entropy(logits.transpose(1, 2), torch.where(classes < 0, none, classes), weights)
    return mean * objects


def _focal_loss(logits: Tensor, classes: Tensor, recipe: Recipe) -> Tensor:
    from torch.nn import functional

    target = _one_hot(classes, logits)
    entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    found = logits.sigmoid()
    right = found * target + (1 - found) * (1 - target)
    share = recipe.alpha * target + (1 - recipe.alpha) * (1 - target)
    return (share * entropy * (1 - right) ** recipe.gamma).sum()


def _varifocal_loss(logits: Tensor, classes: Tensor, quality: Tensor, recipe: Recipe) -> Tensor:
    """The score to learn is the overlap with the object."""
    from torch.nn import functional

    hot = _one_hot(classes, logits)
    target = quality.unsqueeze(-1) * hot
    weight = recipe.alpha * logits.detach().sigmoid() ** recipe.gamma * (1 - hot) + target
    return functional.binary_cross_entropy_with_logits(logits, target, weight=weight, reduction="sum")


def _one_hot(classes: Tensor, logits: Tensor) -> Tensor:
    """`[B, Q, C]` of labels `[B, Q]`; a row of zeros where nothing is."""
    import torch

    hot = torch.zeros_like(logits)
    return hot.scatter(-1, classes.clamp(min=0).unsqueeze(-1), (classes >= 0).unsqueeze(-1).to(logits.dtype))


def _corners(boxes: Tensor) -> Tensor:
    import torch

    half = boxes[..., 2:] / 2
    return torch.cat([boxes[..., :2] - half, boxes[..., :2] + half], dim=-1)


def _iou(found: Tensor, aims: Tensor) -> Tensor:
    """`[n]` of pairs `[n, 4]`."""
    shared, union, _ = _areas(_corners(found), _corners(aims))
    return shared / union


def _giou(found: Tensor, aims: Tensor, *, paired: bool = False) -> Tensor:
    """Generalised intersection over union (1902.09630): `[n]` of pairs, or `[Q, n]` of all with all."""
    a, b = _corners(found), _corners(aims)
    shared, union, around = _areas(a, b) if paired else _areas(a[:, None], b[None])
    return shared / union - (around - union) / around


def _areas(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the intersection, of the union, and of the smallest box around both."""
    import torch

    low, high = torch.maximum(a[..., :2], b[..., :2]), torch.minimum(a[..., 2:], b[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - shared
    size = torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])
    return shared, union, size.prod(-1)
