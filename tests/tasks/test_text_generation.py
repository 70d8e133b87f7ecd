from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.tasks.sources import plain_window, spec
from zoo import tasks
from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Encoder, Example
from zoo.tasks.base import IGNORE, LossOptions, Task


def make(**changes: Any) -> Task:
    return tasks.make("text-generation", spec("text-generation", **changes))


def window(ids: list[int]) -> Example:
    return Example(inputs={"input_ids": np.array(ids), "attention_mask": np.ones(len(ids), np.int64)}, length=len(ids))


class Cutter(Encoder):
    """Windows of four tokens."""

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        assert overlap == 0.0
        return [window(raw[start : start + 4]) for start in range(0, len(raw), 4)] or [window([])]

    def collate(self, examples: Any) -> Any: ...

    def describe(self, raw: Any) -> str:
        return "the text"

    def save(self, folder: Any) -> None: ...


def test_a_long_prompt_is_refused_and_a_long_text_is_learnt_in_windows() -> None:
    task = make()
    with pytest.raises(InputError, match="longer than the model can see"):
        task.encode(Cutter(), [1, 2, 3, 4, 5])
    with pytest.raises(InputError, match="no tokens"):
        task.encode(Cutter(), [])
    examples = task.examples(Cutter(), [1, 2, 3, 4, 5], None)
    assert [example.targets["labels"].tolist() for example in examples] == [[IGNORE, 2, 3, 4], [IGNORE]]


@pytest.mark.parametrize("side", ["left", "right"])
def test_loss_is_torchs_over_the_shifted_text(side: str) -> None:
    torch = pytest.importorskip("torch")
    task = make(padding_side=side)
    examples = task.attach([window([1, 2, 3, 4])], None) + task.attach([window([5, 6])], None)
    targets = task.collate_targets(examples)
    assert task.weight(targets, LossOptions()) == 4.0
    torch.manual_seed(0)
    logits = torch.randn(2, 4, 8)
    found = task.loss({"logits": logits}, {"labels": torch.from_numpy(targets["labels"])}, LossOptions(0.1))
    short = logits[1, 2:3] if side == "left" else logits[1, :1]
    expected = torch.nn.functional.cross_entropy(
        torch.cat([logits[0, :3], short]), torch.tensor([2, 3, 4, 6]), label_smoothing=0.1, reduction="sum"
    )
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)


def test_class_weights_are_refused() -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ConfigError, match="class weights"):
        make().loss({"logits": torch.zeros(1, 2, 3)}, {}, LossOptions(0.0, np.ones(3, np.float32)))


def test_scorer() -> None:
    task = make()
    scorer = task.scorer()
    probabilities = np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [1 / 3, 1 / 3, 1 / 3]])
    logits = np.log(probabilities).astype(np.float32)
    scorer.update([{"logits": logits}], task.attach([window([2, 0, 1])], None))
    scorer.update([{"logits": logits}, {"logits": logits[:1]}], task.attach([window([2, 1, 2]), window([1])], None))
    report = scorer.compute()
    losses = [-np.log(p) for p in (0.5, 0.8, 0.25, 0.1)]
    assert report.metrics["loss"] == pytest.approx(np.mean(losses), abs=1e-6)
    assert report.metrics["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-6)
    assert report.metrics["token_accuracy"] == 0.5
    assert report.rows == 2


def test_scorer_counts_long_windows_in_parts() -> None:
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 11, 200)
    logits = rng.normal(size=(200, 11)).astype(np.float32)
    task = make()
    scorer = task.scorer()
    scorer.update([{"logits": logits}], task.attach([window(ids.tolist())], None))
    shifted = logits[:-1].astype(np.float64)
    expected = np.log(np.exp(shifted).sum(-1)) - shifted[np.arange(199), ids[1:]]
    assert scorer.compute().metrics["loss"] == pytest.approx(expected.mean())


def test_a_hopeless_model_has_infinite_perplexity() -> None:
    task = make()
    scorer = task.scorer()
    scorer.update([{"logits": np.array([[0, 5000], [0, 0]], np.float32)}], task.attach([window([1, 0])], None))
    assert scorer.compute().metrics["perplexity"] == float("inf")


def test_decode_gives_the_next_tokens_logits() -> None:
    logits = np.arange(6, dtype=np.float32).reshape(2, 3)
    task = make()
    assert task.decode([{"logits": logits}], [plain_window(2)], task.parse_options({})).tolist() == [3, 4, 5]
