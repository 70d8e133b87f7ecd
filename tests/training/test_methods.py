"""Parameter-efficient methods: what is trained, what is saved, what is merged, and that it learns."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
from torch import nn

import zoo
from tests.conformance.cases import CASES
from tests.conformance.conftest import tiny_model
from tests.tiny import tiny
from tests.training.tiny import distance, run, text_world, timeless, weights
from zoo.errors import AdapterError, BundleError, ConfigError
from zoo.inference import make_batch
from zoo.training import TrainConfig, methods
from zoo.training.methods import targets
from zoo.training.methods.bottleneck import Bottleneck

OPTIONS: dict[str, Any] = {"epochs": 8, "batch_size": 8, "warmup_ratio": 0.0}
INSERTED = ("lora", "adalora", "ia3", "adapter", "prefix", "prompt")
MERGED = ("lora", "adalora", "ia3")


def outputs(model: zoo.Model) -> np.ndarray[Any, Any]:
    windows = [model.task.encode(model.encoder, raw)[0] for raw in model.task.samples()]
    return model.forward(make_batch(model.encoder, model.task, windows))["logits"]


def tuned(name: str, task: str, method: Any, **options: Any) -> zoo.Model:
    model = tiny_model(name, task)
    rows = CASES[task].rows
    assert rows is not None
    given = {"epochs": 3, "batch_size": 3, "learning_rate": 1e-2, "augment": "none", "progress": False, **options}
    return model.finetune(rows(model.task), val=None, method=method, **given)


@pytest.mark.parametrize("method", INSERTED)
def test_the_body_is_frozen_and_the_loss_falls(method: str) -> None:
    world = text_world("token-classification")
    before = methods.body_digest(world.module)
    flags = [p.requires_grad for p in world.module.parameters()]
    history, _ = run(world, method=method, learning_rate=3e-2 if method == "prompt" else 1e-2, **OPTIONS)
    assert history[-1]["train_loss"] < 0.95 * history[0]["train_loss"]
    module: Any = world.module
    assert methods.body_digest(module) == before
    assert all(flags)
    assert all(p.requires_grad for name, p in module.net.named_parameters() if "ranknum" not in name)


def test_gradients_reach_the_adapters_and_the_head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    world, seen = text_world(), {}

    def look(self: Any, net: nn.Module, step: int) -> None:
        grads = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
        seen.update({name: float(grad.abs().sum()) for name, grad in grads.items()})

    module: Any = world.module
    changed = targets.layers(module)
    sizes = {name: list(layer.weight.shape) for name, layer in changed.items()}  # type: ignore[arg-type, union-attr]
    assert len(sizes) == 2 * 6 + 1, "two layers of BERT, and its pooler"
    monkeypatch.setattr("zoo.training.methods.peft.PeftLayers.after_step", look)
    run(world, method="lora", lora_rank=4, max_steps=3, **{**OPTIONS, "learning_rate": 1e-2})
    assert seen
    assert all(".lora_" in name or name.startswith("classifier.") for name in seen)
    assert all(value > 0 for value in seen.values())
    layer = module.net.get_submodule("bert.encoder.layer.0.attention.self.query")
    assert {p.shape for p in layer.lora_A.parameters()} == {(4, 32)}
    trained = sum(p.numel() for name, p in module.net.named_parameters() if ".lora_" in name)
    assert trained == sum(4 * sum(shape) for shape in sizes.values())


@pytest.mark.parametrize("method", MERGED)
@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert-base-cased", "token-classification"),
        ("gpt2", "text-generation"),
        ("resnet18", "image-classification"),
        ("efficientnet-lite0", "image-classification"),
        ("wav2vec2-base-960h", "automatic-speech-recognition"),
    ],
)
def test_merged_is_unmerged_and_the_live_model_stays(method: str, name: str, task: str) -> None:
    model = tuned(name, task, method)
    live, state = outputs(model), weights(model.module)
    if method == "lora" and name != "efficientnet-lite0":
        assert model.history[-1]["train_loss"] < model.history[0]["train_loss"]
    copied = copy.copy(model)
    copied.module = methods.merged(model.module)
    assert copied.module.adapted is None
    assert not any(hasattr(part, "get_base_layer") for part in copied.module.modules())
    # A deep network of random weights magnifies the last bit.
    close = {"atol": 1e-5 * max(1.0, float(np.abs(live).max())), "rtol": 2e-4 if name == "efficientnet-lite0" else 0}
    np.testing.assert_allclose(outputs(copied), live, **close)
    assert distance(weights(model.module), state) == 0.0
    model.merge()
    np.testing.assert_allclose(outputs(model), live, **close)
    assert model.module.net.state_dict().keys() == tiny_model(name, task).module.net.state_dict().keys()


@pytest.mark.parametrize(
    ("name", "task", "method"),
    [
        ("bert-base-cased", "text-classification", "lora"),
        ("roberta-base", "token-classification", "prompt"),
        ("resnet18", "image-classification", "adapter"),
    ],
)
def test_saved_alone_and_put_onto_the_base(name: str, task: str, method: str, tmp_path: Path) -> None:
    model = tuned(name, task, method)
    expected = outputs(model)
    base = tiny_model(name, task)
    assert float(np.abs(outputs(base) - expected).max()) > 1e-4
    model.save_adapter(tmp_path / "adapter")
    again = base.load_adapter(tmp_path / "adapter")
    np.testing.assert_array_equal(outputs(again), expected)
    assert again.labels == model.labels
    model.save(tmp_path / "whole")
    np.testing.assert_allclose(outputs(zoo.load(tmp_path / "whole", device="cpu")), expected, atol=1e-5)
    again.save_adapter(tmp_path / "twice")
    assert zoo.verify(tmp_path / "twice") == zoo.verify(tmp_path / "adapter")


def test_an_adapter_brings_its_problem_its_input_and_its_pooler(tmp_path: Path) -> None:
    model = zoo.load(tiny(zoo.info("bert-base-cased")), weights=None, device="cpu", seed=0, input={"max_length": 40})
    rows = [("some text", ["a", "b"]), ("another", []), ("a third text", ["b"])]
    model.finetune(rows, val=None, method="lora", max_steps=2, lint=False, progress=False, learning_rate=1e-2)
    model.save_adapter(tmp_path / "adapter")
    base = zoo.load(tiny(zoo.info("bert-base-cased")), weights=None, device="cpu", seed=0)
    with torch.no_grad():
        # As of a checkpoint that has none, which every process then draws for itself.
        base.module.net.get_submodule("pooler.dense").weight.add_(1.0)  # type: ignore[operator, union-attr]
    assert base.load_adapter(tmp_path / "adapter") is base
    assert base.spec.problem_type == "multi_label_classification"
    assert base.spec.input.max_length == base.encoder.input.max_length == 40  # type: ignore[attr-defined, union-attr]
    np.testing.assert_array_equal(outputs(base), outputs(model))


def test_what_cannot_be_merged_moves_along_to_a_new_head() -> None:
    model = tuned("bert-base-cased", "text-classification", "adapter")
    embedding = model.embed("some text")
    options: dict[str, Any] = {"val": None, "epochs": 1, "lint": False, "progress": False, "learning_rate": 1e-9}
    model.finetune([("a", "x"), ("b", "y"), ("c", "z")], method="adapter", **options)
    assert model.labels == ("x", "y", "z")
    np.testing.assert_allclose(model.embed("some text"), embedding, atol=1e-5)
    with pytest.raises(ConfigError, match=r"method='adapter' inserted.*can't follow"):
        model.finetune([("a", "q"), ("b", "r")], method="full", **options)


def test_an_adapter_is_small(tmp_path: Path) -> None:
    model = tuned("bert-base-cased", "text-classification", "lora", lora_rank=2)
    model.save_adapter(tmp_path / "adapter"), model.save(tmp_path / "whole")
    small, whole = ((tmp_path / name).joinpath(file).stat().st_size for name, file in (
        ("adapter", "adapter.safetensors"), ("whole", "model.safetensors")))  # fmt: skip
    assert small < whole / 5


def test_an_adapter_of_another_base_is_refused(tmp_path: Path) -> None:
    tuned("bert-base-cased", "text-classification", "lora").save_adapter(tmp_path / "adapter")
    other = tiny_model("bert-base-cased", "text-classification")
    with torch.no_grad():
        next(other.module.body_parameters()).add_(1e-3)
    with pytest.raises(AdapterError, match=r"was trained on .*bert-base-cased.*sha256"):
        other.load_adapter(tmp_path / "adapter")
    assert other.module.adapted is None
    with pytest.raises(AdapterError, match="trained on"):
        tiny_model("roberta-base", "text-classification").load_adapter(tmp_path / "adapter")
    with pytest.raises(BundleError, match="load_adapter"):
        zoo.load(tmp_path / "adapter")
    with pytest.raises(ConfigError, match="holds no adapter"):
        other.save_adapter(tmp_path / "none")
    other.save(tmp_path / "model")
    with pytest.raises(BundleError, match="holds a model, not an adapter"):
        other.load_adapter(tmp_path / "model")


def test_shapes_that_do_not_fit_are_named() -> None:
    module: Any = text_world().module
    with pytest.raises(AdapterError, match=r"down\.weight is missing"):
        methods.restored(module, methods.Plan("adapter", {"size": 4}), {})
    assert module.adapted is None
    assert not any(isinstance(part, Bottleneck) for part in module.modules())


@pytest.mark.parametrize("method", ["lora", "adalora", "adapter", "prompt"])
def test_a_resumed_run_is_the_uninterrupted_one(method: str, tmp_path: Path) -> None:
    options = {"epochs": 3, "batch_size": 8, "method": method, "learning_rate": 5e-3}
    whole = text_world(dropout=0.1)
    expected, _ = run(whole, **options)

    def stop(record: dict[str, Any]) -> None:
        if record["epoch"] == 2:
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        run(text_world(dropout=0.1), output_dir=tmp_path, on_epoch=stop, **options)
    resumed = text_world(dropout=0.1)
    history, losses = run(resumed, output_dir=tmp_path, resume=True, **options)
    assert len(losses) == 5
    assert timeless(history) == timeless(expected)
    assert distance(weights(resumed.module), weights(whole.module)) == 0.0


def test_adalora_shrinks_its_ranks() -> None:
    world = text_world()
    run(world, method="adalora", lora_rank=2, val=False, **{**OPTIONS, "learning_rate": 1e-2})
    module: Any = world.module
    ranks = [int((p != 0).sum()) for name, p in module.net.named_parameters() if "lora_E" in name]
    assert sum(ranks) <= 2 * len(ranks) < 3 * len(ranks)
    assert len(set(ranks)) > 1, "some layers keep more than others"


def test_accumulating_with_a_penalty_is_one_large_batch() -> None:
    found = []
    for size, times in ((12, 1), (3, 4)):
        world = text_world(rows=36)
        run(world, method="adalora", batch_size=size, gradient_accumulation=times, epochs=2, learning_rate=1e-3,
            optimizer="sgd")  # fmt: skip
        found.append(weights(world.module))
    assert distance(*found) < 1e-6


def test_a_config_of_peft_and_the_same_as_a_mapping() -> None:
    given = peft.LoHaConfig(r=4, target_modules=["query", "value"])
    config = TrainConfig(method=given)
    assert isinstance(config.method, dict)
    assert config.method["peft_type"] == "LOHA"
    tuned("bert-base-cased", "text-classification", peft.LoraConfig(r=2, use_dora=True, modules_to_save=["classifier"]))
    found = []
    for method in (given, config.method):
        model = tuned("bert-base-cased", "token-classification", method)
        found.append(weights(model.module))
        live = outputs(model)
        np.testing.assert_allclose(outputs(model.merge()), live, atol=1e-5)
    assert distance(*found) == 0.0
    for wrong, says in (
        ({"peft_type": "LORAX"}, "peft knows: .*LOHA"),
        ({"r": 4}, "without a peft_type"),
        ({"peft_type": "LORA", "rank": 3}, "refuses"),
        ({"peft_type": "PROMPT_TUNING"}, 'method="prompt"'),
        (peft.LoraConfig(r=2, init_lora_weights="pissa"), "changes the frozen weights"),
        (peft.LoraConfig(r=2, bias="all"), "bias='all'"),
        (peft.LoraConfig(r=2, modules_to_save=["classifier", "pooler"]), "modules_to_save names pooler"),
    ):
        with pytest.raises(ConfigError, match=says):
            tuned("bert-base-cased", "text-classification", wrong)


def test_one_method_after_another() -> None:
    model = tuned("bert-base-cased", "text-classification", "lora")
    rows = CASES["text-classification"].rows(model.task)  # type: ignore[misc]
    options: dict[str, Any] = {"val": None, "epochs": 1, "batch_size": 3, "progress": False}
    before = model.module
    model.finetune(rows, method="lora", **options)
    assert model.module is before
    live = outputs(model)
    model.finetune(rows, method="adapter", learning_rate=1e-9, **options)
    np.testing.assert_allclose(outputs(model), live, atol=1e-4)
    with pytest.raises(ConfigError, match="can't be merged"):
        model.merge()
    with pytest.raises(ConfigError, match=r"method='adapter' inserted.*can't follow"):
        model.finetune(rows, method="full", **options)


def test_other_labels_after_lora_merge_what_was_learned(tmp_path: Path) -> None:
    model = tuned("bert-base-cased", "text-classification", "lora")
    embedding = model.embed("some text")
    model.finetune([("a", "x"), ("b", "y"), ("c", "z")], val=None, epochs=1, learning_rate=1e-9, progress=False)
    assert model.labels == ("x", "y", "z")
    np.testing.assert_allclose(model.embed("some text"), embedding, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"method": "lora", "lora_targets": "nowhere"}, "no linear layer or convolution of the body is called that"),
        ({"method": "lora", "lora_rank": 0}, "lora_rank=0"),
        ({"method": "adapters"}, "method='adapters'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        run(text_world(), **options)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_prompts_are_for_texts(method: str) -> None:
    with pytest.raises(ConfigError, match=f"method='{method}' is for text models.*takes: full, head, lora"):
        tuned("resnet18", "image-classification", method)


@pytest.mark.parametrize("method", ["prompt", "prefix"])
def test_generating_with_a_cache_is_generating_without(method: str) -> None:
    model = tuned("gpt2", "text-generation", method)
    text = "once upon"
    tokens = model.predict(text, max_new_tokens=4, do_sample=False).text
    prompt = model.encoder.encode(text)[0].inputs["input_ids"]
    ids = torch.from_numpy(np.asarray(prompt))[None]
    with torch.no_grad():
        for _ in range(4):
            logits = model.module(input_ids=ids, attention_mask=torch.ones_like(ids))["logits"]
            ids = torch.cat((ids, logits[:, -1:].argmax(-1)), dim=1)
    continued = model.encoder.tokenizer.decode(ids[0, prompt.shape[0] :].tolist())  # type: ignore[attr-defined]
    assert continued.strip() in tokens or tokens.endswith(continued)


@pytest.mark.parametrize("method", ["lora", "prefix"])
def test_a_bundle_answers_as_the_adapted_model(method: str, tmp_path: Path) -> None:
    model = tuned("bert-base-cased", "token-classification", method)
    inserted = model.module.adapted
    bundle = model.export(tmp_path / "a.bundle")
    assert model.module.adapted is inserted
    assert bundle.card.parity is not None
    assert bundle.card.parity.passed
