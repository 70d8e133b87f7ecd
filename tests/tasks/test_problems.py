"""Several labels an input, and numbers: losses as torch's, metrics as scikit-learn's and SciPy's."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import plain_window, spec
from zoo import tasks
from zoo.errors import ConfigError, DataError
from zoo.results import LabelScore, MultiLabel, Regression
from zoo.tasks.base import LossOptions, Task
from zoo.tasks.problems import MULTI, REGRESSION, labels_of

LABELS = ("a", "b", "c")


def task(problem: str | None, labels: tuple[str, ...] = LABELS, kind: str = "text-classification") -> Task:
    return tasks.make(kind, spec(kind).evolve(problem_type=problem), ("value",) if problem == REGRESSION else labels)


def outputs(*logits: float) -> list[dict[str, Any]]:
    return [{"logits": np.array(logits, dtype=np.float32)}]


def marks(given: Any, problem: str | None = MULTI) -> list[float]:
    found = task(problem).attach([plain_window()], given)[0].targets["label"]
    assert found.dtype == np.float32
    return [float(x) for x in np.atleast_1d(found)]


def test_targets_of_several_labels() -> None:
    assert marks(["a", "c"]) == [1, 0, 1]
    assert marks([]) == [0, 0, 0]
    assert marks("b") == [0, 1, 0]
    assert marks({"c", "b"}) == [0, 1, 1]
    assert marks(["a", "a"]) == [1, 0, 0]
    assert marks([0.0, 1.0, 1.0]) == marks(np.array([False, True, True])) == [0, 1, 1]
    with pytest.raises(DataError, match="'d' is not one of the model's 3"):
        marks(["a", "d"])
    with pytest.raises(DataError, match="not all 0 or 1"):
        marks([0.5, 0.0, 1.0])
    assert labels_of([["b", "a"], [], ["c"], "a"]) == LABELS
    assert labels_of([[10, 2], [3]]) == ("2", "3", "10")
    with pytest.raises(DataError, match=r"labels=\[\.\.\.\]"):
        labels_of([[0.0, 1.0]])


def test_targets_that_are_numbers() -> None:
    assert marks(2.5, REGRESSION) == [2.5]
    assert marks(np.int64(3), REGRESSION) == [3]
    for bad in ("2.5", None, True, float("nan"), float("inf"), [1.0]):
        with pytest.raises(DataError, match="finite number"):
            marks(bad, REGRESSION)
    assert labels_of([1.5, 2.5], REGRESSION) == ("value",)
    with pytest.raises(DataError, match="multi_label_classification"):
        marks(["a"], None)


def test_answers_of_several_labels() -> None:
    several = task(MULTI)
    result = several.decode(outputs(2, -1, 0.5), [plain_window()], several.parse_options({"top_k": 2}))
    assert result.labels == ("a", "c")
    assert result.scores == pytest.approx((0.8808, 0.6225), abs=1e-4)
    assert [label for label, _ in result.top] == ["a", "c"]
    assert repr(result) == "MultiLabel('a': 0.8808, 'c': 0.6225)"
    assert result.to_dict()["top"][0] == {"label": "a", "score": pytest.approx(0.8808, abs=1e-4)}
    strict = several.decode(outputs(2, -1, 0.5), [plain_window()], several.parse_options({"threshold": 0.9}))
    assert strict == MultiLabel((), (), strict.top)
    assert (
        len(several.decode(outputs(-9, -9, 900), [plain_window()], several.parse_options({"threshold": 0})).labels) == 3
    )
    assert several.same(result, MultiLabel(("c", "a"), (0.1, 0.2)))
    assert not several.same(result, strict)
    # Windows: the mean of their probabilities, by length.
    two = several.decode(outputs(50, 0, 0) + outputs(-50, 0, 0), [plain_window(3), plain_window(1)],
                         several.parse_options({}))  # fmt: skip
    assert dict(two.top)["a"] == pytest.approx(0.75)
    assert LabelScore("b", 0.5) in two.top


@pytest.mark.parametrize("threshold", [-0.1, 1.5, True, "0.5", float("nan")])
def test_threshold_is_a_probability(threshold: Any) -> None:
    with pytest.raises(ConfigError, match="threshold"):
        task(MULTI).parse_options({"threshold": threshold})


@pytest.mark.parametrize("problem", [None, REGRESSION])
def test_threshold_goes_with_several_labels(problem: str | None) -> None:
    one = task(problem)
    with pytest.raises(ConfigError, match="several labels"):
        one.encode(None, "x", one.parse_options({"threshold": 0.5}))  # type: ignore[arg-type]


def test_answers_that_are_numbers() -> None:
    number = task(REGRESSION, ("value",))
    options = number.parse_options({})
    result = number.decode(outputs(2) + outputs(4), [plain_window(3), plain_window(1)], options)
    assert result == Regression(2.5)
    assert result.to_dict() == {"value": 2.5}
    assert number.same(result, Regression(2.5001))
    assert not number.same(result, Regression(2.6))
    assert (number.metric, number.higher_is_better) == ("rmse", False)


def test_losses_equal_torch() -> None:
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    logits, wanted = torch.randn(4, 3), (torch.rand(4, 3) > 0.5).float()
    several = task(MULTI)
    for weights in (None, np.array([1.0, 2.0, 0.5], dtype=np.float32)):
        options = LossOptions(class_weights=weights)
        expected = functional.binary_cross_entropy_with_logits(
            logits, wanted, pos_weight=None if weights is None else torch.from_numpy(weights)
        )
        ours = several.loss({"logits": logits}, {"label": wanted}, options)
        torch.testing.assert_close(ours / several.weight({"label": wanted.numpy()}, options), expected)
    smooth = several.loss({"logits": logits}, {"label": wanted}, LossOptions(label_smoothing=0.2))
    expected = functional.binary_cross_entropy_with_logits(logits, wanted * 0.8 + 0.1, reduction="sum")
    torch.testing.assert_close(smooth, expected)
    number, values = task(REGRESSION, ("value",)), torch.randn(4)
    ours = number.loss({"logits": logits[:, :1]}, {"label": values}, LossOptions())
    torch.testing.assert_close(ours / number.weight({"label": values.numpy()}, LossOptions()),
                               functional.mse_loss(logits[:, 0], values))  # fmt: skip
    with pytest.raises(ConfigError, match="label_smoothing"):
        number.loss({"logits": logits[:, :1]}, {"label": values}, LossOptions(label_smoothing=0.1))


def test_metrics_of_several_labels_equal_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    true, logits = rng.random((60, 4)) > 0.6, rng.normal(size=(60, 4))
    several = task(MULTI, ("a", "b", "c", "d"))
    scorer = several.scorer()
    for row, answer in zip(true, logits, strict=True):
        scorer.update([{"logits": answer}], [plain_window(label=row.astype(np.float32))])
    report = scorer.compute()
    answered = logits >= 0
    for average in ("micro", "macro", "weighted"):
        for name in ("f1", "precision", "recall"):
            expected = getattr(metrics, f"{name}_score")(true, answered, average=average, zero_division=0)
            assert report.metrics[f"{name}_{average}"] == pytest.approx(expected)
    assert report.metrics["subset_accuracy"] == pytest.approx(metrics.accuracy_score(true, answered))
    assert report.metrics["hamming_loss"] == pytest.approx(metrics.hamming_loss(true, answered))
    assert report.metrics["auroc"] == pytest.approx(metrics.roc_auc_score(true, logits, average="macro"))
    expected = metrics.average_precision_score(true, logits, average="macro")
    assert report.metrics["average_precision"] == pytest.approx(expected)
    assert [score.support for score in report.per_class] == true.sum(0).tolist()
    assert report.rows == 60
    assert "subset_accuracy" in str(report)


def test_metrics_of_numbers_equal_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(1)
    true = np.round(rng.normal(size=50), 1)  # with ties
    answered = np.round(true * 0.7 + rng.normal(size=50), 1)
    scorer = task(REGRESSION, ("value",)).scorer()
    for a, b in zip(true, answered, strict=True):
        scorer.update([{"logits": np.array([b])}], [plain_window(label=a)])
    found = scorer.compute().metrics
    assert found["mse"] == pytest.approx(metrics.mean_squared_error(true, answered))
    assert found["rmse"] == pytest.approx(found["mse"] ** 0.5)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(true, answered))
    assert found["r2"] == pytest.approx(metrics.r2_score(true, answered))
    assert found["pearson"] == pytest.approx(stats.pearsonr(true, answered).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(true, answered).statistic)
    constant = task(REGRESSION, ("value",)).scorer()
    for _ in range(3):
        constant.update([{"logits": np.array([1.0])}], [plain_window(label=2.0)])
    assert constant.compute().metrics == {"mse": 1.0, "rmse": 1.0, "mae": 1.0}
