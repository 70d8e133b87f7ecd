"""Summaries and translations: prefixes, languages, lengths, teaching, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sacrebleu
from rouge_score import rouge_scorer

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny
from zoo.errors import ConfigError, DataError, InputError
from zoo.tasks.base import LossOptions
from zoo.tasks.textmetrics import Bleu, Rouge


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return tiny_model("t5-small", "translation")


@pytest.fixture
def several() -> zoo.Model:
    """A model whose languages are tokens, as M2M100's are."""
    spec = zoo.ModelSpec.parse("""
name: tiny-m2m
modality: text
tasks: [translation]
backend: transformers
architecture: m2m_100
config: {vocab_size: 300, d_model: 32, encoder_layers: 1, decoder_layers: 1, encoder_attention_heads: 2,
         decoder_attention_heads: 2, encoder_ffn_dim: 37, decoder_ffn_dim: 37, max_position_embeddings: 64,
         bos_token_id: 0, pad_token_id: 1, eos_token_id: 2, decoder_start_token_id: 2}
input: {kind: text, max_length: 32}
decoder: {max_length: 16, language_tokens: true, languages: {de: __de__, en: __en__, zh: __zh__}, source_language: en}
""")
    return zoo.load(spec, weights=None, device="cpu", seed=0)


def test_a_prefix_names_the_languages(model: zoo.Model) -> None:
    (window,) = model.task.encode(model.encoder, "Hi", model.task.parse_options({"tgt_lang": "fr"}))
    assert model.encoder.decode(window.inputs["input_ids"]) == "translate English to French: Hi"  # type: ignore[attr-defined]


def test_an_unknown_language_is_suggested(model: zoo.Model, several: zoo.Model) -> None:
    with pytest.raises(ConfigError, match=r"tgt_lang is 'ed'.*knows: de, en, fr, ro"):
        model.predict("Hi", tgt_lang="ed")
    with pytest.raises(ConfigError, match="tgt_lang is needed"):
        several.predict("Hi")


def test_language_tokens_stand_first(several: zoo.Model) -> None:
    id_of = several.encoder.tokenizer.token_to_id  # type: ignore[attr-defined]
    options = several.task.parse_options({"src_lang": "zh", "tgt_lang": "de"})
    (window,) = several.task.encode(several.encoder, "你好", options)
    assert window.inputs["input_ids"][0] == id_of("__zh__")
    assert window.inputs["input_ids"][-1] == id_of("</s>")
    made = several.predict(["a", "b c"], src_lang="zh", tgt_lang="de", num_beams=2, max_new_tokens=4)
    assert [one.tokens[0] for one in made] == [id_of("__de__")] * 2


def test_what_is_taught_is_the_target_shifted_by_one(model: zoo.Model) -> None:
    (window,) = model.task.examples(model.encoder, "Hi", "Hallo")
    labels, seen = window.targets["labels"], window.inputs["decoder_input_ids"]
    assert labels[-1] == model.spec.config["eos_token_id"]
    assert seen[0] == model.spec.config["decoder_start_token_id"]
    assert seen[1:].tolist() == labels[:-1].tolist()
    assert model.encoder.decode(labels) == "Hallo"  # type: ignore[attr-defined]


def test_loss_counts_real_tokens_alone_and_is_torch_s(model: zoo.Model) -> None:
    torch = pytest.importorskip("torch")
    rows = [model.task.examples(model.encoder, "Hi", target)[0] for target in ("ab", "abcdef")]
    targets = model.task.collate_targets(rows)
    assert model.task.weight(targets, LossOptions()) == 3 + 7
    logits = torch.randn(2, 7, 300, generator=torch.Generator().manual_seed(0))
    labels = torch.from_numpy(targets["labels"])
    found = model.task.loss({"logits": logits}, {"labels": labels}, LossOptions(0.1))
    real = torch.cat([logits[0, :3], logits[1]]), torch.cat([labels[0, :3], labels[1]])
    expected = torch.nn.functional.cross_entropy(*real, label_smoothing=0.1, reduction="sum")
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_long_text_is_refused_or_cut(model: zoo.Model) -> None:
    with pytest.raises(InputError, match="truncation=True"):
        model.predict("word " * 100, max_new_tokens=2)
    assert len(model.predict("word " * 100, max_new_tokens=2, truncation=True).tokens) <= 2
    (window,) = model.task.examples(model.encoder, "a", "b" * 100)
    assert model.spec.decoder is not None
    assert len(window.targets["labels"]) == model.spec.decoder.max_length
    assert window.targets["labels"][-1] == model.spec.config["eos_token_id"]


@pytest.mark.parametrize("raw", ["", "  ", None, 3, float("nan")])
def test_what_is_no_text_is_refused(model: zoo.Model, raw: Any) -> None:
    with pytest.raises(InputError):
        model.predict([raw])


@pytest.mark.parametrize("target", ["", None, 3, ["a"], "\ud800"])
def test_what_is_no_target_is_refused(model: zoo.Model, target: Any) -> None:
    with pytest.raises(DataError):
        model.task.examples(model.encoder, "Hi", target)


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 0}, {"num_beams": True}, {"num_beams": 2, "do_sample": True}, {"early_stopping": "often"},
     {"min_new_tokens": 9, "max_new_tokens": 3}, {"max_new_tokens": 10_000}, {"length_penalty": "long"},
     {"no_repeat_ngram_size": -1}, {"truncation": 1}, {"beams": 3}],
)  # fmt: skip
def test_options_out_of_range_are_refused(model: zoo.Model, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        model.predict("Hi", **options)


def test_drawing_with_a_seed_does_not_depend_on_the_batch(model: zoo.Model) -> None:
    texts = ["one", "two words", "three short words"]
    options = {"do_sample": True, "seed": 3, "max_new_tokens": 6}
    together = model.predict(texts, batch_size=3, **options)
    assert [one.tokens for one in together] == [model.predict(text, **options).tokens for text in texts]


def test_evaluation_measures_texts_or_the_loss_alone(model: zoo.Model) -> None:
    rows = [{"text": "a b", "translation": "c d"}, {"text": "e", "translation": "f g h"}]
    options = {"max_new_tokens": 4}
    full = model.evaluate(rows, generation=options)
    assert {"bleu", "chrf", "perplexity", "loss", "token_accuracy"} <= set(full.metrics)
    texts = [one.text for one in model.predict(["a b", "e"], num_beams=1, **options)]
    assert full.metrics["bleu"] == pytest.approx(sacrebleu.corpus_bleu(texts, [["c d", "f g h"]]).score)
    loss = model.evaluate(rows, predict_with_generate=False)
    assert "bleu" not in loss.metrics
    assert loss.metrics["loss"] == pytest.approx(full.metrics["loss"])


def test_early_stopping_looks_at_the_perplexity_where_no_text_is_made() -> None:
    fresh = tiny_model("t5-small", "summarization")
    rows = [{"text": f"a {i}", "summary": "b c"} for i in range(6)]
    fresh.finetune(
        rows, val=rows[:2], epochs=2, batch_size=3, early_stop=1, predict_with_generate=False, progress=False
    )
    assert "rougeL" not in fresh.history[-1]
    assert fresh.history[-1]["perplexity"] > 0


def test_a_tiny_model_learns_to_write_backwards(tmp_path: Path) -> None:
    """From random weights: the words of a text in reverse, measured by texts that it writes."""
    words = ("ab", "cd", "ef", "gh")
    rows = [{"text": f"{a} {b}", "translation": f"{b} {a}"} for a in words for b in words]
    spec = tiny(zoo.info("t5-small"))
    # So small a network forgets more by dropout than it learns.
    spec = spec.evolve(config={**spec.config, "d_model": 64, "dropout_rate": 0.0})
    fresh = zoo.load(spec, task="translation", weights=None, device="cpu", seed=0)
    before = fresh.evaluate(rows, generation={"max_new_tokens": 12}).metrics["bleu"]
    fresh.finetune(rows, val=None, epochs=120, batch_size=8, learning_rate=5e-3, progress=False, seed=1)
    assert before < 5
    report = fresh.evaluate(rows, generation={"max_new_tokens": 12, "num_beams": 2})
    assert report.metrics["token_accuracy"] > 0.95
    assert report.metrics["chrf"] > 90
    fresh.save(tmp_path / "saved")
    assert zoo.load(tmp_path / "saved", device="cpu").predict("ab cd", max_new_tokens=12).text == "cd ab"


def test_fine_tuning_and_evaluation_take_languages(several: zoo.Model) -> None:
    rows = [{"text": "a b", "translation": "c d"}, {"text": "e", "translation": "f g h"}]
    with pytest.raises(ConfigError, match="tgt_lang is needed"):
        several.evaluate(rows)
    spoken = {"src_lang": "zh", "tgt_lang": "de"}
    report = several.evaluate(rows, generation={"max_new_tokens": 3, **spoken})
    assert report.rows == 2
    several.finetune(rows, val=rows, max_steps=1, progress=False, **spoken)
    assert several.spec.decoder is not None
    assert (several.spec.decoder.source_language, several.spec.decoder.target_language) == ("zh", "de")
    id_of = several.encoder.tokenizer.token_to_id  # type: ignore[attr-defined]
    (window,) = several.task.examples(several.encoder, "a", "b")
    assert (window.inputs["input_ids"][0], window.targets["labels"][0]) == (id_of("__zh__"), id_of("__de__"))
    assert several.predict("a", max_new_tokens=2).tokens[0] == id_of("__de__")


def test_languages_of_a_model_with_one_pair_are_refused() -> None:
    single = tiny_model("opus-mt-en-de")
    with pytest.raises(ConfigError, match="one pair of languages"):
        single.predict("Hi", tgt_lang="de")
    with pytest.raises(ConfigError, match="are for translation"):
        tiny_model("bart-base").finetune([{"text": "a", "summary": "b"}] * 4, val=None, tgt_lang="de", max_steps=1)


def test_rouge_is_rouge_score_s_and_counts_any_script() -> None:
    pairs = [
        ("The cats were sitting on the mats.", "A cat sat on a mat"),
        ("running quickly home", "he runs home quickly"),
    ]
    ours, theirs = Rouge(), rouge_scorer.RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for reference, text in pairs:
        ours.update(reference, text)
    for name in ("rouge1", "rouge2", "rougeL"):
        expected = sum(theirs.score(*pair)[name].fmeasure for pair in pairs) / len(pairs)
        assert ours.compute()[name] == pytest.approx(expected)
    chinese = Rouge()
    chinese.update("今天天气很好", "今天天气好")
    # Five of five characters are right, of six: F is 10 / 11.
    assert chinese.compute()["rouge1"] == pytest.approx(10 / 11)


def test_bleu_splits_chinese_by_its_own_rules() -> None:
    found = Bleu("zh_CN")
    found.update("今天天气很好, 我们去公园", "今天天气很好, 我们去公园吧")
    expected = sacrebleu.corpus_bleu(
        ["今天天气很好, 我们去公园吧"], [["今天天气很好, 我们去公园"]], tokenize="zh"
    ).score
    assert found.compute()["bleu"] == pytest.approx(expected)
    assert expected > 50
