from __future__ import annotations

import importlib.util
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import one_hot, plain_window, spec
from zoo import tasks
from zoo.errors import ConfigError, DataError, MissingDependency
from zoo.modalities.audio import AudioSource
from zoo.modalities.base import Array
from zoo.tasks import ctc
from zoo.tasks.base import LossOptions
from zoo.tasks.speech_recognition import SpeechRecognition

LABELS = ("<pad>", "<s>", "</s>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'")
STRICT = ("<pad>", "|", *"abc")


def make(labels: tuple[str, ...] = LABELS) -> SpeechRecognition:
    task = tasks.make("automatic-speech-recognition", spec("automatic-speech-recognition", "audio"), labels)
    assert isinstance(task, SpeechRecognition)
    return task


def spoken(task: SpeechRecognition, tokens: str) -> Array:
    """Frames, one a character: `_` is the blank."""
    return one_hot([0 if token == "_" else task.labels.index(token) for token in tokens], len(task.labels))


def decode(task: SpeechRecognition, *frames: str) -> Any:
    outputs = [{"logits": spoken(task, row), "lengths": np.int64(len(row))} for row in frames]
    return task.decode(outputs, [plain_window(16000) for _ in frames], task.parse_options({}))


@pytest.mark.parametrize(
    ("frames", "text"),
    [
        ("HHEE_LL_LOO", "HELLO"),
        ("A|B", "A B"),
        ("||A||_|B||", "A B"),
        ("A_A", "AA"),
        ("AA", "A"),
        ("____", ""),
        ("|_|", ""),
        ("", ""),
    ],
)
def test_greedy_decoding(frames: str, text: str) -> None:
    assert decode(make(), frames).text == text


def test_special_tokens_are_not_spoken() -> None:
    task = make()
    ids = [1, task.labels.index("A"), 3, 2]
    result = task.decode([{"logits": one_hot(ids, len(LABELS)), "lengths": np.int64(4)}], [plain_window()], None)
    assert result.text == "A"


def test_score_is_the_mean_of_emitted_characters() -> None:
    task = make(STRICT)
    logits = np.zeros((3, 5), dtype=np.float32)
    logits[0, 2] = np.log(4.0)  # a: 4 / 8
    logits[1, 1] = 50.0  # the space, which is no character
    logits[2, 3] = np.log(12.0)  # b: 12 / 16
    result = task.decode([{"logits": logits, "lengths": np.int64(3)}], [plain_window()], None)
    assert result.text == "a b"
    assert result.score == pytest.approx((0.5 + 0.75) / 2)
    assert decode(task, "___").score == 0.0


def said_in_windows(*windows: tuple[str, int, int], **options: Any) -> Any:
    """Frames of 320 samples; each window with its first sample and its size."""
    task = make()
    outputs = [{"logits": spoken(task, frames), "lengths": np.int64(len(frames))} for frames, _, _ in windows]
    sources = [
        replace(plain_window(size), source=AudioSource(start + size, 16_000, start)) for _, start, size in windows
    ]
    return task.decode(outputs, sources, task.parse_options(options))


def test_windows_are_joined() -> None:
    result = said_in_windows(("HE|", 0, 960), ("___", 960, 960), ("|LO", 1920, 960))
    assert result.text == "HE LO"


def test_what_windows_share_counts_once() -> None:
    # Four frames are shared, and each window is wrong in the half of them that is at its border.
    result = said_in_windows(("AB_CDEXX", 0, 2560), ("XXEFG", 1280, 1600), return_timestamps="char")
    assert result.text == "ABCDEFG"
    starts = [word.start for word in result.words]
    assert starts == pytest.approx([0.0, 0.02, 0.06, 0.08, 0.10, 0.14, 0.16])
    assert result.words[4].end == pytest.approx(0.14)  # E, heard by both, is one


def test_times_of_words_and_characters() -> None:
    task = make()
    frames = "_HHEE_|_LLO__|A"
    output = [{"logits": spoken(task, frames), "lengths": np.int64(len(frames))}]
    found = task.decode(output, [plain_window(5000)], task.parse_options({"return_timestamps": "word"}))
    assert [(word.text, word.start, word.end) for word in found.words] == [
        ("HE", 0.02, 0.1), ("LO", 0.16, 0.22), ("A", pytest.approx(0.28), 0.3),
    ]  # fmt: skip
    assert found.text == "HE LO A"
    assert all(0.5 < word.score < 1 for word in found.words)
    single = task.decode(output, [plain_window(5000)], task.parse_options({"return_timestamps": "char"}))
    assert "".join(word.text for word in single.words) == "HELOA"
    assert single.to_dict()["words"][0] == {"text": "H", "start": 0.02, "end": 0.06, "score": single.words[0].score}
    assert task.decode(output, [plain_window(5000)], task.parse_options({})).words == ()


def test_times_are_upstreams() -> None:
    """transformers' Wav2Vec2CTCTokenizer gives offsets in frames."""
    transformers = pytest.importorskip("transformers")
    import json
    import tempfile
    from pathlib import Path

    rng = np.random.default_rng(0)
    task = make()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.json").write_text(json.dumps({label: i for i, label in enumerate(LABELS)}))
        tokenizer = transformers.Wav2Vec2CTCTokenizer(str(Path(folder) / "vocab.json"))
    for _ in range(5):
        ids = rng.choice([0, 0, 0, 4, 5, 6, 7, 8], size=60)
        expected = tokenizer.decode(ids, output_word_offsets=True)
        output = [{"logits": one_hot(ids, len(LABELS)), "lengths": np.int64(60)}]
        found = task.decode(output, [plain_window(20_000)], task.parse_options({"return_timestamps": "word"}))
        assert found.text == " ".join(expected.text.split())
        ours = [(word.text, round(word.start * 50), round(word.end * 50)) for word in found.words]
        assert ours == [(w["word"], w["start_offset"], w["end_offset"]) for w in expected.word_offsets]


ARPA = """\\data\\
ngram 1=6
ngram 2=4

\\1-grams:
-1.0\t<unk>\t0
0\t<s>\t-0.3
-1.0\t</s>\t0
-0.7\tcab\t-0.3
-0.7\tbac\t-0.3
-1.5\taa\t-0.3

\\2-grams:
-0.1\t<s> cab
-0.2\tcab bac
-2.0\tcab aa
-0.1\tbac </s>

\\end\\
"""


def test_a_language_model_chooses_among_its_words(tmp_path: Any) -> None:
    pytest.importorskip("flashlight.lib.text")
    pytest.importorskip("kenlm")
    path = tmp_path / "toy.arpa"
    path.write_text(ARPA)
    task = make()
    # "CAB BAA": the last letter is in doubt, and BAA is no word.
    frames = "_CC_AB|_B_A_A_"
    logits = spoken(task, frames)
    logits[frames.rindex("A"), task.labels.index("C")] = 8.5
    output = [{"logits": logits, "lengths": np.int64(len(frames))}]
    window = [plain_window(5000)]
    assert task.decode(output, window, task.parse_options({})).text == "CAB BAA"
    options = task.parse_options({"lm": str(path), "return_timestamps": "word"})
    found = task.decode(output, window, options)
    assert found.text == "CAB BAC"
    assert [(word.text, word.start) for word in found.words] == [("CAB", 0.02), ("BAC", 0.16)]
    assert found.words[1].end == pytest.approx(0.26)
    assert task.decode(output, window, options) == found
    empty = [{"logits": logits[:0], "lengths": np.int64(0)}]
    assert task.decode(empty, window, options).text == ""


def test_language_models_that_cannot_be_used(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    task = make()
    output = [{"logits": spoken(task, "A"), "lengths": np.int64(1)}]
    with pytest.raises(ConfigError, match="no such file"):
        task.parse_options({"lm": str(tmp_path / "none.arpa")})
    other = tmp_path / "x.arpa"
    other.write_text("hello\n")
    options = task.parse_options({"lm": str(other)})
    if importlib.util.find_spec("flashlight") is not None:
        with pytest.raises(ConfigError, match="no ARPA file"):
            task.decode(output, [plain_window()], options)
    monkeypatch.setitem(sys.modules, "kenlm", None)
    with pytest.raises(MissingDependency, match=r"polyzoo\[lm\]"):
        task.decode(output, [plain_window()], options)


@pytest.mark.parametrize(
    "options",
    [{"return_timestamps": True}, {"return_timestamps": "words"}, {"beam_width": 0}, {"alpha": "x"}, {"lm": 3}],
)
def test_wrong_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        make().parse_options(options)


def test_unbatch_cuts_frames_of_padding() -> None:
    task = make(STRICT)
    logits = np.zeros((2, 6, 5), dtype=np.float32)
    first, second = task.unbatch({"logits": logits, "lengths": np.array([6, 4])}, [plain_window(), plain_window()])
    assert (len(first["logits"]), len(second["logits"])) == (6, 4)


def test_labels_of() -> None:
    labels = tasks.get("automatic-speech-recognition").labels_of(["ab c", "Cafe\u0301|"])
    assert labels == ("<pad>", "<unk>", "|", "C", "a", "b", "c", "f", "\u00e9")
    with pytest.raises(DataError, match="missing"):
        tasks.get("automatic-speech-recognition").labels_of(["a", None])


def test_a_transcript_takes_the_case_of_the_vocabulary() -> None:
    assert make().vocabulary is not None
    assert [LABELS[i] for i in ctc.Vocabulary(LABELS).ids("it's  a\n")] == list("IT'S|A")
    assert [STRICT[i] for i in ctc.Vocabulary(STRICT).ids("ABC")] == list("abc")
    both = ("<pad>", "|", "a", "A")
    assert ctc.Vocabulary(both).ids("aA").tolist() == [2, 3]


def test_unknown_characters() -> None:
    assert ctc.Vocabulary(LABELS).ids("a!").tolist() == [LABELS.index("A"), 3]
    with pytest.raises(DataError, match="'!', 'd', which the model's vocabulary has not"):
        ctc.Vocabulary(STRICT).ids("ab d!d")


def test_a_vocabulary_of_longer_tokens_takes_the_longest() -> None:
    assert ctc.Vocabulary(("[PAD]", "|", "t", "h", "th", "e")).ids("the th").tolist() == [4, 5, 1, 4]


@pytest.mark.parametrize(("labels", "blank"), [(LABELS, 0), (("|", "a", "[PAD]"), 2), (("-", "|", "E"), 0)])
def test_blank(labels: tuple[str, ...], blank: int) -> None:
    assert ctc.Vocabulary(labels).blank == blank


def test_a_vocabulary_without_a_blank_or_a_delimiter() -> None:
    with pytest.raises(ConfigError, match="needs a blank"):
        make(("a", "b"))
    chinese = ctc.Vocabulary(("<pad>", "你", "好"))
    assert chinese.ids("你 好").tolist() == [1, 2]
    assert chinese.space == ""


def test_a_task_without_a_vocabulary_yet() -> None:
    assert make(()).vocabulary is None


@pytest.mark.parametrize("target", [None, float("nan"), "", " ", 3, ["a"]])
def test_what_is_no_transcript(target: Any) -> None:
    with pytest.raises(DataError, match="transcript"):
        make().attach([plain_window(16000)], target)


def test_frames_are_those_of_wav2vec2() -> None:
    assert ctc.frames(16000, {}) == 49
    assert ctc.frames(400, {}) == 1
    assert ctc.frames(399, {}) == 0
    assert ctc.frames(0, {}) == 0
    assert ctc.frames(100, {"conv_kernel": [10], "conv_stride": [5]}) == 19


def test_frames_are_what_convolutions_give() -> None:
    torch = pytest.importorskip("torch")
    config = {"conv_kernel": [10, 3, 2], "conv_stride": [5, 2, 2]}
    layers = [torch.nn.Conv1d(1, 1, k, s) for k, s in zip(config["conv_kernel"], config["conv_stride"], strict=True)]
    for samples in range(50, 120):
        assert ctc.frames(samples, config) == torch.nn.Sequential(*layers)(torch.zeros(1, 1, samples)).shape[-1]


def test_check() -> None:
    task = make()
    task.check(16000, "HELLO")
    assert ctc.frames_needed(task._ids("HELLO")) == 6
    # 6 frames are (6 - 1) * 320 + 400 samples.
    task.check(2000, "HELLO")
    with pytest.raises(DataError, match="gives 5 frames, and its transcript of 5 characters needs at least 6"):
        task.check(1999, "HELLO")
    with pytest.raises(DataError, match=r"3.0 s long, and training takes up to 2 s"):
        task.check(48000, "HELLO")


def test_attach() -> None:
    task = make()
    (window,) = task.attach([plain_window(16000)], "ab")
    assert [LABELS[i] for i in window.targets["labels"]] == ["A", "B"]
    assert window.targets["counted"] == 1
    # A row that can't be aligned, and one in windows, are measured and have no loss.
    assert task.attach([plain_window(400)], "ab")[0].targets["counted"] == 0
    first, second = task.attach([plain_window(32000), plain_window(16000)], "ab")
    assert (len(first.targets["labels"]), len(second.targets["labels"])) == (2, 0)
    batch = task.collate_targets([window, first, second])
    assert batch["labels"].shape == (3, 2)
    assert task.weight(batch, LossOptions()) == 1.0


def test_loss_is_each_rows_by_its_length() -> None:
    torch = pytest.importorskip("torch")
    task = make()
    examples = [task.attach([plain_window(16000)], text)[0] for text in ("HELLO", "A B")]
    examples.append(task.attach([plain_window(400)], "TOO LONG")[0])
    targets = task.collate_targets(examples)
    tensors = {name: torch.from_numpy(array) for name, array in targets.items()}
    torch.manual_seed(0)
    logits = torch.randn(3, 49, len(LABELS), requires_grad=True)
    lengths = torch.tensor([49, 30, 1])
    found = task.loss({"logits": logits, "lengths": lengths}, tensors, LossOptions())
    expected = torch.nn.functional.ctc_loss(
        logits[:2].log_softmax(-1).transpose(0, 1),
        tensors["labels"][:2].clamp(min=0),
        lengths[:2],
        torch.tensor([5, 3]),
    )
    assert task.weight(targets, LossOptions()) == 2.0
    assert found.item() / 2 == pytest.approx(expected.item(), rel=1e-6)
    found.backward()
    assert torch.isfinite(logits.grad).all()
    assert (logits.grad[2] == 0).all()


def test_loss_without_a_row_to_count_is_zero() -> None:
    torch = pytest.importorskip("torch")
    task = make()
    targets = {"labels": torch.tensor([[5]]), "counted": torch.tensor([0])}
    logits = torch.randn(1, 3, len(LABELS), requires_grad=True)
    loss = task.loss({"logits": logits, "lengths": torch.tensor([3])}, targets, LossOptions())
    loss.backward()
    assert loss.item() == 0.0


@pytest.mark.parametrize("options", [LossOptions(0.1), LossOptions(0.0, np.ones(3, np.float32))])
def test_loss_options_without_meaning_are_refused(options: LossOptions) -> None:
    pytest.importorskip("torch")
    with pytest.raises(ConfigError, match=r"class weights|label_smoothing"):
        make().loss({}, {}, options)


def test_scorer() -> None:
    pytest.importorskip("jiwer")
    task = make()
    scorer = task.scorer()
    for target, frames in (("the cat", "THE|CAT"), ("a dog", "A|DOT|X"), ("Hi!", "HI")):
        windows = task.attach([plain_window(16000)], target)
        scorer.update([{"logits": spoken(task, frames), "lengths": np.int64(len(frames))}], windows)
    report = scorer.compute()
    # Words: DOT for DOG, X inserted, "HI!" not whole, of 5.
    # Characters: T for G, two inserted, one missing, of 7 + 5 + 3.
    assert report.metrics["wer"] == pytest.approx(3 / 5)
    assert report.metrics["cer"] == pytest.approx(4 / 15)
    assert report.rows == 3
