"""Each method of fine-tuning on one model of each kind of network: what moves, what is saved, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.cases import CASES
from tests.conformance.conftest import tiny_model
from zoo.errors import ConfigError
from zoo.inference import make_batch
from zoo.training import methods

MODELS = {
    "bert-base-cased": "token-classification",
    "distilgpt2": "text-generation",
    "t5-small": "summarization",
    "resnet18": "image-classification",
    "mobilenetv2": "image-classification",
    "wav2vec2-base-960h": "automatic-speech-recognition",
}
METHODS: dict[str, Any] = {
    "full": "full",
    "gradual": "full",
    "head": "head",
    "lora": "lora",
    "adalora": "adalora",
    "ia3": "ia3",
    "adapter": "adapter",
    "prefix": "prefix",
    "prompt": "prompt",
    "loha": {"peft_type": "LOHA", "r": 2},
}
REFUSED = {
    *((name, method) for name in ("t5-small", "resnet18", "mobilenetv2", "wav2vec2-base-960h") for method in ("prefix",
                                                                                                        "prompt")),
    *((name, "head") for name in ("distilgpt2", "t5-small")),
    ("distilgpt2", "loha"),
}  # fmt: skip


def outputs(model: zoo.Model) -> np.ndarray[Any, Any]:
    windows = [model.task.probe(model.encoder, raw, model.task.parse_options(model.task.sample_options))[0]
               for raw in model.task.samples()]  # fmt: skip
    return model.forward(make_batch(model.encoder, model.task, windows))["logits"]


def step(model: zoo.Model, method: str) -> zoo.Model:
    rows = CASES[model.task.name].rows
    assert rows is not None
    options: dict[str, Any] = {"gradual_unfreezing": 0.9} if method == "gradual" else {}
    return model.finetune(
        rows(model.task), val=None, method=METHODS[method], max_steps=1, batch_size=3, learning_rate=1e-2,
        warmup_ratio=0.0, augment="none", lint=False, progress=False, **options,
    )  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", MODELS)
def test_moves_what_it_should_and_is_the_same_when_loaded(
    name: str, method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task = MODELS[name]
    model = tiny_model(name, task)
    module: Any = model.module
    assert (method in methods.fitting(module)) == ((name, method) not in REFUSED) or method in ("gradual", "loha")
    model.save(tmp_path / "base")
    before = {key: tensor.clone() for key, tensor in module.net.state_dict().items()}
    if (name, method) in REFUSED:
        with pytest.raises(ConfigError, match=rf'method=.{method}.*("lora"|takes: full, .*lora)|peft can.t do this'):
            step(model, method)
        assert module.adapted is None
        assert all(before[key].equal(tensor) for key, tensor in module.net.state_dict().items())
        assert all(parameter.requires_grad for parameter in module.net.parameters())
        return
    step(model, method)
    after = methods.plain_state(module)
    moved = {key for key in before if not before[key].equal(after[key])}
    body, head = {key for key in moved if not module.in_head(key)}, {key for key in moved if module.in_head(key)}
    if method == "full":
        assert len(body) > 3
    elif method == "gradual":
        assert len(body) < len(before) / 2, "the lower layers are frozen in the first step"
        assert head or body
    else:
        assert not body, "the body is frozen"
    assert head or not any(True for _ in module.head_parameters())
    assert all(parameter.requires_grad for parameter in module.net.parameters() if parameter.numel() > 1)
    model.save(tmp_path / "whole")
    again = zoo.load(tmp_path / "whole", device="cpu")
    close = 1e-4 * max(1.0, float(np.abs(outputs(model)).max()))
    np.testing.assert_allclose(outputs(again), outputs(model), rtol=0, atol=close)
    options = CASES[task].options
    raws = model.task.samples()
    ours, theirs = model.predict(raws, **options), again.predict(raws, **options)
    assert all(model.task.same(a, b) for a, b in zip(ours, theirs, strict=True))
    if module.adapted is not None:
        assert "took no part" not in caplog.text, "an inserted part that is in nobody's forward pass"
        _inserted_parts_moved(model)
        _alone_on_the_base(model, tmp_path)


def _inserted_parts_moved(model: zoo.Model) -> None:
    module: Any = model.module
    fresh: Any = tiny_model(model.spec.name, model.task.name).module
    methods.insert(fresh, module.adapted.plan, seed=0)
    first, now = fresh.net.state_dict(), module.net.state_dict()
    inserted = [key for key in first if module.adapted.is_adapter(key)]
    assert any(not first[key].equal(now[key]) for key in inserted)


def _alone_on_the_base(model: zoo.Model, folder: Path) -> None:
    model.save_adapter(folder / "alone")
    # Not built for the adapter's task: that comes with it.
    base = zoo.load(folder / "base", task="feature-extraction" if "feature-extraction" in model.spec.tasks else None)
    base.load_adapter(folder / "alone")
    assert (base.task.name, base.labels, base.spec) == (model.task.name, model.labels, model.spec)
    np.testing.assert_array_equal(outputs(base), outputs(model))
