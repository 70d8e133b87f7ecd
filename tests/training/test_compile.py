"""Training with torch.compile: the same losses and weights as without, in ragged batches, and no trace afterwards."""

from __future__ import annotations

import shutil

import pytest
import torch._dynamo.utils

from tests.training.tiny import distance, run, text_world, weights
from zoo.errors import ConfigError

OPTIONS = {"epochs": 1, "batch_size": 8, "learning_rate": 1e-3, "max_steps": 4}


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
def test_a_compiled_run_is_the_plain_one_to_rounding() -> None:
    # A layer less is many seconds less of the C++ compiler.
    plain, compiled = text_world(layers=1), text_world(layers=1)
    _, expected = run(plain, **OPTIONS)
    torch._dynamo.utils.counters.clear()
    _, found = run(compiled, compile=True, **OPTIONS)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert len(found) == 4
    assert found == pytest.approx(expected, abs=1e-5)
    # The same names too: nothing of what compiled it is in the module.
    assert distance(weights(plain.module), weights(compiled.module)) < 1e-4
    assert compiled.module._compiled_call_impl is None


def test_no_compiler_is_said_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ConfigError, match="compile=True needs a C\\+\\+ compiler"):
        run(text_world(), compile=True, **OPTIONS)
