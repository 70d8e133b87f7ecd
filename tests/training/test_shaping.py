"""What shapes training beside the optimiser: layers at rates of their own, averaged weights, other losses."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.layers import BatchNormAct2d
from timm.optim import param_groups_layer_decay
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from tests.tiny import tiny
from tests.training.test_optimizers import FAST, STEADY, check_resumes
from tests.training.tiny import distance, run, text_world, weights
from zoo import backends, catalog
from zoo.errors import ConfigError
from zoo.training import TrainConfig, evaluate, optim
from zoo.training.averaging import Average
from zoo.training.layers import depths

# Layers.


def _module(name: str) -> Any:
    spec = tiny(catalog.info(name))
    task = next(task for task in spec.tasks if task != "feature-extraction")
    labels = ("<pad>", "|", "a") if task == "automatic-speech-recognition" else ("a", "b", "c")
    return backends.build(spec, task=task, labels=labels, seed=0)


def _rates(module: Any, **options: Any) -> dict[str, float]:
    groups = optim.parameter_groups(module, TrainConfig(learning_rate=1.0, **options), "text")
    by_id = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
    return {name: by_id[id(parameter)] for name, parameter in module.net.named_parameters()}


@pytest.mark.parametrize("name", ["vit-b-16", "swin-tiny", "convnext-tiny", "resnet50"])
def test_layers_of_timms_models_are_timms(name: str) -> None:
    module = _module(name)
    expected = {
        id(parameter): group["lr_scale"]
        for group in param_groups_layer_decay(module.net, layer_decay=0.6)
        for parameter in group["params"]
    }
    found = _rates(module, layer_decay=0.6)
    assert found == pytest.approx({n: expected[id(p)] for n, p in module.net.named_parameters()})
    assert len({round(rate, 9) for rate in found.values()}) > 3


@pytest.mark.parametrize(
    ("name", "bottom", "first", "last"),
    [
        ("bert-base-cased", "bert.embeddings.", "bert.encoder.layer.0.", "bert.encoder.layer.1."),
        ("deberta-v3-small", "deberta.encoder.rel_embeddings.", "deberta.encoder.layer.0.", "deberta.encoder.layer.1."),
        ("gpt2", "transformer.w", "transformer.h.0.", "transformer.h.1."),
        ("wav2vec2-base", "wav2vec2.feature_extractor.", "wav2vec2.encoder.layers.0.", "wav2vec2.encoder.layers.1."),
        ("t5-small", "shared.", "encoder.block.0.", "decoder.block.1."),
    ],
)
def test_layers_of_transformers(name: str, bottom: str, first: str, last: str) -> None:
    module = _module(name)
    places, top = depths(module)

    def at(prefix: str) -> set[int]:
        found = {place for key, place in places.items() if key.startswith(prefix)}
        assert found, prefix
        return found

    assert (at(bottom), at(first), at(last)) == ({0}, {1}, {top - 1})
    assert all(places[key] == top for key in places if module.in_head(key))
    rates = _rates(module, layer_decay=0.5, head_lr_scale=3.0)
    for key, rate in rates.items():
        assert rate == pytest.approx(3.0 if module.in_head(key) else 0.5 ** (top - places[key])), key


def test_layer_decay_is_for_layers() -> None:
    with pytest.raises(ConfigError, match=r"WideAndDeep has no layers one above the other"):
        depths(
            backends.build(tiny(catalog.info("wide-and-deep")), task="tabular-regression", labels=("value",), seed=0)
        )
    with pytest.raises(ConfigError, match=r"method='head' trains none; leave it out"):
        TrainConfig(layer_decay=0.8, method="head")


def test_layer_decay_with_a_method_and_the_rate_that_is_shown() -> None:
    options = {**FAST, "scheduler": "constant", "warmup_ratio": 0.0, "layer_decay": 0.5}
    world = text_world()
    history, _ = run(world, method="lora", **options)
    assert history[-1]["learning_rate"] == pytest.approx(1e-3)
    rates = _rates_of_trained(world.module)
    assert {round(rate, 3) for key, rate in rates.items() if "layer.0." in key} == {0.25}
    assert {round(rate, 3) for key, rate in rates.items() if "layer.1." in key} == {0.5}


def _rates_of_trained(module: Any) -> dict[str, float]:
    config = TrainConfig(learning_rate=1.0, layer_decay=0.5, method="lora")
    with optim.trainable(module, config):
        groups = optim.parameter_groups(module, config, "text")
        by_id = {id(parameter): group["lr"] for group in groups for parameter in group["params"]}
        return {name: by_id[id(p)] for name, p in module.net.named_parameters() if p.requires_grad}


# Averaged weights.


def test_the_average_is_torchs() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 1), BatchNormAct2d(2), torch.nn.Flatten(), torch.nn.Linear(2, 2))
    module[3].weight = module[0].weight  # tied, if not in earnest
    ours, theirs = Average(module, 0.5), AveragedModel(module, multi_avg_fn=get_ema_multi_avg_fn(0.5), use_buffers=True)
    theirs.n_averaged += 1
    for step in range(100, 103):  # where its warm-up has ended
        with torch.no_grad():
            for parameter in module.parameters():
                parameter += torch.randn_like(parameter)
            module[1].running_mean += 1
            module[1].num_batches_tracked += 1
        ours.update(step)
        theirs.update_parameters(module)
    expected = dict(theirs.module.state_dict())
    before = weights(module)
    found = ours.state()
    assert int(found["1.num_batches_tracked"]) == 3
    for name in expected.keys() - {"1.num_batches_tracked"}:
        assert torch.allclose(found[name], expected[name]), name
    assert distance(weights(module), before) == 0.0
    ours.apply()
    assert distance(weights(module), found) == 0.0


@pytest.mark.parametrize("method", ["full", "lora"])
def test_the_average_is_what_is_validated_and_kept(method: str) -> None:
    world, plain = text_world(), text_world()
    history, losses = run(world, ema_decay=0.99, method=method, **STEADY)
    raw, expected = run(plain, method=method, **STEADY)
    assert losses == expected, "training itself must be the same"
    assert history[-1]["val_loss"] != pytest.approx(raw[-1]["val_loss"], abs=1e-5)
    report = evaluate(world.module, world.task, world.encoder, world.held_out)
    assert report.metrics["accuracy"] == max(record["accuracy"] for record in history)
    first = text_world()
    last, _ = run(first, ema_decay=0.99, method=method, val=False, **STEADY)
    assert 0.0 < distance(weights(first.module), weights(plain.module)) < 0.1
    assert "val_loss" not in last[-1]


def test_the_average_starts_where_the_weights_do() -> None:
    module = torch.nn.Linear(1, 1)
    average, start = Average(module, 0.999), copy.deepcopy(module)
    with torch.no_grad():
        module.weight += 1.0
    average.update(1)
    assert float(average.state()["weight"] - start.weight.detach()) == pytest.approx(1 - 2 / 11, abs=1e-6)


@pytest.mark.parametrize("method", ["full", "adalora"])
def test_resumed_with_an_average(method: str, tmp_path: Path) -> None:
    check_resumes(tmp_path, at=11, ema_decay=0.9, layer_decay=0.7, method=method, optimizer="lion")


# Losses.


def test_focal_loss_in_a_run() -> None:
    def first(**options: Any) -> float:
        return run(text_world("token-classification"), max_steps=1, batch_size=8, **options)[1][0]

    plain = first()
    assert first(loss="focal", focal_gamma=0.0) == pytest.approx(plain, abs=1e-6)
    assert first(loss="focal") < first(loss="focal", focal_gamma=1.0) < plain
    with pytest.raises(ConfigError, match=r"focal_gamma=2\.0 goes with loss='focal'; give both, or neither"):
        TrainConfig(focal_gamma=2.0)
