"""Every family of the catalogue and every task of it: exported, compared with torch, and answering like it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import zoo
from tests.conformance.conftest import tiny_model
from tests.tiny import FAMILIES
from zoo import parity

CASES = [(family, task) for family in FAMILIES for task in zoo.info(family).tasks]


@pytest.mark.parametrize(("family", "task"), CASES, ids=[f"{family}-{task}" for family, task in CASES])
def test_the_bundle_answers_as_torch_does(family: str, task: str, tmp_path: Path) -> None:
    model = tiny_model(family, task)
    model.export(tmp_path / "a.bundle")
    zoo.verify(tmp_path / "a.bundle")
    bundle = zoo.runtime.load(tmp_path / "a.bundle")
    assert bundle.card.parity is not None
    assert bundle.card.parity.passed
    assert bundle.card.parity.agreement == 1.0
    assert bundle.labels == model.labels
    raws = parity.builtin_samples(model.spec)[::-1]
    if task == "feature-extraction":
        expected = model.embed(raws)
        np.testing.assert_allclose(
            bundle.embed(raws), expected, rtol=0, atol=1e-4 * max(1.0, float(abs(expected).max()))
        )
    elif task == "text-generation":
        options = {"max_new_tokens": 4, "do_sample": True, "seed": 3}
        assert [r.text for r in bundle.predict(raws, **options)] == [r.text for r in model.predict(raws, **options)]
    else:
        ours, theirs = ([parity_key(r) for r in p.predict(raws)] for p in (bundle, model))
        assert ours == theirs


def parity_key(result: object) -> object:
    """A result without its scores."""
    if isinstance(result, zoo.results.Classification):
        return result.label
    if isinstance(result, zoo.results.Transcript):
        return result.text
    assert isinstance(result, list)
    return [(entity.label, entity.start, entity.end) for entity in result]
