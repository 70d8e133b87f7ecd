"""Losses against upstream's, and against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torchvision

from zoo.errors import ConfigError
from zoo.tasks.base import IGNORE, LossOptions
from zoo.tasks.losses import binary_cross_entropy, cross_entropy, label_weight, refuse

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3], [-3.0, 4.0, 0.0], [9.0, 0.0, 0.0]], dtype=torch.float64)
LABELS = torch.tensor([0, 2, IGNORE, 1])
MARKS = torch.tensor([[1.0, 0, 1], [0, 0, 0], [1, 1, 1], [0, 1, 0]])


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 5.0])
def test_focal_of_several_labels_is_torchvisions(gamma: float) -> None:
    logits = LOGITS.float()
    expected = torchvision.ops.sigmoid_focal_loss(logits, MARKS, alpha=-1, gamma=gamma, reduction="sum")
    found = binary_cross_entropy(logits, MARKS, LossOptions(focal=gamma))
    assert float(found) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 1.0], dtype=np.float32)])
def test_focal_of_one_label_is_its_definition(gamma: float, weights: np.ndarray | None) -> None:
    expected = 0.0
    for logits, label in zip(LOGITS, LABELS.tolist(), strict=True):
        if label != IGNORE:
            p = float(logits.softmax(0)[label])
            expected -= (1.0 if weights is None else weights[label]) * (1 - p) ** gamma * np.log(p)
    options = LossOptions(class_weights=weights, focal=gamma)
    assert float(cross_entropy(LOGITS, LABELS, options)) == pytest.approx(expected, rel=1e-5)
    assert label_weight(LABELS.numpy(), options) == label_weight(LABELS.numpy(), LossOptions(class_weights=weights))


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}, {"class_weights": np.array([1, 2, 3], np.float32)}])
def test_focal_without_gamma_is_cross_entropy(options: dict[str, object]) -> None:
    plain, focal = LossOptions(**options), LossOptions(**options, focal=0.0)  # type: ignore[arg-type]
    assert float(cross_entropy(LOGITS, LABELS, focal)) == pytest.approx(float(cross_entropy(LOGITS, LABELS, plain)))
    expected = binary_cross_entropy(LOGITS, MARKS, plain)
    assert float(binary_cross_entropy(LOGITS, MARKS, focal)) == pytest.approx(float(expected))


@pytest.mark.parametrize("weights", [None, np.array([0.5, 2.0, 1.0], dtype=np.float32)])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_shares_of_labels_are_torchs_probabilities(weights: np.ndarray | None, smoothing: float) -> None:
    shares = torch.tensor([[0.25, 0.75, 0.0], [1.0, 0.0, 0.0], [0.0, 0.5, 0.5]])
    logits = LOGITS[:3].float()
    expected = torch.nn.functional.cross_entropy(
        logits, shares, weight=None if weights is None else torch.tensor(weights), label_smoothing=smoothing,
        reduction="sum",
    )  # fmt: skip
    options = LossOptions(smoothing, weights)
    assert float(cross_entropy(logits, shares, options)) == pytest.approx(float(expected), rel=1e-5)
    whole = torch.tensor([0, 2, 1])
    for focal in (None, 1.5):
        options = LossOptions(smoothing, weights, focal)
        marks = torch.nn.functional.one_hot(whole, 3).float()
        assert float(cross_entropy(logits, marks, options)) == pytest.approx(
            float(cross_entropy(logits, whole, options)), rel=1e-5
        )
        assert label_weight(marks.numpy(), options) == pytest.approx(label_weight(whole.numpy(), options))


def test_the_slope_is_finite_where_the_answer_is_certain() -> None:
    logits = torch.tensor([[80.0, -80.0]], requires_grad=True)
    options = LossOptions(focal=0.5)
    loss = cross_entropy(logits, torch.tensor([0]), options)
    (loss + binary_cross_entropy(logits, torch.tensor([[1.0, 0.0]]), options)).backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_tasks_without_labels_refuse_it() -> None:
    with pytest.raises(ConfigError, match=r"loss='focal' goes with the labels of a classification; leave loss out"):
        refuse("a regression", LossOptions(focal=2.0))
