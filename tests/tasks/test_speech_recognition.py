from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import one_hot, plain_window, spec
from zoo import tasks
from zoo.errors import ConfigError, DataError
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


def test_windows_are_joined() -> None:
    result = decode(make(), "HE|", "___", "|LO")
    assert result.text == "HE LO"


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
