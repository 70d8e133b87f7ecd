"""Every family of the catalogue and every task of it: exported, compared with torch, and answering like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.conformance.cases import CASES
from tests.conformance.conftest import tiny_model
from tests.tiny import FAMILIES, widen
from zoo.tasks.sequences import SequenceOptions

# Of families that share all of another's code and differ in options, or whose tasks are one network with one head: what
# is only theirs. Each task of each of them is built, trained and asked in torch by the other files here.
_ONLY = {
    **dict.fromkeys(
        ("hubert-large", "unispeech-sat-large", "wavlm-large", "wav2vec2-large-960h-lv60-self"),
        ("automatic-speech-recognition",),
    ),
    **dict.fromkeys(("unispeech-sat-base-plus-sv", "wavlm-base-plus-sv"), ("feature-extraction",)),
    **dict.fromkeys(
        ("coatnet-0", "efficientnetv2-m", "efficientvit-b0", "inception-v3", "inception-v4", "maxvit-tiny",
         "mobilenetv2", "seresnet50", "swinv2-base", "xception41"),
        ("image-classification",),
    ),
    "flan-t5-base": ("summarization",),
    "mt5-base": ("translation",),
}  # fmt: skip
# Networks of images that give nearly the same for each at small random weights.
_FAINT = (
    "conditional-detr-resnet-50",
    "deformable-detr",
    "detr-resnet-101",
    "dinov2-base",
    "dinov2-small",
    "eva02-small",
)
# Metrics of the order of scores: rows of one picture have the same ones, but for rounding.
_RANKING = ("auroc", "average_precision", "map", "mar_", "recall@")
FAMILY_TASKS = [
    (family, task) for family in FAMILIES for task in zoo.info(family).tasks if task in _ONLY.get(family, (task,))
]
assert {family for family, _ in FAMILY_TASKS} == set(FAMILIES)


@pytest.mark.parametrize(("family", "task"), FAMILY_TASKS, ids=[f"{f}-{t}" for f, t in FAMILY_TASKS])
def test_the_bundle_answers_as_torch_does(family: str, task: str, tmp_path: Path) -> None:
    model = tiny_model(family, task)
    if model.spec.modality in ("text", "audio") or family in _FAINT:
        widen(model)
    model.export(tmp_path / "a.bundle")
    zoo.verify(tmp_path / "a.bundle")
    bundle = zoo.runtime.load(tmp_path / "a.bundle")
    assert bundle.card.parity is not None
    assert bundle.card.parity.passed
    assert bundle.card.parity.agreement == 1.0
    assert bundle.labels == model.labels
    raws = model.task.samples()[::-1]
    if task == "feature-extraction":
        expected = model.embed(raws)
        np.testing.assert_allclose(
            bundle.embed(raws), expected, rtol=0, atol=1e-4 * max(1.0, float(abs(expected).max()))
        )
    elif task == "text-generation":
        options = {"max_new_tokens": 4, "do_sample": True, "seed": 3}
        assert [r.text for r in bundle.predict(raws, **options)] == [r.text for r in model.predict(raws, **options)]
    else:
        options = CASES[task].options
        ours, theirs = (p.predict(raws, **options) for p in (bundle, model))
        assert len(ours) == len(raws)
        assert all(model.task.same(a, b) for a, b in zip(ours, theirs, strict=True))
    rows = CASES[task].rows
    if rows is not None and model.task.metric:
        short = {"max_new_tokens": 5} if issubclass(model.task.options, SequenceOptions) else None
        found, expected = (zoo.evaluate(it, rows(model.task), generation=short).metrics for it in (bundle, model))
        assert set(found) == set(expected)
        steady = {name for name in expected if not any(part in name for part in _RANKING)}
        assert {name: found[name] for name in steady} == pytest.approx(
            {name: expected[name] for name in steady}, nan_ok=True, rel=1e-3, abs=1e-3
        )
