from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from transformers.cache_utils import DynamicLayer

from tests.backends.conftest import audio_spec, ragged_sound, ragged_tokens, text_spec
from zoo.backends import build, torch_embed, torch_forward
from zoo.backends.running import CachedStepper
from zoo.backends.transformers.caching import GrowingLayer
from zoo.errors import ConfigError
from zoo.modalities.base import Array


@dataclass
class Batch:
    inputs: dict[str, Array]


def batch_of(tensors: dict[str, torch.Tensor]) -> Batch:
    return Batch({name: tensor.numpy() for name, tensor in tensors.items()})


def test_forward_gives_numpy() -> None:
    module = build(audio_spec("hubert"), task="automatic-speech-recognition", labels=("<pad>", "a"), seed=0)
    outputs = torch_forward(module, "cpu")(batch_of(ragged_sound()))
    assert outputs["logits"].dtype == np.float32
    assert outputs["lengths"].dtype == np.int64
    half = torch_forward(module, "cpu", precision="bf16")(batch_of(ragged_sound()))
    assert half["logits"].dtype == np.float32
    np.testing.assert_allclose(half["logits"], outputs["logits"], atol=0.05)
    assert not np.array_equal(half["logits"], outputs["logits"])
    with pytest.raises(ConfigError, match="fp32, bf16, fp16"):
        torch_forward(module, "cpu", precision="float16")


def test_embedding_of_any_task() -> None:
    module = build(text_spec("bert"), task="text-classification", labels=("a", "b"), seed=0)
    mean = torch_embed(module, "cpu")(batch_of(ragged_tokens()))["embedding"]
    first = torch_embed(module, "cpu", pooling="cls")(batch_of(ragged_tokens()))["embedding"]
    assert mean.shape == first.shape == (3, 32)
    assert mean.dtype == np.float32
    assert not np.allclose(mean, first)


@pytest.mark.parametrize("left", [False, True])
def test_a_cached_step_equals_running_it_all_again(left: bool) -> None:
    module = build(text_spec("gpt2"), task="text-generation", labels=(), seed=0)
    prompts = ragged_tokens((7, 4, 2), left=left)
    pairs = zip(prompts["input_ids"], prompts["attention_mask"], strict=True)
    rows = [ids[mask.bool()].tolist() for ids, mask in pairs]

    def again(row: list[int]) -> Array:
        ids = torch.tensor([row])
        with torch.inference_mode():
            logits: Array = module(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"][0, -1].numpy()
        return logits

    stepper = CachedStepper(module, "cpu")
    logits = stepper.start(prompts["input_ids"].numpy(), prompts["attention_mask"].numpy())
    for step in range(5):
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, np.stack([again(row) for row in rows]), atol=1e-5)
        if step == 2:
            stepper.select(np.array([2, 0]))
            rows, logits = [rows[2], rows[0]], logits[[2, 0]]
        tokens = logits.argmax(axis=1)
        rows = [[*row, int(token)] for row, token in zip(rows, tokens, strict=True)]
        logits = stepper.advance(tokens)


def test_a_stepper_can_be_used_again() -> None:
    module = build(text_spec("gpt2"), task="text-generation", labels=(), seed=0)
    stepper, prompts = CachedStepper(module, "cpu"), ragged_tokens()
    first = stepper.start(prompts["input_ids"].numpy(), prompts["attention_mask"].numpy())
    stepper.advance(first.argmax(axis=1))
    np.testing.assert_array_equal(first, stepper.start(prompts["input_ids"].numpy(), prompts["attention_mask"].numpy()))


def test_a_growing_cache_holds_what_upstreams_holds_and_moves_nothing() -> None:
    generator = torch.Generator().manual_seed(0)
    ours, theirs = GrowingLayer(), DynamicLayer()  # type: ignore[no-untyped-call]
    places: list[int] = []
    for step in range(200):
        rows = 3 if step < 150 else 2
        new = [torch.randn(rows, 2, 5 if step == 0 else 1, 4, generator=generator) for _ in range(2)]
        if step == 150:
            for layer in (ours, theirs):
                layer.batch_select_indices(torch.tensor([2, 0]))
        found, wanted = ours.update(*new), theirs.update(*new)
        assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
        assert ours.get_seq_length() == theirs.get_seq_length() == 5 + step
        # The memory of the first room may be that of the third.
        if found[0].data_ptr() not in places[-1:]:
            places.append(found[0].data_ptr())
    # 74 tokens of room at first, twice as many when they are full, and one place for the rows that were kept.
    assert len(places) == 3


def test_the_vocabulary_is_asked_once_a_row_where_all_prompts_end_together() -> None:
    module = build(text_spec("gpt2"), task="text-generation", labels=(), seed=0)
    widths: list[int] = []
    module.net.lm_head.register_forward_hook(lambda *given: widths.append(given[2].shape[1]))  # type: ignore[union-attr, operator]
    ids = np.array([[5, 6, 7, 8], [9, 10, 11, 12]])
    left, right = np.array([[0, 1, 1, 1], [1, 1, 1, 1]]), np.array([[1, 1, 1, 0], [1, 1, 1, 1]])
    stepper = CachedStepper(module, "cpu")
    found = stepper.start(ids, left)
    np.testing.assert_allclose(stepper.start(np.array([[6, 7, 8, 0], ids[1]]), right), found, atol=1e-5)
    assert widths == [1, 4]
