"""Zero-shot classification: upstream's pipeline as the reference, the labels of inference, options, long texts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

import zoo
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError, InputError
from zoo.results import Classification, MultiLabel
from zoo.tasks.zero_shot import ZeroShotOptions, inference_labels

NLI = ["contradiction", "neutral", "entailment"]
LABELS = ["sport", "politics", "a long journey"]
TEXTS = ["the match ended in a draw", "parliament met", "x"]


def model(labels: list[str] | None = None, name: str = "bert-base-cased", seed: int = 0) -> zoo.Model:
    found = zoo.load(
        tiny(zoo.info(name)),
        task="zero-shot-classification",
        labels=labels or NLI,
        weights=None,
        device="cpu",
        seed=seed,
    )
    import torch

    with torch.no_grad():
        for parameter in found.module.net.parameters():  # type: ignore[union-attr]
            parameter.mul_(4)  # sharper than at first, so that labels differ
    return found


@pytest.fixture(scope="module")
def inferring() -> zoo.Model:
    return model()


@pytest.mark.parametrize("labels", [NLI, ["entailment", "neutral", "contradiction"], ["entailment", "not_entailment"]])
@pytest.mark.parametrize("multi", [False, True])
def test_equals_the_pipeline_of_upstream(labels: list[str], multi: bool) -> None:
    import transformers

    ours = model(labels)
    tokenizer = Tokenizer.from_str(ours.encoder.tokenizer.to_str())  # type: ignore[attr-defined]
    theirs = transformers.pipeline(
        "zero-shot-classification",
        model=ours.module.net,
        tokenizer=transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer,
            pad_token="[PAD]",
            model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        ),
        device="cpu",
    )
    template = "It is about {}!"
    for text in TEXTS:
        expected = theirs(text, candidate_labels=LABELS, hypothesis_template=template, multi_label=multi)
        result = ours.predict(text, candidate_labels=LABELS, hypothesis_template=template, multi_label=multi)
        assert [item.label for item in result.top] == expected["labels"]
        np.testing.assert_allclose([item.score for item in result.top], expected["scores"], rtol=1e-4)
    # One label alone is judged against its contradiction.
    expected = theirs(TEXTS[0], candidate_labels=["sport"], multi_label=False)
    alone = ours.predict(TEXTS[0], candidate_labels="sport")
    assert (alone.label, alone.score) == ("sport", pytest.approx(expected["scores"][0], rel=1e-4))


def test_results_are_those_of_a_classification(inferring: zoo.Model) -> None:
    one = inferring.predict(TEXTS[0], candidate_labels=LABELS, top_k=2)
    assert isinstance(one, Classification)
    assert (one.label, one.score) == one.top[0]
    assert len(one.top) == 2
    several = inferring.predict(TEXTS, candidate_labels=LABELS, multi_label=True, threshold=0.0)
    assert all(isinstance(result, MultiLabel) and set(result.labels) == set(LABELS) for result in several)
    assert inferring.predict(TEXTS[0], candidate_labels=LABELS, multi_label=True, threshold=1.0).labels == ()
    assert inferring.predict({"text": TEXTS[0]}, candidate_labels=LABELS, top_k=2) == one
    assert inferring.predict(TEXTS[0], candidate_labels=" sport,politics, a long journey", top_k=2) == one


def test_a_long_text_is_gone_through_in_windows(inferring: zoo.Model) -> None:
    text = "the match ended in a draw " * 12
    result = inferring.predict(text, candidate_labels=LABELS)
    options = ZeroShotOptions(candidate_labels=tuple(LABELS))
    windows = inferring.task.encode(inferring.encoder, text, options)
    assert len(windows) >= 9
    assert [window.window for window in windows] == list(range(len(windows)))
    assert sum(item.score for item in result.top) == pytest.approx(1)
    with pytest.raises(InputError, match="The second text has"):
        inferring.predict("x", candidate_labels=["sport " * 40])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["CONTRADICTION", "NEUTRAL", "ENTAILMENT"], (2, 0)),
        (["entailment", "neutral", "contradiction"], (0, 2)),
        (["contradiction", "entailment", "neutral"], (1, 0)),
        (["entailment", "not_entailment"], (0, 1)),
        (["other", "entailment"], (1, 0)),
    ],
)
def test_the_labels_of_inference(labels: list[str], expected: tuple[int, int]) -> None:
    assert inference_labels(labels) == expected


@pytest.mark.parametrize("labels", [["no", "yes"], ["LABEL_0", "LABEL_1", "LABEL_2"], ["entailment", "x", "y"]])
def test_another_model_is_refused(labels: list[str]) -> None:
    with pytest.raises(ConfigError, match="needs a model of natural language inference"):
        model(labels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, r"candidate_labels is \(\); give the labels"),
        ({"candidate_labels": 5}, "candidate_labels is 5"),
        ({"candidate_labels": ["a", ""]}, "give the labels"),
        ({"candidate_labels": ["a", "a "]}, "'a' twice"),
        ({"candidate_labels": ["a"], "hypothesis_template": "about"}, "in the label's place"),
        ({"candidate_labels": ["a"], "threshold": 0.3}, "multi_label=True"),
        ({"candidate_labels": ["a"], "multi_label": True, "threshold": 2}, "from 0 to 1"),
        ({"candidate_labels": ["a"], "multi_label": 1}, "True or False"),
        ({"candidate_labels": ["a"], "top_k": 0}, "positive whole number"),
        ({"candidate_label": ["a"]}, "Did you mean 'candidate_labels'"),
    ],
)
def test_options_are_checked(inferring: zoo.Model, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        inferring.predict("x", **options)


def test_a_pair_is_no_input(inferring: zoo.Model) -> None:
    with pytest.raises(InputError, match=r"'text', 'text_pair'.*task='text-classification'"):
        inferring.predict({"text": "a", "text_pair": "b"}, candidate_labels=["x"])


def test_learns_from_pairs_and_answers_from_a_bundle(tmp_path: Path) -> None:
    pairs = [(f"a {word} was here {i}", f"there was a {other}", "entailment" if word == other else "contradiction")
             for i in range(4) for word in ("cat", "dog") for other in ("cat", "dog")]  # fmt: skip
    rows = [{"text": a, "text_pair": b, "label": label} for a, b, label in pairs]
    found = zoo.load(tiny(zoo.info("roberta-base")), task="text-classification", labels=NLI, weights=None, device="cpu")
    options = {"val": None, "max_steps": 1, "progress": False}
    with pytest.raises(DataError, match=r"takes \(text, text_pair, label\)"):
        found.finetune([("a", "entailment"), ("b", "neutral")], task="zero-shot-classification", **options)
    found.finetune(rows, task="zero-shot-classification", output_dir=tmp_path / "run", **options)
    assert (found.task.name, list(found.labels)) == ("zero-shot-classification", NLI)
    assert found.evaluate(rows).metrics.keys() >= {"accuracy", "f1_macro"}
    found.save(tmp_path / "saved")
    again = zoo.load(tmp_path / "saved", device="cpu")
    asked = {"candidate_labels": LABELS, "multi_label": True}
    assert again.predict(TEXTS, **asked) == found.predict(TEXTS, **asked)
    bundle = found.export(tmp_path / "a.bundle")
    for ours, theirs in zip(bundle.predict(TEXTS, **asked), found.predict(TEXTS, **asked), strict=True):
        assert found.task.same(ours, theirs)
        np.testing.assert_allclose([item.score for item in ours.top], [item.score for item in theirs.top], atol=1e-4)
    # The same network answers pairs.
    pair = zoo.load(tmp_path / "saved", task="text-classification", device="cpu")
    assert pair.predict({"text": "a", "text_pair": "b"}).label in NLI
    # Pairs are for text-classification where nothing else is said.
    other = zoo.load(tiny(zoo.info("roberta-base")), weights=None, device="cpu", seed=0)
    other.finetune(rows, output_dir=tmp_path / "other", **options)
    assert other.task.name == "text-classification"
