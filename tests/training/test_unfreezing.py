"""Gradual unfreezing: which layers a step trains, on networks of each backend, and a run that is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conformance.conftest import tiny_model
from tests.training.tiny import distance, run, text_world, timeless, weights
from zoo.errors import ConfigError
from zoo.training import TrainConfig
from zoo.training.unfreezing import Unfreezing


@pytest.mark.parametrize(
    ("name", "task", "order"),
    [
        ("bert-base-cased", "text-classification", ["classifier", "encoder.layer.1", "encoder.layer.0", "embeddings"]),
        ("resnet18", "image-classification", ["fc", "layer4.0", "layer1.0"]),
        ("resnext50-32x4d", "image-classification", ["fc", "layer4.0", "layer1.0"]),
        ("wav2vec2-base", "audio-classification", ["classifier", "encoder.layers.1", "encoder.layers.0",
                                                   "feature_extractor"]),
        ("distilgpt2", "text-generation", ["h.1", "h.0", "wte"]),
    ],
)  # fmt: skip
def test_thaws_from_the_top_down(name: str, task: str, order: list[str]) -> None:
    module: Any = tiny_model(name, task).module
    unfreezing = Unfreezing(module, 0.5, 100)
    thawed: dict[str, int] = {}
    module.train()
    for step in range(100):
        unfreezing.at(step)
        for key, parameter in module.net.named_parameters():
            if parameter.requires_grad:
                thawed.setdefault(key, step)
        for key, part in module.net.named_modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                assert part.training == part.weight.requires_grad, f"{key} keeps its statistics while it is frozen"
    assert max(thawed.values()) <= 50
    assert len(thawed) == len(list(module.net.parameters()))
    steps = [{when for key, when in thawed.items() if part in key} for part in order]
    assert all(len(found) == 1 for found in steps), dict(zip(order, steps, strict=True))
    firsts = [min(found) for found in steps]
    assert firsts[0] == 0
    assert firsts == sorted(set(firsts))


def test_what_the_user_froze_stays_frozen() -> None:
    module: Any = tiny_model("bert-base-cased", "text-classification").module
    module.net.bert.embeddings.requires_grad_(False)
    Unfreezing(module, 0.5, 10).at(9)
    assert not any(parameter.requires_grad for parameter in module.net.bert.embeddings.parameters())
    assert all(parameter.requires_grad for parameter in module.net.bert.encoder.parameters())


def test_frozen_layers_rest_and_a_resumed_run_is_the_uninterrupted_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"epochs": 3, "batch_size": 8, "gradual_unfreezing": 0.7, "learning_rate": 1e-3}
    whole = text_world(dropout=0.1)
    before, seen = weights(whole.module), {}

    def look(record: dict[str, Any]) -> None:
        seen[record["epoch"]] = {key for key, tensor in weights(whole.module).items() if not before[key].equal(tensor)}

    expected, _ = run(whole, on_epoch=look, **options)
    assert any("layer.1." in key for key in seen[2])
    assert not any("embeddings" in key for key in seen[2])
    assert any("embeddings" in key for key in seen[3])
    assert all(parameter.requires_grad for parameter in whole.module.parameters())

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(text_world(dropout=0.1), output_dir=tmp_path, on_epoch=stop, **options)
    resumed = text_world(dropout=0.1)
    history, _ = run(resumed, output_dir=tmp_path, resume=True, **options)
    assert timeless(history) == timeless(expected)
    assert distance(weights(resumed.module), weights(whole.module)) == 0.0


def test_goes_with_full_fine_tuning_alone() -> None:
    assert TrainConfig(gradual_unfreezing=True).gradual_unfreezing == 0.5
    assert TrainConfig(gradual_unfreezing=False).gradual_unfreezing is None
    with pytest.raises(ConfigError, match="goes with method='full'"):
        TrainConfig(gradual_unfreezing=0.3, method="lora")
