"""What only a CUDA device can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.cases import CASES, trainable
from tests.conformance.conftest import tiny_model
from zoo.backends import fixed
from zoo.backends.running import CachedStepper
from zoo.runtime.caching import CachedGraph, CachedSession

pytestmark = pytest.mark.gpu
NAMES = ["bert-base-cased", "resnet18", "wav2vec2-base", "wav2vec2-large"]


@pytest.mark.parametrize("name", NAMES)
def test_cuda_embeds_as_the_cpu_does(name: str) -> None:
    model = tiny_model(name)
    raws = model.task.samples()
    on_cpu = model.embed(raws)
    np.testing.assert_allclose(model.to("cuda").embed(raws), on_cpu, atol=5e-3)
    assert model.accelerated


@pytest.mark.parametrize("name", NAMES[:3])
def test_compiled_answers_are_near_in_bf16(name: str) -> None:
    model = tiny_model(name).to("cuda")
    raws = model.task.samples()
    model.precision = "bf16"
    plain = model.embed(raws)
    model.compile = True
    assert np.abs(model.embed(raws) - plain).max() < 0.05 * np.abs(plain).max()


@pytest.mark.parametrize("precision", ["auto", "fp32", "bf16", "fp16"])
def test_finetunes_on_cuda_in_each_precision(precision: str, tmp_path: Path) -> None:
    model = tiny_model("bert-base-cased", "text-classification").to("cuda")
    rows = _rows(model) * 4
    model.finetune(rows, val=None, max_steps=4, precision=precision, learning_rate=1e-3, output_dir=tmp_path)
    assert np.isfinite(model.history[-1]["train_loss"])
    assert next(model.module.parameters()).is_cuda


@pytest.mark.parametrize("name", ["resnet18", "wav2vec2-base"])
def test_a_step_on_cuda(name: str, tmp_path: Path) -> None:
    task = trainable(zoo.info(name))
    assert task is not None
    model = tiny_model(name, task).to("cuda")
    model.finetune(_rows(model), val=None, max_steps=2, output_dir=tmp_path)
    assert np.isfinite(model.history[-1]["train_loss"])


def test_a_model_on_cuda_is_exported_and_the_bundle_runs_there(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    model = tiny_model("resnet18").to("cuda")
    model.export(tmp_path / "a.bundle")
    bundle = zoo.runtime.load(tmp_path / "a.bundle", device="cuda")
    assert bundle.session.device == "cuda"
    raws = model.task.samples()
    assert [r.label for r in bundle.predict(raws)] == [r.label for r in model.predict(raws)]


def test_generation_on_cuda_gives_the_same_tokens() -> None:
    model = tiny_model("gpt2")
    prompts = ["once", "a longer prompt"]
    on_cpu = [r.tokens for r in model.predict(prompts, max_new_tokens=5)]
    assert [r.tokens for r in model.to("cuda").predict(prompts, max_new_tokens=5)] == on_cpu


def test_a_bundle_guesses_over_a_cache_that_stays_on_the_device(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no CUDA provider")
    tiny_model("gpt2").export(tmp_path / "a.bundle")
    session = zoo.runtime.load(tmp_path / "a.bundle", device="cuda").session
    assert isinstance(session, CachedSession)
    ids, plain, guessing = np.array([[5, 6, 7]]), CachedGraph(session), CachedGraph(session)
    assert guessing.checks
    for stepper in (plain, guessing):
        stepper.start(ids, np.ones_like(ids))
    wanted = np.concatenate([plain.advance(np.array([token])) for token in (8, 9, 10)])
    found = guessing.check(np.array([8, 20, 21]))[:1]
    guessing.forget(2)
    found = np.concatenate([found, guessing.check(np.array([9, 10]))])
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4 * np.abs(wanted).max())
    assert {value.device_name() for value in guessing._cache.values()} == {"cuda"}


@pytest.mark.parametrize("compile", [False, True])
def test_a_replayed_step_is_the_plain_one(compile: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fixed, "_LEAST", 8)
    module = tiny_model("gpt2").to("cuda").module
    ours, plain = fixed.FixedStepper(module, "cuda", compile=compile), CachedStepper(module, "cuda")
    ids = np.array([[0, 0, 5, 6], [7, 8, 9, 10], [0, 11, 12, 13], [0, 0, 0, 14]])
    mask = (ids > 0).astype(np.int64)
    for _ in range(2):  # another time in the room that is there
        found, wanted = ours.start(ids, mask), plain.start(ids, mask)
        for step in range(20):
            np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
            if step == 6:
                for stepper in (ours, plain):
                    stepper.select(np.array([2, 0]))
                found, wanted = found[[2, 0]], wanted[[2, 0]]
            tokens = wanted.argmax(axis=1)
            found, wanted = ours.advance(tokens), plain.advance(tokens)
    assert ours._room is not None
    assert ours._room._graph is not None


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_a_replayed_step_in_a_lower_precision_is_near(precision: str) -> None:
    module = tiny_model("gpt2").to("cuda").module
    ours, plain = (kind(module, "cuda", precision=precision) for kind in (fixed.FixedStepper, CachedStepper))
    ids, mask = np.array([[0, 5, 6], [7, 8, 9]]), np.array([[0, 1, 1], [1, 1, 1]])
    found, wanted = ours.start(ids, mask), plain.start(ids, mask)
    for _ in range(4):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=5e-2 * np.abs(wanted).max())
        tokens = wanted.argmax(axis=1)
        found, wanted = ours.advance(tokens), plain.advance(tokens)


def test_a_step_that_waits_for_the_device_goes_on_without_a_graph() -> None:
    module = tiny_model("gpt2").to("cuda").module
    module.net.lm_head.register_forward_hook(lambda layer, given, logits: print(logits.sum().item()))  # type: ignore[union-attr, operator]
    ours, plain = fixed.FixedStepper(module, "cuda"), CachedStepper(module, "cuda")
    ids, mask = np.array([[0, 5, 6], [7, 8, 9]]), np.array([[0, 1, 1], [1, 1, 1]])
    found, wanted = ours.start(ids, mask), plain.start(ids, mask)
    for _ in range(3):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-4)
        tokens = wanted.argmax(axis=1)
        found, wanted = ours.advance(tokens), plain.advance(tokens)
    assert ours._room is not None
    assert ours._room._graph is None


def test_no_step_of_generation_waits_for_the_device_but_to_read_its_tokens() -> None:
    import torch

    stepper = fixed.FixedStepper(tiny_model("gpt2").to("cuda").module, "cuda")
    stepper.best(stepper.start(np.array([[5, 6]]), np.ones((1, 2), dtype=np.int64)).argmax(axis=1))
    room = stepper._room
    assert room is not None
    torch.cuda.set_sync_debug_mode("error")
    try:
        room.run()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _rows(model: zoo.Model) -> list[Any]:
    rows = CASES[model.task.name].rows
    assert rows is not None
    return rows(model.task)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
@pytest.mark.parametrize("name", NAMES)
def test_embeddings_in_a_lower_precision_are_near(name: str, precision: str) -> None:
    model = tiny_model(name).to("cuda")
    raws = model.task.samples()
    exact = model.embed(raws)
    model.precision = precision
    assert 0 < np.abs(model.embed(raws) - exact).max() < 0.05 * np.abs(exact).max()
