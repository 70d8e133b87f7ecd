"""Extractive question answering: spans, windows, "no answer", and SQuAD's measures."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from tests.conformance.conftest import tiny_model
from tests.tasks.sources import spec
from zoo import tasks
from zoo.errors import ConfigError, DataError, InputError
from zoo.modalities.base import Example
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.text import TextEncoder
from zoo.tasks.answers import AnswerCounter, Thresholds, exact_match, f1, normalized, spans_of
from zoo.tasks.base import LossOptions
from zoo.tasks.question_answering import AnswerOptions, QuestionAnswering
from zoo.training.data import read

CONTEXT = "Ada Lovelace wrote it in 1843. Ada was 27."
RAW = {"question": "who?", "context": CONTEXT}


def setup(max_length: int = 96) -> tuple[QuestionAnswering, TextEncoder]:
    task = tasks.make("question-answering", spec("question-answering", max_length=max_length))
    assert isinstance(task, QuestionAnswering)
    return task, TextEncoder(task.spec.input, byte_tokenizer(style="bert"))  # type: ignore[arg-type]


def logits(window: Example, start: int, end: int, scale: float = 20.0) -> dict[str, Any]:
    """Sure of the characters [start, end) of the context; of "none" for (0, 0)."""
    own = (window.source.segments == 1) & (window.source.offsets[:, 1] > window.source.offsets[:, 0])
    first, last = 0, 0
    if end:
        inside = np.flatnonzero(own & (window.source.offsets[:, 0] >= start) & (window.source.offsets[:, 1] <= end))
        first, last = inside[0], inside[-1]
    found = {name: np.zeros(window.length, dtype=np.float32) for name in ("start_logits", "end_logits")}
    found["start_logits"][first] = found["end_logits"][last] = scale
    return found


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ({"text": ["Ada Lovelace", "1843"], "answer_start": [0, 25]}, ["Ada Lovelace", "1843"]),
        ({"text": np.array(["Ada"], dtype=object), "answer_start": np.array([31])}, ["Ada"]),
        ([{"text": "1843", "answer_start": 25}], ["1843"]),
        (["Lovelace", "1843"], ["Lovelace", "1843"]),
        ("Lovelace", ["Lovelace"]),
        ({"answer": "Ada", "answer_start": 31}, ["Ada"]),
        ({"answer": "", "answer_start": None}, []),
        ({"answer": "27", "answer_start": -1}, ["27"]),
        ({"text": [], "answer_start": []}, []),
        ([], []),
        ("", []),
    ],
)
def test_every_form_of_answers(target: Any, expected: list[str]) -> None:
    assert [CONTEXT[a:b] for a, b in spans_of(target, CONTEXT)] == expected


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("Ada", "comes 2 times"),
        ("Babbage", "comes 0 times"),
        ({"text": ["1843"], "answer_start": [24]}, "not at character 24 of the context. It comes at 25"),
        ({"text": ["x"], "answer_start": [0, 1]}, "1 answers and 2 answer_start"),
        ({"text": [5], "answer_start": [0]}, "An answer is a text"),
        ({"txt": []}, "'text' and 'answer_start', not 'txt'"),
        (5, "Answers are a text"),
        ({"answer": "27", "answer_start": 1.5}, "number of characters"),
    ],
)
def test_what_is_no_answer(target: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        spans_of(target, CONTEXT)


def test_the_answer_is_a_part_of_the_context() -> None:
    task, encoder = setup()
    (window,) = task.encode(encoder, RAW, AnswerOptions())
    answer = task.decode([logits(window, 25, 29)], [window], AnswerOptions())
    assert (answer.text, answer.start, answer.end, answer.top) == ("1843", 25, 29, ())
    assert answer.score > 0.99
    several = task.decode([logits(window, 0, 12, 3.0)], [window], AnswerOptions(top_k=4))
    assert several.top[0].text == several.text == "Ada Lovelace"
    assert len(several.top) == 4
    assert [item.score for item in several.top] == sorted((item.score for item in several.top), reverse=True)
    assert len({(item.start, item.end) for item in several.top}) == 4
    short = task.decode([logits(window, 0, 12, 3.0)], [window], AnswerOptions(max_answer_length=3))
    assert len(short.text) <= 3
    none = logits(window, 0, 0)
    assert task.decode([none], [window], AnswerOptions(handle_impossible_answer=True)).text == ""
    assert task.decode([none], [window], AnswerOptions()).text != ""


def test_decoding_equals_trying_every_span() -> None:
    task, encoder = setup()
    (window,) = task.encode(encoder, RAW, AnswerOptions())
    rng = np.random.default_rng(0)
    own = np.flatnonzero(window.source.segments == 1)
    for _ in range(5):
        output = {name: rng.normal(size=window.length).astype(np.float32) for name in ("start_logits", "end_logits")}
        best = max(
            ((a, b) for a in own for b in own if a <= b < a + 5),
            key=lambda s: float(output["start_logits"][s[0]] + output["end_logits"][s[1]]),
        )
        found = task.decode([output], [window], AnswerOptions(max_answer_length=5))
        start, end = window.source.offsets[best[0], 0], window.source.offsets[best[1], 1]
        assert found.text == CONTEXT[start:end].strip()


def test_long_contexts_are_windows_and_answers_outside_point_to_the_first_token() -> None:
    task, encoder = setup(40)
    context = "x " * 40 + "Ada" + " y" * 40
    windows = task.attach(task.windows(encoder, {"question": "who?", "context": context}), "Ada")
    assert len(windows) >= 3
    marked = [tuple(np.argmax(w.targets["spans"], axis=0).tolist()) for w in windows]
    assert any(place != (0, 0) for place in marked)
    assert marked[0] == marked[-1] == (0, 0)
    for window, (start, end) in zip(windows, marked, strict=True):
        if start:
            assert context[window.source.offsets[start, 0] : window.source.offsets[end, 1]] == "Ada"
    assert [len(w.targets["answers"]) for w in windows] == [1] + [0] * (len(windows) - 1)
    held = next(i for i, place in enumerate(marked) if place != (0, 0))
    sure = [logits(w, 80, 83) if i == held else logits(w, 0, 0) for i, w in enumerate(windows)]
    answer = task.decode(sure, windows, AnswerOptions(handle_impossible_answer=True))
    assert (answer.text, answer.start) == ("Ada", 80)


def test_loss_equals_upstream_and_padding_changes_nothing() -> None:
    import torch
    from torch.nn import functional

    task, encoder = setup()
    rows = [(RAW, "1843"), ({"question": "a", "context": "b c"}, "c"), (RAW, "")]
    examples = [task.examples(encoder, raw, target)[0] for raw, target in rows]
    targets = {name: torch.from_numpy(array) for name, array in task.collate_targets(examples).items()}
    longest = max(example.length for example in examples)
    torch.manual_seed(0)
    outputs = {name: torch.randn(3, longest) for name in ("start_logits", "end_logits")}
    expected = torch.zeros(())
    for row, example in enumerate(examples):
        for side, name in enumerate(outputs):
            place = int(example.targets["spans"][:, side].argmax())
            expected += functional.cross_entropy(outputs[name][row, : example.length][None], torch.tensor([place])) / 2
    torch.testing.assert_close(task.loss(outputs, targets, LossOptions()), expected)
    assert task.weight({name: array.numpy() for name, array in targets.items()}, LossOptions()) == 3


def test_measures_of_squad() -> None:
    assert normalized("The  Cat, an (old) cat!") == "cat old cat"
    assert exact_match("the Cat", "cat.") == 1.0
    assert f1("a red cat", "the cat") == pytest.approx(2 * 1 / (2 + 1))
    assert f1("", "") == 1.0
    assert f1("", "x") == f1("x", "") == 0.0
    counter = AnswerCounter()
    counter.update(["1843", "in 1843"], "in 1843")
    counter.update(["red cat"], "cat")
    assert counter.metrics() == {"exact_match": 0.5, "f1": pytest.approx((1 + 2 / 3) / 2)}
    counter.update([], "")
    counter.update([], "something")
    found = counter.metrics()
    assert (found["no_answer_exact_match"], found["has_answer_exact_match"]) == (0.5, 0.5)
    assert found["f1"] == pytest.approx((1 + 2 / 3 + 1 + 0) / 4)
    assert counter.rows == 4


def test_the_report_allows_none_where_the_data_has_it() -> None:
    task, encoder = setup()
    for rows, expected in (([(RAW, "1843")], {"exact_match": 1.0, "f1": 1.0}), ([(RAW, "1843"), (RAW, "")], None)):
        scorer = task.scorer()
        for raw, target in rows:
            windows = task.examples(encoder, raw, target)
            scorer.update([logits(w, 25, 29) if target else logits(w, 0, 0) for w in windows], windows)
        report = scorer.compute()
        assert report.metrics["exact_match"] == 1.0
        assert expected is None or report.metrics == expected
        assert ("best_f1_threshold" in report.metrics) == (expected is None)
        assert report.rows == len(rows)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("who?", "expected.*not a str"),
        ({"question": "who?"}, "not a dict with 'question'"),
        ({"question": "who?", "context": " "}, "context is empty"),
        ({"question": "who?", "context": 5}, "5 came"),
        ({"question": "q" * 80, "context": "x" * 50}, "first text has 80 tokens"),
    ],
)
def test_what_is_no_question(raw: Any, message: str) -> None:
    task, encoder = setup()
    with pytest.raises(InputError, match=message):
        task.encode(encoder, raw, AnswerOptions())


@pytest.mark.parametrize(
    "options",
    [
        {"top_k": 0},
        {"max_answer_length": True},
        {"handle_impossible_answer": 1},
        {"null_score_diff_threshold": 1.0},
        {"handle_impossible_answer": True, "null_score_diff_threshold": float("inf")},
    ],
)
def test_options_are_checked(options: Any) -> None:
    with pytest.raises(ConfigError):
        tasks.get("question-answering").parse_options(options)


def test_the_threshold_decides_between_none_and_the_best_answer() -> None:
    task, encoder = setup()
    (window,) = task.encode(encoder, RAW, AnswerOptions())
    output = {name: np.zeros(window.length, dtype=np.float32) for name in ("start_logits", "end_logits")}
    first, last = np.flatnonzero(window.source.segments == 1)[:2]
    output["start_logits"][[0, first]] = output["end_logits"][[0, last]] = [5.0, 4.0]
    # None is more probable by two logits, of the start and of the end.
    for threshold, text in ((0.0, ""), (1.9, ""), (2.1, "Ad"), (-3.0, "")):
        options = AnswerOptions(top_k=2, handle_impossible_answer=True, null_score_diff_threshold=threshold)
        answer = task.decode([output], [window], options)
        assert answer.text == text
        assert {item.text for item in answer.top} == {"", "Ad"}
    assert task.decode([output], [window], AnswerOptions()).text == "Ad"


def official_best(correct: list[float], without: list[bool], differences: list[float]) -> tuple[float, float]:
    """`find_best_thresh` of SQuAD 2's evaluate-v2.0.py, for predictions that are never empty."""
    current = best = sum(without)
    threshold = 0.0
    for place in sorted(range(len(differences)), key=lambda i: differences[i]):
        current += -1 if without[place] else correct[place]
        if current > best:
            best, threshold = current, differences[place]
    return best / len(correct), threshold


def test_the_best_threshold_is_that_of_the_official_script() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        thresholds, correct, without = Thresholds(), [], []
        differences = rng.normal(size=30).tolist()
        for difference in differences:
            true = [[], ["red cat"], ["old dog"]][int(rng.integers(3))]
            thresholds.update(true, "cat", difference)
            correct.append(max((f1(text, "cat") for text in true), default=0.0))
            without.append(not true)
        best, threshold = official_best(correct, without, differences)
        found = thresholds.metrics()
        assert found["best_f1"] == pytest.approx(best)
        if threshold:
            assert found["best_f1_threshold"] == pytest.approx(threshold)
        # What the threshold does is what it promises.
        answered = [difference <= found["best_f1_threshold"] for difference in differences]
        made = [c if a and not w else float(w and not a) for a, c, w in zip(answered, correct, without, strict=True)]
        assert np.mean(made) == pytest.approx(best)


def test_thresholds_where_some_answers_are_certain() -> None:
    thresholds = Thresholds()
    thresholds.update(["cat"], "cat", -np.inf)
    thresholds.update([], "cat", np.inf)
    assert thresholds.metrics()["best_f1"] == 1.0
    assert np.isfinite(thresholds.metrics()["best_f1_threshold"])


SCRIPTS = [
    ("北京大学在哪里\uff1f它在北京市海淀区\uff0c成立于1898年。", "北京市海淀区"),
    ("وُلِدَ مُحَمَّدٌ في مكةَ المكرمةِ سنة 570.", "مُحَمَّدٌ"),
    ("Sie bestellte \u2615\ufe0f und \U0001f469\u200d\U0001f4bb lachte \U0001f600 laut.", "\U0001f469\u200d\U0001f4bb"),
    ("Zu Hause: \u2615\ufe0f, dann Tee.", "\u2615\ufe0f"),
    ("Der Cafe\u0301-Besitzer heißt Zoë.", "Cafe\u0301"),
    ("महात्मा गांधी का जन्म पोरबंदर में हुआ।", "पोरबंदर"),
    ("서울은 대한민국의 수도이다.", "대한민국"),
    ("กรุงเทพมหานครเป็นเมืองหลวง", "เป็น"),
]


def word_pieces() -> Tokenizer:
    """As uncased BERT's: it drops accents and joiners, which the offsets must bring back."""
    characters = sorted({c for text, _ in SCRIPTS for c in unicodedata.normalize("NFD", text.lower())})
    pieces = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", *characters, *(f"##{c}" for c in characters)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _with_template(tokenizer)


def sentence_pieces() -> Tokenizer:
    """As XLM-RoBERTa's: compatibility forms, and blanks as a character of their own."""
    characters = sorted({c for text, _ in SCRIPTS for c in unicodedata.normalize("NFKC", text)} | {"▁"})
    pieces = [("[PAD]", 0.0), ("[CLS]", 0.0), ("[SEP]", 0.0), ("[UNK]", 0.0), *((c, -5.0) for c in characters)]
    tokenizer = Tokenizer(models.Unigram(pieces, 3, byte_fallback=False))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _with_template(tokenizer)


def _with_template(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.add_special_tokens(["[PAD]", "[CLS]", "[SEP]", "[UNK]"])
    return tokenizer


@pytest.mark.parametrize("make", [word_pieces, sentence_pieces, lambda: byte_tokenizer(style="bert")])
@pytest.mark.parametrize(("context", "answer"), SCRIPTS)
def test_an_answer_of_any_script_is_found_again_at_its_own_place(make: Any, context: str, answer: str) -> None:
    task, _ = setup(64)
    encoder = TextEncoder(task.spec.input, make())  # type: ignore[arg-type]
    start = context.index(answer)
    for text in (context, "x " * 60 + context + " y" * 60):
        place = text.index(answer)
        windows = task.attach(task.windows(encoder, {"question": "?", "context": text}), answer)
        marked = [np.argmax(window.targets["spans"], axis=0) for window in windows]
        assert any(first for first, _ in marked), "no window has the answer"
        outputs = []
        for window, (first, last) in zip(windows, marked, strict=True):
            output = {name: np.zeros(window.length, dtype=np.float32) for name in ("start_logits", "end_logits")}
            output["start_logits"][first] = output["end_logits"][last] = 20.0
            outputs.append(output)
        found = task.decode(outputs, windows, AnswerOptions(max_answer_length=60))
        assert (found.text, found.start, found.end) == (answer, place, place + len(answer))
        assert place == start or len(windows) > 1


def reference_answer(
    start_logits: Any, end_logits: Any, encoding: Any, context: str, longest: int
) -> tuple[float, float, str]:
    """The decoding of transformers 4's question-answering pipeline, for one window: (score, score of none, text)."""
    allowed = np.array([part == 1 for part in encoding.sequence_ids])
    allowed[0] = True
    starts, ends = (np.where(allowed, logits, -10000.0) for logits in (start_logits, end_logits))
    starts, ends = (np.exp(x - x.max()) / np.exp(x - x.max()).sum() for x in (starts, ends))
    none = starts[0] * ends[0]
    starts[0] = ends[0] = 0.0
    scores = np.tril(np.triu(np.outer(starts, ends)), longest - 1)
    first, last = np.unravel_index(scores.argmax(), scores.shape)
    text = context[encoding.offsets[first][0] : encoding.offsets[last][1]]
    return float(scores[first, last]), float(none), text.strip()


def test_answers_of_a_model_equal_the_former_pipeline_of_upstream() -> None:
    """Windows, network and decoding, by the tokenizer's own truncation and the network's own outputs."""
    import torch

    model = tiny_model("bert-base-cased", "question-answering")
    with torch.no_grad():
        for parameter in model.module.net.parameters():  # type: ignore[union-attr]
            parameter.mul_(4)  # sharper than at first, so that no two answers are near each other
    question = "who wrote the first program?"
    context = "Ada Lovelace wrote the first program in 1843, for a machine of Charles Babbage's. " * 4
    tokenizer = Tokenizer.from_str(model.encoder.tokenizer.to_str())  # type: ignore[attr-defined]
    kept = len(tokenizer.encode(question, add_special_tokens=False).ids)
    room = 128 - 3 - kept
    tokenizer.enable_truncation(128, stride=int(room * 0.25), strategy="only_second")
    whole = tokenizer.encode(question, context)
    windows = [whole, *whole.overflowing]
    found = []
    for window in windows:
        ids, types = torch.tensor([window.ids]), torch.tensor([window.type_ids])
        with torch.no_grad():
            output = model.module.net(input_ids=ids, token_type_ids=types)  # type: ignore[operator]
        logits = output.start_logits[0].double().numpy(), output.end_logits[0].double().numpy()
        found.append(reference_answer(*logits, window, context, 30))
    assert len(windows) >= 3
    score, _, text = max(found)
    answer = model.predict({"question": question, "context": context})
    assert (answer.text, answer.score) == (text, pytest.approx(score, rel=1e-3))
    none = min(score for _, score, _ in found)
    raw = {"question": question, "context": context}
    (row,) = model.outcomes([raw], AnswerOptions(), batch_size=1, on_error="raise")
    assert isinstance(model.task, QuestionAnswering)
    assert model.task.candidates(row.outputs, row.windows, AnswerOptions())[1].score == pytest.approx(none, rel=1e-3)
    # Whatever the answer: "none" is it just below the difference, and not above it.
    difference = float(np.log(none) - np.log(score))
    for threshold, empty in ((difference - 0.1, True), (difference + 0.1, False)):
        options = {"handle_impossible_answer": True, "null_score_diff_threshold": threshold}
        assert (model.predict(raw, **options).text == "") is empty


def test_data_in_every_form(tmp_path: Path) -> None:
    names = ("feature-extraction", "text-classification", "question-answering")
    squad = {"data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": [
        {"id": "1", "question": "when?", "answers": [{"text": "1843", "answer_start": 25}]},
        {"id": "2", "question": "why?", "answers": [], "is_impossible": True},
    ]}]}]}  # fmt: skip
    file = tmp_path / "train.json"
    file.write_text(json.dumps(squad), encoding="utf-8")
    lines = tmp_path / "train.jsonl"
    rows = [{"question": "when?", "context": CONTEXT, "answers": {"text": ["1843"], "answer_start": [25]}},
            {"question": "why?", "context": CONTEXT, "answers": {"text": [], "answer_start": []}}]  # fmt: skip
    lines.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    table = tmp_path / "train.csv"
    table.write_text(
        f'question,context,answer,answer_start\nwhen?,"{CONTEXT}",1843,25\nwhy?,"{CONTEXT}",,\n', encoding="utf-8"
    )
    pairs = [({"question": "when?", "context": CONTEXT}, "1843"), ({"question": "why?", "context": CONTEXT}, [])]
    for form in (str(file), str(lines), str(table), rows, pairs):
        dataset = read(form, tasks=names)
        assert dataset.task == "question-answering"
        found = list(dataset.splits["train"])
        assert [row.input for row in found] == [raw for raw, _ in pairs]
        assert [spans_of(row.target, CONTEXT) for row in found] == [[(25, 29)], []], form
    assert read(str(file), tasks=names).splits["train"].where(1) == f"{file} data[0].paragraphs[0].qas[1]"
    bad = tmp_path / "bad.json"
    for text, message in (
        ("[1]", "not of SQuAD's form"),
        ("{", "not valid JSON"),
        ('{"data": [{"paragraphs": [{}]}]}', "no list 'qas'"),
    ):
        bad.write_text(text, encoding="utf-8")
        with pytest.raises(DataError, match=message):
            read(str(bad), tasks=names)
