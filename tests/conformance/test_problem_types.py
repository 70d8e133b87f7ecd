"""Several labels and numbers, in every modality and backend: trained a step, exported, and answered alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import zoo
from tests.tiny import settle, tiny

MULTI, REGRESSION = "multi_label_classification", "regression"
CASES = (
    ("bert-base-cased", MULTI),
    ("bert-base-cased", REGRESSION),
    ("wav2vec2-base", MULTI),
    ("resnet18", MULTI),
    ("efficientnet-lite0", REGRESSION),
)
TARGETS: dict[str, list[Any]] = {
    MULTI: [["a"], ["b", "c"], []],
    REGRESSION: [0.5, 2, -1.25],
}


@pytest.mark.parametrize(("name", "problem"), CASES, ids=["-".join(case) for case in CASES])
def test_trained_exported_and_answered_alike(name: str, problem: str, tmp_path: Path) -> None:
    spec = tiny(zoo.info(name))
    task = next(
        task for task in spec.tasks if task in ("text-classification", "image-classification", "audio-classification")
    )
    model = settle(zoo.load(spec, task=task, labels=["x", "y"], weights=None, device="cpu", seed=0))
    raws = model.task.samples()[-4:]
    rows = [(raw, TARGETS[problem][i % 3]) for i, raw in enumerate(raws)]
    model.finetune(rows, val=None, max_steps=1, batch_size=4, learning_rate=1e-3, output_dir=tmp_path / "run")
    assert model.spec.problem_type == problem
    assert model.evaluate(rows).rows == 4
    bundle = model.export(tmp_path / "a.bundle")
    assert bundle.card.spec.problem_type == problem
    assert bundle.labels == model.labels
    assert bundle.card.parity is not None
    assert bundle.card.parity.agreement == 1.0
    ours, theirs = bundle.predict(raws), model.predict(raws)
    assert all(model.task.same(a, b) for a, b in zip(ours, theirs, strict=True))
