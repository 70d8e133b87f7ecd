from __future__ import annotations

import numpy as np
import pytest

from zoo.tasks.metrics import EditCounter, EntityCounter, LabelCounter
from zoo.tasks.tags import spans

AVERAGES = ("micro", "macro", "weighted")


def test_labels_agree_with_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    # Label 6 is answered and never true, label 7 is true and never answered, label 8 is neither.
    true = rng.choice([0, 1, 2, 3, 4, 5, 7], 400)
    answered = np.where(rng.random(400) < 0.6, np.where(true == 7, 6, true), rng.integers(0, 7, 400))
    counter = LabelCounter([f"l{i}" for i in range(9)])
    for start in range(0, 400, 37):
        counter.update(true[start : start + 37], answered[start : start + 37])

    assert counter.accuracy == pytest.approx(metrics.accuracy_score(true, answered))
    for name in AVERAGES:
        expected = metrics.precision_recall_fscore_support(true, answered, average=name, zero_division=0)
        found = counter.averages()[name]
        assert (found.precision, found.recall, found.f1) == pytest.approx(expected[:3])
    p, r, f, s = metrics.precision_recall_fscore_support(true, answered, labels=range(9), zero_division=0)
    assert [(c.precision, c.recall, c.f1, c.support) for c in counter.scores()] == [
        pytest.approx(row) for row in zip(p, r, f, s, strict=True)
    ]
    confusion = counter.confusion()
    assert confusion is not None
    assert np.array_equal(confusion.matrix, metrics.confusion_matrix(true, answered, labels=range(9)))


def test_an_answer_that_is_no_label_is_wrong_and_nothing_else() -> None:
    counter = LabelCounter(["a", "b"])
    counter.update(np.array([0, 1]), np.array([-1, 1]))
    assert counter.accuracy == 0.5
    assert [(score.precision, score.recall) for score in counter.scores()] == [(0.0, 0.0), (1.0, 1.0)]


def test_a_large_label_set_has_no_matrix() -> None:
    counter = LabelCounter([str(i) for i in range(1001)])
    counter.update(np.array([1000]), np.array([1000]))
    assert counter.confusion() is None
    assert counter.accuracy == 1.0
    assert counter.averages()["macro"].f1 == 1.0


def test_nothing_counted() -> None:
    assert LabelCounter(["a"]).accuracy == 0.0
    assert LabelCounter(["a"]).averages()["macro"].f1 == 0.0
    assert EntityCounter().averages()["micro"].f1 == 0.0


def test_entities_as_seqeval_counts_them() -> None:
    """The example of seqeval's README and one with an invalid sequence, worked out by hand."""
    true = [
        ["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"],
        ["B-PER", "I-PER", "O"],
        ["B-LOC", "O", "I-PER"],
    ]
    answered = [
        ["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"],
        ["B-PER", "I-PER", "O"],
        ["I-LOC", "O", "O"],
    ]
    counter = EntityCounter()
    for expected, got in zip(true, answered, strict=True):
        counter.update(spans(expected, "BIO"), spans(got, "BIO"))
    # MISC: one true, one found, none right. PER: two true, one found, one right. LOC: one, one, one (I-LOC begins).
    loc, misc, per = counter.scores()
    assert (loc.label, loc.precision, loc.recall, loc.f1, loc.support) == ("LOC", 1.0, 1.0, 1.0, 1)
    assert (misc.label, misc.precision, misc.recall, misc.f1, misc.support) == ("MISC", 0.0, 0.0, 0.0, 1)
    assert (per.label, per.precision, per.recall, per.support) == ("PER", 1.0, 0.5, 2)
    assert per.f1 == pytest.approx(2 / 3)
    averages = counter.averages()
    assert (averages["micro"].precision, averages["micro"].recall) == (pytest.approx(2 / 3), 0.5)
    assert averages["micro"].f1 == pytest.approx(4 / 7)
    assert averages["macro"].f1 == pytest.approx((1 + 0 + 2 / 3) / 3)
    assert averages["weighted"].f1 == pytest.approx((1 + 0 + 2 * 2 / 3) / 4)
    assert averages["micro"].support == 4


def test_error_rates_are_of_all_rows_together() -> None:
    pytest.importorskip("jiwer")
    counter = EditCounter()
    counter.update("the cat sat", "the cat sat")
    counter.update("on mat", "on the mats")
    # Words: one inserted, one substituted, of five. Characters: "the " inserted, "s" inserted, of 11 + 6.
    rates = counter.rates()
    assert rates["wer"] == pytest.approx(2 / 5)
    assert rates["cer"] == pytest.approx(5 / 17)


def test_error_rates_agree_with_jiwer() -> None:
    jiwer = pytest.importorskip("jiwer")
    references = ["a b c d", "hello world", "one"]
    answers = ["a x c", "", "one two"]
    counter = EditCounter()
    for pair in zip(references, answers, strict=True):
        counter.update(*pair)
    assert counter.rates() == {
        "wer": pytest.approx(jiwer.wer(references, answers)),
        "cer": pytest.approx(jiwer.cer(references, answers)),
    }
