"""Words for masks, and how words are hidden in training and in evaluation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.tiny import tiny
from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Example
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.results import FilledMask
from zoo.spec import TextInput
from zoo.tasks.base import IGNORE
from zoo.tasks.fill_mask import FillMask
from zoo.tasks.masking import Maskable, fixed, maskable, masked, original, vocabulary_of
from zoo.training.config import TrainConfig
from zoo.training.masking import Masking

TEXT = "the quick brown fox jumps over the lazy dog and drinks tea in Zürich"


def make_model(name: str = "bert-base-cased", **options: Any) -> zoo.Model:
    return zoo.load(tiny(zoo.info(name)), task="fill-mask", weights=None, device="cpu", seed=0, **options)


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return make_model()


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder(TextInput(max_length=64), byte_tokenizer(style="bert"))


def window(encoder: TextEncoder, text: str = TEXT) -> Example:
    return maskable(encoder.encode(text)[0], vocabulary_of(encoder))


def test_one_list_a_mask_best_first_with_the_sequence(model: zoo.Model) -> None:
    found = model.predict("the [MASK] and the [MASK].", top_k=3)
    assert [len(words) for words in found] == [3, 3]
    first = found[0][0]
    assert isinstance(first, FilledMask)
    assert first.sequence == f"the {first.text} and the [MASK]."
    assert found[1][0].sequence == f"the [MASK] and the {found[1][0].text}."
    assert first.score >= found[0][1].score >= found[0][2].score > 0
    assert first.to_dict() == {
        "text": first.text, "score": first.score, "token": first.token, "sequence": first.sequence
    }  # fmt: skip


def test_scores_are_upstreams_probabilities(model: zoo.Model) -> None:
    import torch

    encoder: Any = model.encoder
    ids = encoder.encode("the [MASK] and")[0].inputs["input_ids"]
    with torch.inference_mode():
        logits = model.module.net(input_ids=torch.from_numpy(ids)[None]).logits[0]
    expected = logits[int(np.flatnonzero(ids == encoder.mask_id)[0])].softmax(-1)
    for word in model.predict("the [MASK] and", top_k=4)[0]:
        assert word.score == pytest.approx(float(expected[word.token]), rel=1e-4)


def test_the_models_own_mask_and_the_common_one_are_the_same(model: zoo.Model) -> None:
    texts = ["the [MASK] end", "the <mask> end", b"the [MASK] end", ["the", "[MASK]", "end"]]
    answers = [[word.token for word in words] for [words] in model.predict(texts)]
    assert answers[1:] == answers[:1] * 3


def test_what_can_not_be_filled_is_refused(model: zoo.Model) -> None:
    with pytest.raises(InputError, match=r"has no mask\. Write \[MASK\]"):
        model.predict("no word is hidden here")
    with pytest.raises(InputError, match="longer than the model can see"):
        model.predict("[MASK] " + "word " * 200)
    with pytest.raises(InputError, match="A text was expected"):
        model.predict(7)
    with pytest.raises(ConfigError, match="top_k"):
        model.predict("[MASK]", top_k=0)
    nothing = zoo.load(
        tiny(zoo.info("bert-base-cased")), task="fill-mask", weights=None, tokenizer=byte_tokenizer(style="gpt")
    )
    with pytest.raises(InputError, match="no mask token"):
        nothing.predict("a [MASK]")


def test_a_continued_word_is_joined(model: zoo.Model) -> None:
    from zoo.tasks.fill_mask import _filled

    assert _filled("play [MASK] now", (5, 11), "##ing") == "playing now"
    assert _filled("我[MASK]你", (1, 7), "爱") == "我爱你"


def test_masking_hides_the_share_that_was_asked_for(encoder: TextEncoder) -> None:
    start = window(encoder)
    ids = original(start)
    counts = {"mask": 0, "same": 0, "other": 0}
    for seed in range(1000):
        found = masked(start, np.random.default_rng(seed))
        hidden = found.targets["labels"] != IGNORE
        assert hidden.sum() == round(0.15 * (len(ids) - 2))
        assert not hidden[0]
        assert not hidden[-1]
        np.testing.assert_array_equal(found.targets["labels"][hidden], ids[hidden])
        np.testing.assert_array_equal(found.inputs["input_ids"][~hidden], ids[~hidden])
        np.testing.assert_array_equal(original(found), ids)
        shown = found.inputs["input_ids"][hidden]
        counts["mask"] += int((shown == encoder.mask_id).sum())
        counts["same"] += int((shown == ids[hidden]).sum())
        counts["other"] += int(((shown != encoder.mask_id) & (shown != ids[hidden])).sum())
        assert not np.isin(shown[shown != encoder.mask_id], encoder.special_ids).any()
    total = sum(counts.values())
    assert counts["mask"] / total == pytest.approx(0.8, abs=0.03)
    assert counts["other"] / total == pytest.approx(0.1, abs=0.03)
    assert counts["same"] / total == pytest.approx(0.1, abs=0.03)


def test_whole_words_are_hidden_or_not_at_all(encoder: TextEncoder) -> None:
    start = window(encoder)
    assert isinstance(start.source, Maskable)
    words = start.source.words
    for seed in range(50):
        found = masked(start, np.random.default_rng(seed), probability=0.3, whole_words=True)
        hidden = found.targets["labels"] != IGNORE
        assert hidden.any()
        for word in set(words[hidden].tolist()):
            assert hidden[words == word].all()
            assert word >= 0


def test_a_chinese_word_is_a_character_unless_the_words_are_given(encoder: TextEncoder) -> None:
    """The built-in tokenizer cuts at white space alone, as SentencePiece does: a Chinese sentence would be one word."""

    def words(raw: Any) -> list[int]:
        [start] = [maskable(window, vocabulary_of(encoder)) for window in encoder.encode(raw)]
        assert isinstance(start.source, Maskable)
        shown = start.source.words[start.source.words >= 0]
        return np.unique(shown, return_counts=True)[1].tolist()

    assert words("使用语言") == [3, 3, 3, 3]
    assert words("BERT用语 is") == [4, 3, 3, 2]
    assert words(["使用", "语言", "ok"]) == [6, 6, 2]
    assert words({"text": "我你", "text_pair": "abc 好ok"}) == [3, 3, 3, 3, 2]
    packed = [maskable(w, vocabulary_of(encoder)) for w in encoder.pack(enumerate(["我们", "abc"]), fail)]
    assert packed[0].source.words.tolist()[1:-1] == [0, 0, 0, 1, 1, 1, -1, 2, 2, 2, -1]


def fail(number: int, error: Exception) -> None:
    raise error


def test_training_hides_other_words_each_epoch_and_the_same_ones_again(encoder: TextEncoder) -> None:
    vary = Masking(TrainConfig(seed=3))
    start = window(encoder)
    labels = [vary(start, epoch, 5).targets["labels"] for epoch in range(4)]
    assert len({row.tobytes() for row in labels}) == 4
    np.testing.assert_array_equal(labels[2], vary(vary(start, 0, 5), 2, 5).targets["labels"])
    assert (vary(start, 2, 6).targets["labels"] != labels[2]).any()


def test_evaluation_hides_the_same_words_whatever_is_beside_them(encoder: TextEncoder) -> None:
    start = window(encoder)
    np.testing.assert_array_equal(fixed(start).random(3), fixed(masked(start, fixed(start))).random(3))


def test_metrics_are_those_of_the_hidden_words(model: zoo.Model) -> None:
    import torch

    rows = [{"text": TEXT}, {"text": "a short one"}, {"text": "中文 ábç"}]
    report = model.evaluate(rows, batch_size=3)
    assert report.metrics == pytest.approx(model.evaluate(rows[::-1], batch_size=1).metrics, rel=1e-5)
    task = model.task
    assert isinstance(task, FillMask)
    nats, right, total = 0.0, 0, 0
    for row in rows:
        for example in task.examples(model.encoder, row["text"], None):
            with torch.inference_mode():
                logits = model.module.net(input_ids=torch.from_numpy(example.inputs["input_ids"])[None]).logits[0]
            labels = torch.from_numpy(example.targets["labels"])
            hidden = labels != IGNORE
            nats += float(torch.nn.functional.cross_entropy(logits[hidden], labels[hidden], reduction="sum"))
            right += int((logits[hidden].argmax(-1) == labels[hidden]).sum())
            total += int(hidden.sum())
    assert report.metrics["loss"] == pytest.approx(nats / total, rel=1e-4)
    assert report.metrics["perplexity"] == pytest.approx(math.exp(nats / total), rel=1e-3)
    assert report.metrics["masked_accuracy"] == pytest.approx(right / total)


def test_a_model_learns_the_words_of_a_domain(tmp_path: Path) -> None:
    rows = [{"text": "red green blue"}, {"text": "green blue red"}] * 8
    model = make_model()
    before = model.evaluate(rows).metrics["loss"]
    model.finetune(
        rows, val=rows, epochs=12, batch_size=8, learning_rate=1e-2, progress=False, whole_word_masking=False
    )
    assert model.history[-1]["val_loss"] < before / 2
    assert model.evaluate(rows).metrics["loss"] < before / 2
    model.save(tmp_path / "saved")
    texts = ["red [MASK] blue", "[MASK]"]
    assert zoo.load(tmp_path / "saved", device="cpu").predict(texts) == model.predict(texts)
