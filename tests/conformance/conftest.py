"""Every entry of the catalogue, at tiny size."""

from __future__ import annotations

import pytest

import zoo
from tests.conformance.cases import labels_for
from tests.tiny import settle, tiny


def tiny_model(name: str, task: str | None = None) -> zoo.Model:
    spec = tiny(zoo.info(name))
    chosen = task or spec.tasks[0]
    return settle(zoo.load(spec, task=chosen, labels=labels_for(chosen, spec), weights=None, device="cpu", seed=0))


@pytest.fixture(params=zoo.list_models())
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)
