"""Token classification over the encoder itself: real tokenizers built here, real sentences where they are at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.tasks.sources import one_hot, spec
from zoo import tasks
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.spec import TextInput
from zoo.tasks.token_classification import TokenClassification
from zoo.tasks.words import first_tokens, word_spans

LABELS = ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
WORDS = ["@paulwalk", "met", "Miles", "O'Brien", "\U0001f600", "in", "the", "U.S.", "and", "Zürich"]
TAGS = ["B-PER", "O", "B-PER", "I-PER", "O", "O", "O", "B-LOC", "O", "B-LOC"]


def wordpiece() -> Tokenizer:
    letters = sorted({character for word in WORDS for character in word.lower()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *letters, *(f"##{letter}" for letter in letters)]
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return tokenizer


def sentencepiece() -> Tokenizer:
    """A lone mark of a word's beginning before every word: the first sub-word shows no character."""
    letters = sorted({character for word in WORDS for character in word})
    pieces = [("<unk>", 0.0), ("\u2581", -1.0), *((letter, -2.0) for letter in letters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return tokenizer


TOKENIZERS = {
    "bytes, as BERT": lambda: byte_tokenizer(style="bert"),
    "bytes, as GPT": lambda: byte_tokenizer(style="gpt"),
    "wordpiece": wordpiece,
    "sentencepiece": sentencepiece,
}


@pytest.fixture(params=TOKENIZERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    return TOKENIZERS[request.param]()


def make() -> TokenClassification:
    task = tasks.make("token-classification", spec("token-classification"), LABELS)
    assert isinstance(task, TokenClassification)
    return task


@pytest.mark.parametrize("max_length", [512, 24])
def test_a_raw_text_is_answered_like_its_words(tokenizer: Tokenizer, max_length: int) -> None:
    """A model that has learnt the tags of words gives the same entities for the text they make."""
    task = make()
    encoder = TextEncoder(TextInput(max_length=max_length), tokenizer)
    given = task.encode(encoder, WORDS)
    raw = task.encode(encoder, " ".join(WORDS))
    assert (len(given) > 1) is (max_length == 24)
    # What the model answers at each token, taken from where training put its labels.
    outputs = []
    for window in task.attach(given, TAGS):
        outputs.append({"logits": one_hot(np.maximum(window.targets["labels"], 0).tolist(), len(LABELS))})
    expected = [("PER", "@paulwalk"), ("PER", "Miles O'Brien"), ("LOC", "U.S."), ("LOC", "Zürich")]
    for windows in (given, raw):
        found = task.decode(outputs, windows, None)
        assert [(entity.label, entity.text) for entity in found] == expected
        text = windows[0].source.text
        assert all(text[entity.start : entity.end] == entity.text for entity in found)


def test_every_word_is_read_once(tokenizer: Tokenizer) -> None:
    task = make()
    encoder = TextEncoder(TextInput(max_length=20), tokenizer)
    windows = task.encode(encoder, WORDS * 5)
    found = [first.words for first in first_tokens(windows, word_spans(windows[0].source))]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(WORDS) * 5))


def test_punctuation_of_a_sentence_is_not_in_its_entities(tokenizer: Tokenizer) -> None:
    task = make()
    text = "(Zürich, U.S.)"
    windows = task.encode(TextEncoder(TextInput(max_length=64), tokenizer), text)
    spans = word_spans(windows[0].source)
    assert [text[start:end] for start, end in spans] == ["(", "Zürich", ",", "U.S.", ")"]
    (first,) = first_tokens(windows, spans)
    assert first.words.tolist() == [0, 1, 2, 3, 4]


def sentences(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    rows = [line.split("\t")[:2] for line in path.read_text(encoding="utf-8").splitlines()]
    words: list[str] = []
    tags: list[str] = []
    for row in [*rows, [""]]:
        if len(row) == 2:
            words.append(row[0])
            tags.append(row[1])
        elif words:
            yield words, tags
            words, tags = [], []


def test_real_sentences_keep_their_entities(shared_data: Path) -> None:
    rows = list(sentences(shared_data / "wnut17" / "emerging.dev.conll"))
    labels = TokenClassification.labels_of(tags for _, tags in rows)
    task = tasks.make("token-classification", spec("token-classification"), labels)
    encoder = TextEncoder(TextInput(max_length=128), byte_tokenizer(style="bert"))
    scorer, raw_right, entities = task.scorer(), 0, 0
    for words, tags in rows:
        windows = task.examples(encoder, words, tags)
        outputs = [
            {"logits": one_hot(np.maximum(window.targets["labels"], 0).tolist(), len(labels))} for window in windows
        ]
        scorer.update(outputs, windows)
        expected = {(e.label, e.start, e.end) for e in task.decode(outputs, windows, None)}
        raw = task.encode(encoder, " ".join(words))
        found = {(e.label, e.start, e.end) for e in task.decode(outputs, raw, None)}
        raw_right += len(found & expected)
        entities += len(expected)
    report = scorer.compute()
    assert report.rows == len(rows)
    assert report.metrics["entity_f1"] == 1.0
    assert report.metrics["token_accuracy"] == 1.0
    # The few that differ have punctuation at an end of the annotated word.
    assert raw_right / entities > 0.98
