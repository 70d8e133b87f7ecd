"""What only a CUDA device can show. Skipped, with the reason, where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.cases import CASES, trainable
from tests.conformance.conftest import tiny_model

pytestmark = pytest.mark.gpu
NAMES = ["bert-base-cased", "resnet18", "wav2vec2-base", "wav2vec2-large"]


@pytest.mark.parametrize("name", NAMES)
def test_cuda_embeds_as_the_cpu_does(name: str) -> None:
    model = tiny_model(name)
    raws = model.task.samples()
    on_cpu = model.embed(raws)
    np.testing.assert_allclose(model.to("cuda").embed(raws), on_cpu, atol=5e-3)
    assert model.accelerated


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
