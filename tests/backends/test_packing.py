"""Padding that a network leaves out: the same answers, in every architecture and task, and nothing of it elsewhere."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import FAMILIES, family, tiny, without_dropout
from zoo.backends import build
from zoo.backends.transformers import packing
from zoo.backends.transformers.packing import _LAYERS
from zoo.backends.transformers.parts import base_of
from zoo.modalities import make_encoder
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.training.optim import _gradient_checkpointing

TEXTS = ["once upon a time in Zürich", "the end", "x", "a rather longer text than all of the others", "y"]
PACKED = {zoo.info(name).architecture: name for name in FAMILIES if zoo.info(name).architecture in _LAYERS}
TASKS = ("text-classification", "token-classification", "fill-mask", "question-answering", "feature-extraction")


def module_of(name: str, task: str = "text-classification", side: str = "right") -> tuple[Any, dict[str, Any]]:
    spec = tiny(zoo.info(name))
    spec = spec.evolve(input={**spec.input.to_dict(), "padding_side": side})
    encoder = make_encoder(spec, tokenizer=byte_tokenizer(style="bert"))
    labels = ("a", "b") if task.endswith("classification") else ()
    module = build(spec, task=task, labels=labels, seed=0).eval()
    arrays = encoder.collate([encoder.encode(text)[0] for text in TEXTS])
    return module, {key: torch.from_numpy(value) for key, value in arrays.items()}


def widths(module: Any) -> list[tuple[int, ...]]:
    """The shapes that the first layer is given, as they come."""
    seen: list[tuple[int, ...]] = []
    base = base_of(module.net)
    layers = getattr(base, _LAYERS[module.net.config.model_type])
    first = (layers.albert_layer_groups if hasattr(layers, "albert_layer_groups") else layers.layer)[0]
    first.register_forward_pre_hook(
        lambda _, given, named: seen.append(tuple((given[0] if given else named["hidden_states"]).shape)),
        with_kwargs=True,
    )
    return seen


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PACKED.values())
def test_answers_are_those_of_padded_batches(name: str, task: str) -> None:
    if task not in zoo.info(name).tasks:
        pytest.skip(f"{name} is not for {task}")
    module, inputs = module_of(name, task)
    real = inputs["attention_mask"].bool()
    expected = module(**inputs)
    seen = widths(module)
    with torch.inference_mode():
        found = module(**inputs)
    # ALBERT has one layer, and asks it again and again.
    assert {shape[:2] for shape in seen} == {(1, int(real.sum()))}
    for key, value in found.items():
        wanted = expected[key].detach()
        # What an answer says of padding means nothing.
        places = real if value.shape[: real.dim()] == real.shape else slice(None)
        torch.testing.assert_close(value[places], wanted[places], rtol=0, atol=2e-6)


def test_every_packed_architecture_is_in_the_catalogue_and_tested() -> None:
    assert set(PACKED) <= set(_LAYERS)
    assert {"bert", "roberta", "distilbert"} <= set(PACKED)
    assert all(family(zoo.info(name)) for name in PACKED.values())


def test_padding_stays_on_the_left_and_where_there_is_none() -> None:
    module, inputs = module_of("bert-base-uncased")
    seen = widths(module)
    whole = {key: value[:1, :5].repeat(3, 1) for key, value in inputs.items()}
    assert whole["attention_mask"].all()
    with torch.inference_mode():
        module(**whole)
    assert seen.pop()[:2] == (3, 5)
    module, inputs = module_of("bert-base-uncased", side="left")
    seen = widths(module)
    with torch.inference_mode():
        module(**inputs)
    assert seen.pop()[:2] == inputs["attention_mask"].shape


@pytest.mark.parametrize("name", PACKED.values())
@pytest.mark.parametrize("checkpointed", [False, True])
def test_gradients_are_those_of_padded_batches(name: str, checkpointed: bool) -> None:
    module, inputs = module_of(name)
    without_dropout(module.train())
    if checkpointed:
        if not module.net.supports_gradient_checkpointing:
            pytest.skip(f"{name} has no checkpointed layers")
        _gradient_checkpointing(module, on=True)
    seen = widths(module)

    def gradients() -> dict[str, Any]:
        module.zero_grad()
        module(**inputs)["logits"].square().sum().backward()
        return {key: value.grad.clone() for key, value in module.named_parameters() if value.grad is not None}

    found = gradients()
    assert {shape[0] for shape in seen} == {1}
    seen.clear()
    layers = getattr(base_of(module.net), _LAYERS[module.net.config.model_type])
    layers._forward_pre_hooks.clear()
    layers._forward_hooks.clear()
    padded = gradients()
    assert {shape[0] for shape in seen} == {len(TEXTS)}
    assert found.keys() == padded.keys()
    for key, wanted in padded.items():
        torch.testing.assert_close(found[key], wanted, rtol=1e-4, atol=1e-5, msg=key)


def test_threads_do_not_see_each_others_masks() -> None:
    module, inputs = module_of("bert-base-uncased")
    batches = [{key: value[i:] for key, value in inputs.items()} for i in range(4)] * 8

    def run(batch: dict[str, Any]) -> Any:
        with torch.inference_mode():
            return module(**batch)["logits"].numpy()

    expected = [run(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(run, batches), expected, strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-6)


def of_a_gpu(query: Any, key: Any, value: Any, begins: Any, same: Any, longest: int, and_: int, *, scale: Any) -> Any:
    """What torch says that its kernel computes, in fp32: `[N, heads, width]` of texts one after another."""
    assert begins is same
    assert begins.dtype == torch.int32
    assert longest == and_ >= begins.diff().max()
    found = torch.empty_like(query)
    for begin, end in pairwise(begins.tolist()):
        q, k, v = (tensor[begin:end].float().transpose(0, 1) for tensor in (query, key, value))
        scores = q @ k.transpose(1, 2) * (q.shape[-1] ** -0.5 if scale is None else scale)
        found[begin:end] = (scores.softmax(-1) @ v).transpose(0, 1).to(found.dtype)
    return found


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", PACKED.values())
def test_answers_by_the_kernel_of_a_gpu_are_those_of_padded_batches(
    name: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if task not in zoo.info(name).tasks:
        pytest.skip(f"{name} is not for {task}")
    module, inputs = module_of(name, task)
    real = inputs["attention_mask"].bool()
    monkeypatch.setattr(module, "packs", False)
    with torch.inference_mode():
        expected = module(**inputs)
    monkeypatch.setattr(module, "packs", True)
    seen = widths(module)
    monkeypatch.setattr(packing, "_one_by_one", lambda device: False)
    monkeypatch.setattr(packing, "_answers", lambda device: True)
    monkeypatch.setattr(packing, "varlen_attn", of_a_gpu)
    with torch.inference_mode():
        found = module(**inputs)
    assert {shape[:2] for shape in seen} == {(1, int(real.sum()))}
    for key, value in found.items():
        places = real if value.shape[: real.dim()] == real.shape else slice(None)
        torch.testing.assert_close(value[places], expected[key][places], rtol=0, atol=2e-6)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", [None, torch.bfloat16, torch.float16])
def test_a_gpu_leaves_padding_out_in_a_lower_precision_alone(precision: torch.dtype | None) -> None:
    module, inputs = module_of("bert-base-uncased", "feature-extraction")
    with torch.inference_mode():
        expected = module(**inputs)["embedding"]
    seen = widths(module)
    there = {key: value.cuda() for key, value in inputs.items()}
    with torch.inference_mode(), torch.autocast("cuda", precision, enabled=precision is not None):
        found = module.cuda()(**there)["embedding"]
    real = (1, int(inputs["attention_mask"].sum()))
    assert seen.pop()[:2] == (inputs["attention_mask"].shape if precision is None else real)
    # Texts that see each other are 0.01 from it.
    torch.testing.assert_close(found.float().cpu(), expected, rtol=0, atol=1e-4 if precision is None else 4e-3)


@pytest.mark.gpu
def test_a_gpu_learns_from_padded_batches() -> None:
    module, inputs = module_of("bert-base-uncased")
    seen = widths(module.cuda())
    with torch.autocast("cuda", torch.bfloat16):
        module(**{key: value.cuda() for key, value in inputs.items()})["logits"].float().sum().backward()
    assert seen.pop()[:2] == inputs["attention_mask"].shape
