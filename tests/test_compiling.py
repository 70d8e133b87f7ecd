"""Answers by torch's compiler: those of the module as it is, of batches of any size, and no trace afterwards."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.utils

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny, widen
from zoo.errors import ConfigError

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
TEXTS = ["a film", "another film that is rather longer", "one", "two of them", "the last"]


@pytest.fixture
def graphs() -> Any:
    """How many graphs were compiled so far in this test."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    return lambda: torch._dynamo.utils.counters["stats"]["unique_graphs"]


def text_model(**options: Any) -> zoo.Model:
    spec = tiny(zoo.info("bert-base-cased"))
    # A layer less is many seconds less of the C++ compiler.
    small = spec.evolve(config={**spec.config, "num_hidden_layers": 1})
    labels = ["a", "b"]
    return widen(
        zoo.load(small, task="text-classification", labels=labels, weights=None, device="cpu", seed=0, **options)
    )


def scores(model: zoo.Model, **options: Any) -> list[float]:
    return [score.score for found in model.predict(TEXTS, **options) for score in found.top]


@needs_compiler
def test_texts_are_answered_by_one_graph_whatever_their_number_and_length(graphs: Any) -> None:
    plain, compiled = text_model(), text_model(compile=True)
    assert np.ptp([found.top[0].score for found in plain.predict(TEXTS)]) > 1e-2
    assert scores(compiled, batch_size=3) == pytest.approx(scores(plain), abs=1e-5)
    assert scores(compiled, batch_size=5) == pytest.approx(scores(plain), abs=1e-5)
    assert graphs() == 1
    # Neither what learns nor what is saved knows of it.
    assert compiled.module._compiled_call_impl is None
    with torch.no_grad():
        for model in (plain, compiled):
            model.module.net.classifier.bias[0] += 1  # type: ignore[union-attr, operator, index]
    assert scores(compiled, batch_size=5) == pytest.approx(scores(plain), abs=1e-5)
    assert graphs() == 1


@needs_compiler
def test_embeddings_and_reports_are_compiled_too(graphs: Any) -> None:
    plain, compiled = text_model(), text_model(compile=True)
    np.testing.assert_allclose(compiled.embed(TEXTS, batch_size=5), plain.embed(TEXTS), atol=1e-5)
    assert graphs() == 1
    rows = [(text, "a") for text in TEXTS]
    found, expected = compiled.evaluate(rows, batch_size=5), plain.evaluate(rows)
    assert graphs() == 2
    assert found.metrics == pytest.approx(expected.metrics)


@needs_compiler
def test_images_are_compiled_for_their_size(graphs: Any) -> None:
    plain = tiny_model("resnet18")
    raws = plain.task.samples()
    expected = [found.top[0].score for found in plain.predict(raws)]
    plain.compile = True
    assert [found.top[0].score for found in plain.predict(raws)] == pytest.approx(expected, abs=1e-5)
    assert graphs() == 1


def test_a_compiler_that_is_not_there_is_said_when_a_model_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match=r"compile=True needs a C\+\+ compiler"):
        text_model(compile=True)
