from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import one_hot, spec, text_windows
from zoo import tasks
from zoo.errors import DataError
from zoo.modalities.base import Example
from zoo.results import Entity
from zoo.tasks.base import IGNORE, LossOptions
from zoo.tasks.token_classification import TokenClassification
from zoo.tasks.words import first_tokens, word_spans

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")


def make(labels: tuple[str, ...] = LABELS, **changes: Any) -> TokenClassification:
    task = tasks.make("token-classification", spec("token-classification", **changes), labels)
    assert isinstance(task, TokenClassification)
    return task


def outputs(task: TokenClassification, windows: Sequence[Example], tags: Sequence[str]) -> list[dict[str, Any]]:
    """Logits that answer with these tags of words; other sub-words say I-PER, which no one may read."""
    ids = np.array([task.index[tag] for tag in tags])
    found = []
    for window, first in zip(windows, first_tokens(windows, word_spans(windows[0].source)), strict=True):
        answer = np.full(window.length, len(task.labels) - 1)
        answer[first.tokens] = ids[first.words]
        found.append({"logits": one_hot(answer.tolist(), len(task.labels))})
    return found


def decode(task: TokenClassification, windows: Sequence[Example], tags: Sequence[str]) -> list[Entity]:
    return task.decode(outputs(task, windows, tags), windows, None)


def test_labels_of() -> None:
    targets = [["O", "I-PER", "B-PER"], ("B-LOC", "I-LOC", "E-LOC"), np.array(["O", "S-LOC"])]
    found = tasks.get("token-classification").labels_of(targets)
    assert found == ("O", "B-LOC", "I-LOC", "E-LOC", "S-LOC", "B-PER", "I-PER")
    assert tasks.get("token-classification").labels_of([["VERB", "NOUN", "O"]]) == ("O", "NOUN", "VERB")


def test_attach_labels_first_sub_words_only() -> None:
    task = make()
    windows = text_windows(["Ann", "saw", "Montgomery"], size=4)
    (window,) = task.attach(windows, ["B-PER", "O", "B-LOC"])
    assert window.targets["labels"].tolist() == [IGNORE, 3, 0, 1, IGNORE, IGNORE, IGNORE]
    assert window.targets["tags"].tolist() == [3, 0, 1]


def test_attach_labels_each_word_in_one_window() -> None:
    task = make()
    words = [f"w{i}" for i in range(10)]
    attached = task.attach(text_windows(words, content=6, step=4), ["O"] * 10)
    assert sum(int((window.targets["labels"] != IGNORE).sum()) for window in attached) == 10
    assert [len(window.targets["tags"]) for window in attached] == [10, 0]
    batch = task.collate_targets(attached)
    assert batch["labels"].shape == (2, 8)
    assert task.weight(batch, LossOptions()) == 10.0


@pytest.mark.parametrize(
    ("raw", "target", "message"),
    [
        (["a", "b"], ["O"], "1 tags and 2 words"),
        ("a b, c", ["O", "O", "O"], "give the list of words"),
        (["a"], ["B-ORG"], "'B-ORG' is not one of the model's 5"),
        (["a"], [None], "missing"),
        (["a"], "O", "not str"),
        (["a"], None, "not NoneType"),
    ],
)
def test_attach_refuses(raw: Any, target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        make().attach(text_windows(raw), target)


def test_decode_given_words() -> None:
    task = make()
    windows = text_windows(["Ann", "Lee", "left", "New", "York"])
    found = decode(task, windows, ["B-PER", "I-PER", "O", "B-LOC", "I-LOC"])
    assert [(entity.label, entity.text, entity.start, entity.end) for entity in found] == [
        ("PER", "Ann Lee", 0, 7),
        ("LOC", "New York", 13, 21),
    ]
    assert found[0].score == pytest.approx(np.exp(9) / (np.exp(9) + 4), abs=1e-9)


def test_score_is_the_mean_of_the_words() -> None:
    task = make()
    windows = text_windows(["Ann", "Lee"])
    logits = np.zeros((4, 5), dtype=np.float32)
    logits[1, 3] = np.log(4.0)  # 4 / 8
    logits[2, 4] = np.log(12.0)  # 12 / 16
    (entity,) = task.decode([{"logits": logits}], windows, None)
    assert entity.score == pytest.approx((0.5 + 0.75) / 2)


@pytest.mark.parametrize(
    ("text", "tags", "expected"),
    [
        ("In the U.S. today", ["O", "O", "B-LOC", "O"], [("LOC", "U.S.", 7, 11)]),
        ("hi @paulwalk!", ["O", "B-PER", "O"], [("PER", "@paulwalk", 3, 12)]),
        ("Miles O'Brien's ship", ["B-PER", "I-PER", "O", "O"], [("PER", "Miles O'Brien", 0, 13)]),
        ("(Berlin, Rome)", ["O", "B-LOC", "O", "B-LOC", "O"], [("LOC", "Berlin", 1, 7), ("LOC", "Rome", 9, 13)]),
    ],
)
def test_decode_raw_text(text: str, tags: list[str], expected: list[tuple[str, str, int, int]]) -> None:
    found = decode(make(), text_windows(text), tags)
    assert [(entity.label, entity.text, entity.start, entity.end) for entity in found] == expected
    assert all(text[entity.start : entity.end] == entity.text for entity in found)


def test_an_entity_across_windows() -> None:
    words = [f"w{i}" for i in range(10)]
    tags = ["O"] * 4 + ["B-LOC", "I-LOC"] + ["O"] * 4
    for windows in (text_windows(words, content=6, step=4), text_windows(words, content=5)):
        assert len(windows) == 2
        (entity,) = decode(make(), windows, tags)
        assert entity.text == "w4 w5"


def test_word_classes_are_entities_of_one_word() -> None:
    task = make(("NOUN", "VERB"))
    found = decode(task, text_windows(["dog", "cat", "run"]), ["NOUN", "NOUN", "VERB"])
    assert [(entity.label, entity.text) for entity in found] == [("NOUN", "dog"), ("NOUN", "cat"), ("VERB", "run")]


def test_empty_text_has_no_entities() -> None:
    assert decode(make(), text_windows(""), []) == []


@pytest.mark.parametrize("side", ["left", "right"])
def test_unbatch_cuts_the_padding(side: str) -> None:
    task = make(padding_side=side)
    windows = [*text_windows(["a"]), *text_windows(["a", "b", "c"])]
    logits = np.arange(2 * 5 * 5, dtype=np.float32).reshape(2, 5, 5)
    short, long = task.unbatch({"logits": logits}, windows)
    assert np.array_equal(short["logits"], logits[0, 2:] if side == "left" else logits[0, :3])
    assert np.array_equal(long["logits"], logits[1])


def test_scorer() -> None:
    task = make()
    scorer = task.scorer()
    rows = [
        (["B-PER", "I-PER", "O", "B-LOC"], ["B-PER", "I-PER", "O", "I-LOC"]),
        (["O", "B-LOC", "I-LOC"], ["O", "B-LOC", "O"]),
    ]
    for true, answered in rows:
        windows = task.attach(text_windows([f"word{i}" for i in range(len(true))]), true)
        scorer.update(outputs(task, windows, answered), windows)
    report = scorer.compute()
    # PER: right. LOC: two true, two found, one right (I-LOC after O begins one).
    assert report.metrics["entity_precision"] == pytest.approx(2 / 3)
    assert report.metrics["entity_recall"] == pytest.approx(2 / 3)
    assert report.metrics["entity_f1"] == pytest.approx(2 / 3)
    assert report.metrics["token_accuracy"] == pytest.approx(5 / 7)
    assert [(score.label, score.f1, score.support) for score in report.entities] == [("LOC", 0.5, 2), ("PER", 1.0, 1)]
    assert report.averages["macro"].f1 == 0.75
    assert report.rows == 2
    assert [score.label for score in report.per_class] == list(LABELS)


def test_words_without_a_token_count_as_outside() -> None:
    task = make()
    scorer = task.scorer()
    windows = task.attach(text_windows(["Ann", "", "Lee"]), ["B-PER", "I-PER", "I-PER"])
    scorer.update(outputs(task, windows, ["B-PER", "O", "I-PER"]), windows)
    report = scorer.compute()
    assert report.metrics["token_accuracy"] == pytest.approx(2 / 3)
    assert report.metrics["entity_f1"] == 0.0


def test_scores_of_many_rows_agree_with_counting_by_hand() -> None:
    """Random valid and invalid tags through encoding, windows and back give the tags themselves."""
    rng = np.random.default_rng(1)
    task = make()
    scorer = task.scorer()
    for _ in range(30):
        tags = rng.choice(LABELS, rng.integers(1, 40)).tolist()
        words = ["".join(rng.choice(list("abc"), rng.integers(1, 9))) for _ in tags]
        windows = task.attach(text_windows(words, content=16, step=12), tags)
        scorer.update(outputs(task, windows, tags), windows)
    metrics = scorer.compute().metrics
    assert metrics["token_accuracy"] == 1.0
    assert metrics["entity_f1"] == 1.0


def test_loss_is_over_labelled_sub_words() -> None:
    torch = pytest.importorskip("torch")
    task = make()
    rows = [["a", "bbbbbb"], ["c"]]
    examples = [task.attach(text_windows(words), ["O", "B-LOC"][: len(words)])[0] for words in rows]
    targets = task.collate_targets(examples)
    torch.manual_seed(0)
    logits = torch.randn(2, targets["labels"].shape[1], 5)
    tensors = {name: torch.from_numpy(array) for name, array in targets.items()}
    for options in (LossOptions(), LossOptions(0.1, np.array([0.5, 2, 1, 1, 1], dtype=np.float32))):
        found = task.loss({"logits": logits}, tensors, options) / task.weight(targets, options)
        picked = torch.stack([logits[0, 1], logits[0, 2], logits[1, 1]])
        expected = torch.nn.functional.cross_entropy(
            picked,
            torch.tensor([0, 1, 0]),
            weight=None if options.class_weights is None else torch.from_numpy(options.class_weights),
            label_smoothing=options.label_smoothing,
        )
        assert found.item() == pytest.approx(expected.item(), rel=1e-6)
