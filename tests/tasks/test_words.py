from __future__ import annotations

import time

import numpy as np
import pytest

from tests.tasks.sources import text_windows
from zoo.tasks.words import first_tokens, text_words, word_spans


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I live in Berlin.", ["I", "live", "in", "Berlin", "."]),
        ("The U.S. troops", ["The", "U.S.", "troops"]),
        ("@paulwalk met O'Brien", ["@paulwalk", "met", "O'Brien"]),
        ('("Paris", he said)', ["(", '"', "Paris", '"', ",", "he", "said", ")"]),
        ("Obama's car", ["Obama", "'s", "car"]),
        ("St. Louis, Apple Inc. and J. Smith", ["St.", "Louis", ",", "Apple", "Inc.", "and", "J.", "Smith"]),
        ("wait... what! :-)", ["wait", "...", "what", "!", ":-)"]),
        ("$5,000.00 at http://x.com/a?b=1", ["$5,000.00", "at", "http://x.com/a?b=1"]),
        ("我在OpenAI工作。", ["我", "在", "OpenAI", "工", "作", "。"]),
        ("  two\n\nlines ", ["two", "lines"]),
        ("", []),
        (" \t", []),
    ],
)
def test_words_of_a_raw_text(text: str, words: list[str]) -> None:
    spans = text_words(text)
    assert spans.shape == (len(words), 2)
    assert [text[start:end] for start, end in spans] == words


def test_every_character_but_white_space_is_in_one_word() -> None:
    rng = np.random.default_rng(0)
    alphabet = list("ab.,'\"()[]!? \n’s中文:-@#")  # noqa: RUF001
    for _ in range(300):
        text = "".join(rng.choice(alphabet, rng.integers(0, 30)))
        covered = [place for start, end in text_words(text) for place in range(start, end)]
        assert covered == [place for place, character in enumerate(text) if not character.isspace()]


def test_a_long_text_is_quick() -> None:
    text = "Hello there, Mr. O'Brien. " * 4000
    started = time.perf_counter()
    assert len(text_words(text)) == 24_000
    assert time.perf_counter() - started < 5


def test_given_words_are_read_at_their_first_sub_word() -> None:
    words = ["I", "saw", "Montgomery", "in", "U.S."]
    (window,) = text_windows(words, size=4)
    spans = word_spans(window.source)
    (first,) = first_tokens([window], spans)
    assert first.words.tolist() == [0, 1, 2, 3, 4]
    shown = [window.source.text[slice(*window.source.offsets[token])] for token in first.tokens]
    assert shown == ["I", "saw", "Mont", "in", "U"]


def test_raw_words_are_read_like_given_ones() -> None:
    words = ["@paulwalk", "met", "O'Brien", "in", "U.S.", "troops"]
    (given,) = text_windows(words)
    (raw,) = text_windows(" ".join(words))
    assert np.array_equal(word_spans(given.source), word_spans(raw.source))
    spans = word_spans(given.source)
    assert first_tokens([given], spans)[0].tokens.tolist() == first_tokens([raw], spans)[0].tokens.tolist()


def test_every_word_is_read_once_where_it_stands_farthest_from_a_cut() -> None:
    words = [f"w{i}" for i in range(10)]
    windows = text_windows(words, content=6, step=4)
    assert [window.source.first for window in windows] == [0, 4]
    first, second = first_tokens(windows, word_spans(windows[0].source))
    # Words 4 and 5 are in both; 4 is one token from the end of the first and at the edge of the second, 5 the reverse.
    assert first.words.tolist() == [0, 1, 2, 3, 4]
    assert second.words.tolist() == [5, 6, 7, 8, 9]
    assert second.tokens.tolist() == [2, 3, 4, 5, 6]


def test_a_word_cut_by_a_window_is_read_at_its_beginning() -> None:
    windows = text_windows(["aaabbbccc", "ddd"], size=3, content=2)
    first, second = first_tokens(windows, word_spans(windows[0].source))
    assert (first.words.tolist(), first.tokens.tolist()) == ([0], [1])
    # Token 1 of the second window is the end of word 0.
    assert (second.words.tolist(), second.tokens.tolist()) == ([1], [2])


def test_a_word_without_a_token() -> None:
    windows = text_windows(["a", "", "b"])
    spans = word_spans(windows[0].source)
    assert len(spans) == 3
    assert first_tokens(windows, spans)[0].words.tolist() == [0, 2]


def test_empty_text() -> None:
    windows = text_windows("")
    (first,) = first_tokens(windows, word_spans(windows[0].source))
    assert first.words.tolist() == []
    assert first.tokens.tolist() == []
