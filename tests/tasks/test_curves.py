"""Areas under curves, beside scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

from tests.tasks.sources import spec
from zoo import tasks
from zoo.modalities.base import Example
from zoo.tasks.curves import MOST_LABELS, ScoreKeeper, average_precision, mean_areas, roc_auc
from zoo.tasks.metrics import LabelCounter


@pytest.mark.parametrize("values", [2, 5, 1000])
def test_both_agree_with_scikit_learn_ties_or_not(values: int) -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(values)
    for rows in (3, 20, 333):
        scores = (rng.integers(0, values, rows) / values).astype(np.float32)
        true = rng.random(rows) < 0.3
        true[:2] = True, False
        assert roc_auc(scores, true) == pytest.approx(roc_auc_score(true, scores), abs=1e-12)
        assert average_precision(scores, true) == pytest.approx(average_precision_score(true, scores), abs=1e-12)


def test_by_hand() -> None:
    scores, true = np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True])
    assert roc_auc(scores, true) == 0.75
    assert average_precision(scores, true) == pytest.approx((1 + 2 / 3) / 2)
    assert roc_auc(np.zeros(4), true) == 0.5
    assert average_precision(np.zeros(4), true) == 0.5


def test_what_can_not_be_told_is_none() -> None:
    scores = np.array([0.2, 0.9])
    assert roc_auc(scores, np.array([True, True])) is None
    assert roc_auc(scores, np.array([False, False])) is None
    assert average_precision(scores, np.array([False, False])) is None
    assert average_precision(scores, np.array([True, True])) == 1.0


def test_a_large_label_set_keeps_no_scores() -> None:
    keeper = ScoreKeeper([str(i) for i in range(MOST_LABELS + 1)])
    keeper.update(np.ones(MOST_LABELS + 1), np.ones(MOST_LABELS + 1))
    assert keeper.areas() == []
    assert mean_areas(LabelCounter(["a"]).scores()) == {}


@pytest.mark.parametrize("classes", [2, 4])
def test_the_report_of_a_classification_agrees_with_scikit_learn(classes: int) -> None:
    from sklearn import metrics

    rng = np.random.default_rng(0)
    labels = tuple(f"{letter} label of some thirty characters"[:30] for letter in "abcdef"[:classes])
    task = tasks.make("image-classification", spec("image-classification", "image"), labels)
    logits = rng.normal(size=(60, classes)).astype(np.float32)
    true = np.concatenate([np.arange(classes), rng.integers(0, classes, 60 - classes)])
    scorer = task.scorer()
    for row, answer in zip(logits, true, strict=True):
        scorer.update([{"logits": row}], [Example({}, 1, targets={"label": np.asarray(answer)})])
    report = scorer.compute()
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    hot, got = np.eye(classes)[true], p.argmax(1)
    assert report.metrics["auroc"] == pytest.approx(metrics.roc_auc_score(hot, p, average="macro"), abs=1e-6)
    assert report.metrics["average_precision"] == pytest.approx(metrics.average_precision_score(hot, p), abs=1e-6)
    assert report.metrics["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(true, got))
    matrices = metrics.multilabel_confusion_matrix(true, got)
    for score, (negative, positive) in zip(report.per_class, matrices, strict=True):
        assert score.specificity == pytest.approx(negative[0] / negative.sum())
        assert score.sensitivity == score.recall == pytest.approx(positive[1] / positive.sum())
    assert max(map(len, str(report).splitlines())) <= 80
    assert "sensitivity  specificity     auroc" in str(report)


def test_a_class_that_never_comes_has_no_area_and_does_not_count() -> None:
    task = tasks.make("image-classification", spec("image-classification", "image"), ("a", "b", "never"))
    scorer = task.scorer()
    for answer in (0, 1, 1):
        scorer.update([{"logits": np.eye(3)[answer]}], [Example({}, 1, targets={"label": np.asarray(answer)})])
    report = scorer.compute()
    assert report.per_class[2].auroc is None
    assert report.metrics["auroc"] == report.metrics["balanced_accuracy"] == 1.0
    assert "never" in report.to_dict()["per_class"][2]["label"]
