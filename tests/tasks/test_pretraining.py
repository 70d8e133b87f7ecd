"""Hidden words and following sentences together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import zoo
from tests.tiny import tiny
from zoo.errors import DataError, InputError
from zoo.inference import make_batch
from zoo.results import NextSentence
from zoo.tasks.base import LossOptions
from zoo.training.data.rows import Rows
from zoo.training.documents import Documents, sentences

DOCUMENTS = [
    {"text": "The cat sat. It slept! Then it ate?"},
    {"text": ["The dog ran.", "It barked."]},
    {"text": "猫在睡觉。它醒了。它吃了。"},
]


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return zoo.load(tiny(zoo.info("bert-base-cased")), task="pretraining", weights=None, device="cpu", seed=0)


def rows() -> Rows:
    from zoo.training import data

    return data.read(DOCUMENTS, tasks=("pretraining",), task="pretraining").splits["train"]


def fail(number: int, error: DataError) -> None:
    raise error


def test_sentences_of_any_script() -> None:
    assert sentences("One. Two!\nThree") == ["One.", "Two!", "Three"]
    assert sentences("猫在睡觉。它醒了。") == ["猫在睡觉。", "它醒了。"]
    assert sentences("एक। दो।") == ["एक।", "दो।"]
    assert sentences([" a ", "b"]) == ["a", "b"]
    for bad in ("only one", ["x"], 3, None):
        with pytest.raises(DataError):
            sentences(bad)


def test_pairs_are_a_function_of_seed_epoch_and_item_half_of_them_of_two_documents() -> None:
    documents = Documents(rows(), fail)
    assert documents.rows.tolist() == [0, 0, 1, 2, 2]
    assert documents.pair(3, seed=1, epoch=2) == documents.pair(3, seed=1, epoch=2)
    drawn = [documents.pair(0, seed=0, epoch=epoch) for epoch in range(400)]
    assert 160 < sum(row.target for row in drawn) < 240
    own = sentences(DOCUMENTS[0]["text"])
    for row in drawn:
        assert row.input["text"] == own[0]
        assert (row.input["text_pair"] == own[1]) if row.target else (row.input["text_pair"] not in own)


def test_the_loss_is_upstreams_where_both_have_one_row(model: zoo.Model) -> None:
    import torch

    [example] = model.task.examples(model.encoder, {"text": "The cat sat.", "text_pair": "It slept."}, True)
    batch = make_batch(model.encoder, model.task, [example])
    inputs = {name: torch.from_numpy(array) for name, array in batch.inputs.items()}
    targets = {name: torch.from_numpy(array) for name, array in batch.targets.items()}
    net: Any = model.module.net
    with torch.inference_mode():
        ours = model.task.loss(model.module(**inputs), targets, LossOptions())
        theirs = net(**inputs, labels=targets["labels"], next_sentence_label=targets["next"]).loss
    assert inputs["token_type_ids"].any()
    assert model.task.weight(batch.targets, LossOptions()) == 1
    torch.testing.assert_close(ours, theirs)


def test_pairs_are_answered_and_anything_else_is_refused(model: zoo.Model) -> None:
    found = model.predict({"text": "The cat sat.", "text_pair": "It slept."})
    assert isinstance(found, NextSentence)
    assert found.follows == (found.score >= 0.5)
    for bad in ("one text", {"text": "a"}, 3):
        with pytest.raises(InputError, match="of a pair"):
            model.predict(bad)


def test_learns_and_is_measured_alike_each_time(model: zoo.Model) -> None:
    before = model.evaluate(DOCUMENTS)
    assert before.rows == 5
    assert before.metrics == model.evaluate(DOCUMENTS, batch_size=2).metrics | before.metrics
    # Documents are never guessed: plain texts are for hidden words alone.
    model.finetune(DOCUMENTS, val=DOCUMENTS, epochs=15, batch_size=5, learning_rate=3e-3, progress=False)
    assert model.task.name == "pretraining"
    assert model.evaluate(DOCUMENTS).metrics["loss"] < before.metrics["loss"]
    assert np.isfinite(model.history[-1]["next_sentence_accuracy"])
    with pytest.raises(DataError, match="fewer than two sentences"):
        model.finetune([{"text": "just one"}], val=None, progress=False)
    with pytest.raises(DataError, match="None of the 1 rows"):
        model.finetune([{"text": "just one"}], val=None, progress=False, lint=False, on_error="skip")
