from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import plain_window, spec
from zoo import tasks
from zoo.errors import ConfigError, DataError
from zoo.tasks.base import LossOptions, Task

LABELS = ("cat", "dog", "owl")
KINDS = {"text-classification": "text", "image-classification": "image", "audio-classification": "audio"}


@pytest.fixture(params=KINDS)
def task(request: pytest.FixtureRequest) -> Task:
    return tasks.make(request.param, spec(request.param, KINDS[request.param]), LABELS)


def decode(task: Task, *logits: Any, lengths: tuple[int, ...] = (1,), **options: Any) -> Any:
    windows = [plain_window(length) for length in lengths]
    outputs = [{"logits": np.array(row, dtype=np.float32)} for row in logits]
    return task.decode(outputs, windows, task.parse_options(options))


def test_labels_of() -> None:
    kind = tasks.get("text-classification")
    assert kind.labels_of([True, False, True]) == ("False", "True")
    assert kind.labels_of([2, np.int64(10), 1.0, "2"]) == ("1", "2", "10")
    with pytest.raises(DataError, match="missing"):
        kind.labels_of(["a", None])


def test_attach(task: Task) -> None:
    windows = [plain_window(), plain_window()]
    attached = task.attach(windows, "dog")
    assert [int(window.targets["label"]) for window in attached] == [1, 1]
    batch = task.collate_targets(attached)
    assert batch["label"].dtype == np.int64
    assert batch["label"].shape == (2,)
    with pytest.raises(DataError, match="'cow' is not one of the model's 3: cat, dog, owl"):
        task.attach(windows, "cow")


def test_decode(task: Task) -> None:
    result = decode(task, [0.0, np.log(2.0), np.log(3.0)], top_k=2)
    assert result.label == "owl"
    assert result.score == pytest.approx(0.5)
    assert [item.label for item in result.top] == ["owl", "dog"]
    assert sum(item.score for item in decode(task, [1.0, 2.0, 3.0]).top) == pytest.approx(1.0)


def test_decode_of_large_logits(task: Task) -> None:
    assert decode(task, [1e30, 0.0, -1e30]).score == 1.0


def test_windows_are_averaged_by_length(task: Task) -> None:
    logits = ([np.log(0.7), np.log(0.2), np.log(0.1)], [np.log(0.1), np.log(0.8), np.log(0.1)])
    result = decode(task, *logits, lengths=(30, 10))
    assert result.label == "cat"
    assert [item.score for item in result.top] == pytest.approx([0.55, 0.35, 0.1], abs=1e-6)


def test_scorer(task: Task) -> None:
    scorer = task.scorer()
    answers = [("cat", [5, 0, 0]), ("cat", [0, 5, 0]), ("dog", [0, 5, 0]), ("owl", [0, 0, 5])]
    for label, logits in answers:
        windows = task.attach([plain_window(2), plain_window(1)], label)
        scorer.update([{"logits": np.array(logits, dtype=np.float32)}] * 2, windows)
    report = scorer.compute()
    assert report.task == task.name
    assert report.rows == 4
    assert report.metrics["accuracy"] == 0.75
    assert "top5_accuracy" not in report.metrics
    # cat: precision 1, recall 1/2. dog: 1/2 and 1. owl: 1 and 1.
    assert report.metrics["f1_macro"] == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert report.metrics["f1_micro"] == 0.75
    assert report.confusion is not None
    assert report.confusion.matrix == ((1, 1, 0), (0, 1, 0), (0, 0, 1))
    assert report.confusion.worst() == [("cat", "dog", 1)]
    assert [score.support for score in report.per_class] == [2, 1, 1]


def test_top5_accuracy() -> None:
    labels = tuple("abcdefg")
    task = tasks.make("text-classification", spec("text-classification"), labels)
    scorer = task.scorer()
    for label in ("e", "f"):
        scorer.update([{"logits": -np.arange(7, dtype=np.float32)}], task.attach([plain_window()], label))
    assert scorer.compute().metrics["top5_accuracy"] == 0.5
    assert scorer.compute().metrics["accuracy"] == 0.0


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, np.array([0.2, 1.0, 3.0], dtype=np.float32)])
def test_loss_over_weight_is_torchs_mean(task: Task, smoothing: float, weights: Any) -> None:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 2, 1, 0])
    options = LossOptions(smoothing, weights)
    targets = {"label": labels}
    found = task.loss({"logits": logits}, targets, options) / task.weight({"label": labels.numpy()}, options)
    expected = torch.nn.functional.cross_entropy(
        logits, labels, weight=None if weights is None else torch.from_numpy(weights), label_smoothing=smoothing
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    half = task.loss({"logits": logits.bfloat16()}, targets, options)
    assert half.dtype == torch.float32


def test_feature_extraction() -> None:
    task = tasks.make("feature-extraction", spec("feature-extraction", extra=("text-classification",)))
    windows = [plain_window(3), plain_window(1)]
    outputs = [{"embedding": np.array([4.0, 0.0], np.float32)}, {"embedding": np.array([0.0, 12.0], np.float32)}]
    vector = task.decode(outputs, windows, task.parse_options({}))
    assert vector.dtype == np.float32
    assert vector.tolist() == [3.0, 3.0]
    unit = task.decode(outputs, windows, task.parse_options({"normalize": True}))
    assert np.linalg.norm(unit) == pytest.approx(1.0)
    zero = task.decode([{"embedding": np.zeros(2, np.float32)}], windows[:1], task.parse_options({"normalize": True}))
    assert zero.tolist() == [0.0, 0.0]


def test_feature_extraction_normalizes_as_the_spec_says() -> None:
    given = spec("feature-extraction").evolve(embedding={"normalize": True})
    task = tasks.make("feature-extraction", given)
    outputs = [{"embedding": np.array([3.0, 4.0], np.float32)}]
    assert task.decode(outputs, [plain_window()], task.parse_options({})).tolist() == pytest.approx([0.6, 0.8])
    assert task.decode(outputs, [plain_window()], task.parse_options({"normalize": False})).tolist() == [3.0, 4.0]


def test_feature_extraction_cannot_be_trained() -> None:
    task = tasks.make("feature-extraction", spec("feature-extraction", extra=("text-classification",)))
    for call in (
        lambda: task.attach([], "x"),
        lambda: task.loss({}, {}, LossOptions()),
        lambda: task.weight({}, LossOptions()),
        task.scorer,
    ):
        with pytest.raises(ConfigError, match=r"can't be fine-tuned.*text-classification"):
            call()


def test_targets_are_padded_where_the_inputs_are() -> None:
    given = spec("token-classification", padding_side="left")
    task = tasks.make("token-classification", given, ("O",))
    examples = [replace(plain_window(), targets={"labels": np.arange(n)}) for n in (1, 3)]
    assert task.collate_targets(examples)["labels"].tolist() == [[-100, -100, 0], [0, 1, 2]]
