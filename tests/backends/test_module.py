"""What every module promises, whichever library it comes from."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.backends.conftest import (
    PIXELS,
    TEXT,
    alone,
    audio_spec,
    image_spec,
    pixels,
    ragged_sound,
    ragged_tokens,
    text_spec,
    torchaudio_spec,
)
from tests.tiny import tiny
from zoo.backends import build
from zoo.backends.module import Normalize, ZooModule, masked_group_norm, pool, position_ids
from zoo.errors import ConfigError, SpecError, UnknownModel
from zoo.spec import ModelSpec

LABELS = ("<pad>", "|", "b")
TEXTS = [
    *((text_spec(kind), "text-classification") for kind in TEXT),
    (text_spec("bert"), "token-classification"),
    (text_spec("gpt2"), "token-classification"),
]
SOUNDS = [
    (spec, task)
    for spec in (
        audio_spec("wav2vec2", "group"),
        audio_spec("wav2vec2", "layer"),
        audio_spec("hubert", "group"),
        audio_spec("wavlm", "group"),
        torchaudio_spec(),
        torchaudio_spec(extractor_mode="layer_norm", encoder_layer_norm_first=True),
    )
    for task in ("audio-classification", "automatic-speech-recognition")
]
CONTRACT_SOUNDS = [SOUNDS[0], SOUNDS[3], SOUNDS[5], SOUNDS[8], SOUNDS[9]]
IMAGES = [
    (spec, "image-classification")
    for spec in (
        image_spec("timm", "resnet10t"),
        image_spec("timm", "vit_tiny_patch16_224", img_size=64, depth=1),
        image_spec("timm", "deit_tiny_distilled_patch16_224", img_size=64, depth=1),
        image_spec("torchvision", "shufflenet_v2_x0_5"),
        image_spec("torchvision", "squeezenet1_1"),
    )
]
CASES = [*TEXTS, (text_spec("gpt2"), "text-generation"), *CONTRACT_SOUNDS, *IMAGES]


def name_of(case: object) -> str:
    return f"{case.backend}-{case.architecture}" if isinstance(case, ModelSpec) else str(case)


def batch_for(spec: ModelSpec) -> dict[str, Tensor]:
    return {"text": ragged_tokens, "audio": ragged_sound, "vision": pixels}[spec.modality]()


def run(module: ZooModule, batch: dict[str, Tensor]) -> dict[str, Tensor]:
    with torch.inference_mode():
        outputs: dict[str, Tensor] = module(**batch)
    return outputs


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize(("spec", "task"), CASES, ids=name_of)
class TestContract:
    def test_outputs_have_the_shapes_of_the_task(self, spec: ModelSpec, task: str) -> None:
        module, batch = build(spec, task=task, labels=LABELS), batch_for(spec)
        rows = next(iter(batch.values())).shape[0]
        outputs = run(module, batch)
        logits = outputs["logits"]
        assert not module.training
        assert logits.dtype == torch.float32
        assert logits.shape[-1] == (300 if task == "text-generation" else len(LABELS))
        if task in ("token-classification", "text-generation"):
            assert logits.shape[:2] == batch["input_ids"].shape
        elif task == "automatic-speech-recognition":
            assert outputs["lengths"].dtype == torch.int64
            assert outputs["lengths"].shape == (rows,)
            assert int(outputs["lengths"].max()) == logits.shape[1]
        else:
            assert logits.shape == (rows, len(LABELS))

    def test_embed_gives_a_vector_a_row(self, spec: ModelSpec, task: str) -> None:
        module = build(spec, task=task, labels=LABELS, seed=0)
        with torch.inference_mode():
            vectors = module.embed(**batch_for(spec))
        assert vectors.dim() == 2
        assert vectors.dtype == torch.float32
        bare = build(spec, task="feature-extraction", labels=(), state=module.net.state_dict())
        torch.testing.assert_close(run(bare, batch_for(spec))["embedding"], vectors)
        assert not bare.fresh_head
        assert bare.head == ()

    def test_a_saved_state_gives_the_same_answers(self, spec: ModelSpec, task: str) -> None:
        module = build(spec, task=task, labels=LABELS, seed=0)
        again = build(spec, task=task, labels=LABELS, state=module.net.state_dict(), seed=1)
        assert module.fresh_head
        assert not again.fresh_head
        batch = batch_for(spec)
        for name, tensor in run(module, batch).items():
            assert torch.equal(run(again, batch)[name], tensor)
        with torch.no_grad():
            next(again.net.parameters()).add_(1.0)
        assert not torch.equal(next(again.net.parameters()), next(module.net.parameters()))

    def test_the_seed_decides_the_weights_and_nothing_else(self, spec: ModelSpec, task: str) -> None:
        torch.manual_seed(5)
        before = torch.get_rng_state()
        first = build(spec, task=task, labels=LABELS, seed=3).net.state_dict()
        assert torch.equal(torch.get_rng_state(), before)
        second = build(spec, task=task, labels=LABELS, seed=3).net.state_dict()
        assert all(torch.equal(tensor, second[key]) for key, tensor in first.items())

    def test_another_number_of_labels_gives_a_fresh_head_on_the_same_body(self, spec: ModelSpec, task: str) -> None:
        module = build(spec, task=task, labels=LABELS, seed=0)
        state = module.net.state_dict()
        other = build(spec, task=task, labels=("<pad>", "|"), state=state, seed=1)
        if task == "text-generation":
            # Its vocabulary is its embedding's: labels change nothing.
            assert not other.fresh_head
            assert torch.equal(run(other, batch_for(spec))["logits"], run(module, batch_for(spec))["logits"])
            return
        assert other.fresh_head
        assert run(other, batch_for(spec))["logits"].shape[-1] == 2
        for key, tensor in other.net.state_dict().items():
            assert other.in_head(key) or torch.equal(tensor, state[key])

    def test_head_only_freezes_the_body_and_its_statistics(self, spec: ModelSpec, task: str) -> None:
        module = build(spec, task=task, labels=LABELS, seed=0)
        if task == "text-generation":
            with pytest.raises(ConfigError, match='method="full"'):
                module.set_head_only(True)
            return
        module.set_head_only(True)
        module.train()
        assert all(p.requires_grad for p in module.head_parameters())
        assert not any(p.requires_grad for p in module.body_parameters())
        norms = [m for m in module.net.modules() if isinstance(m, nn.BatchNorm2d)]
        assert not any(norm.training for norm in norms)
        module.set_head_only(False)
        assert all(p.requires_grad for p in module.body_parameters())
        assert module.net.training
        total = len(list(module.head_parameters())) + len(list(module.body_parameters()))
        assert total == len(list(module.net.parameters()))

    def test_gradients_reach_head_and_body(self, spec: ModelSpec, task: str) -> None:
        module = build(spec, task=task, labels=LABELS, seed=0).train()
        module(**batch_for(spec))["logits"].float().logsumexp(-1).sum().backward()
        assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in module.body_parameters())
        assert task == "text-generation" or any(p.grad is not None for p in module.head_parameters())

    def test_it_can_be_copied(self, spec: ModelSpec, task: str) -> None:
        module, batch = build(spec, task=task, labels=LABELS, seed=0), batch_for(spec)
        assert torch.equal(run(deepcopy(module), batch)["logits"], run(module, batch)["logits"])


@pytest.mark.filterwarnings("ignore:Support for mismatched")
@pytest.mark.parametrize(("spec", "task"), [*TEXTS, (text_spec("gpt2"), "text-generation"), *SOUNDS], ids=name_of)
def test_a_padded_batch_equals_its_rows_one_by_one(spec: ModelSpec, task: str) -> None:
    module, batch = build(spec, task=task, labels=LABELS, seed=0), batch_for(spec)
    together = run(module, batch)
    for row in range(len(batch["attention_mask"])):
        single = run(module, alone(batch, row))
        logits = together["logits"][row : row + 1]
        if logits.dim() == 3:
            logits = logits[:, : single["logits"].shape[1]]
        torch.testing.assert_close(logits, single["logits"], atol=1e-5, rtol=1e-5)
        assert "lengths" not in single or torch.equal(together["lengths"][row : row + 1], single["lengths"])


@pytest.mark.parametrize(
    "spec", [text_spec("bert"), text_spec("gpt2"), audio_spec("hubert"), torchaudio_spec()], ids=name_of
)
@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "last"])
def test_embeddings_leave_padding_out(spec: ModelSpec, pooling: str) -> None:
    module, batch = build(spec, task="feature-extraction", labels=(), seed=0), batch_for(spec)
    with torch.inference_mode():
        together = module.embed(pooling, **batch)
        single = torch.cat([module.embed(pooling, **alone(batch, row)) for row in range(len(together))])
    torch.testing.assert_close(together, single, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("task", ["text-generation", "text-classification", "feature-extraction"])
def test_a_causal_model_answers_the_same_for_either_side_of_padding(task: str) -> None:
    module = build(text_spec("gpt2"), task=task, labels=LABELS, seed=0)
    right, left = run(module, ragged_tokens()), run(module, ragged_tokens(left=True))
    name = next(iter(right))
    a, b = right[name], left[name]
    if task == "text-generation":
        keep = ragged_tokens()["attention_mask"].bool(), ragged_tokens(left=True)["attention_mask"].bool()
        a, b = a[keep[0]], b[keep[1]]
    assert torch.isfinite(b).all()
    torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-5)


def test_pixels_are_normalised_inside() -> None:
    raw = pixels()["pixel_values"]
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (PIXELS.mean, PIXELS.std))
    torch.testing.assert_close(Normalize(PIXELS)(raw), (raw.float() / 255 - mean) / std)
    assert Normalize(PIXELS).state_dict() == {}
    assert Normalize(PIXELS).half()(raw).dtype == torch.float16


def test_masked_group_norm_is_group_norm_of_the_real_frames() -> None:
    norm = nn.GroupNorm(4, 4)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    values, lengths = torch.randn(2, 4, 20) * 3 + 1, torch.tensor([20, 7])
    found = masked_group_norm(values, lengths, norm)
    torch.testing.assert_close(found[0], norm(values[:1])[0])
    torch.testing.assert_close(found[1, :, :7], norm(values[1:, :, :7])[0])
    assert torch.equal(masked_group_norm(values, torch.tensor([20, 20]), norm), norm(values))
    assert masked_group_norm(values.bfloat16(), lengths, norm).dtype == torch.bfloat16


def test_positions_count_real_tokens() -> None:
    mask = torch.tensor([[1, 1, 1, 0], [0, 0, 1, 1]])
    assert position_ids(mask).tolist() == [[0, 1, 2, 2], [0, 0, 0, 1]]


def test_pool_on_either_side() -> None:
    hidden = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 0], [0, 1, 1]])
    assert pool(hidden, mask, "cls").tolist() == [[0, 1], [8, 9]]
    assert pool(hidden, mask, "last").tolist() == [[2, 3], [10, 11]]
    assert pool(hidden, mask, "max").tolist() == [[2, 3], [10, 11]]
    assert pool(hidden, mask, "mean").tolist() == [[1, 2], [9, 10]]


def test_unknown_pooling_is_refused() -> None:
    module = build(text_spec("bert"), task="feature-extraction", labels=())
    with pytest.raises(ConfigError, match="mean, cls, max, last"):
        module.embed("median", **ragged_tokens())
    image = build(image_spec("timm", "resnet10t"), task="feature-extraction", labels=())
    with pytest.raises(ConfigError, match="its own way"):
        image.embed("cls", **pixels())


@pytest.mark.parametrize(
    ("spec", "task", "error", "words"),
    [
        (text_spec("bert"), "text-generation", SpecError, "text-classification, token-classification"),
        (text_spec("gpt2"), "image-classification", SpecError, "text-generation"),
        (text_spec("bert").evolve(architecture="bertt"), "text-classification", UnknownModel, "'bert'"),
        (image_spec("timm", "resnet5"), "image-classification", UnknownModel, "timm has no model"),
        (image_spec("timm", "resnet10t", colour=3), "image-classification", SpecError, "colour"),
        (image_spec("timm", "resnet10t"), "text-classification", SpecError, "image-classification"),
        (image_spec("torchvision", "resnet18", colour=3), "image-classification", SpecError, "colour"),
        (torchaudio_spec().evolve(architecture="wav2vec3"), "audio-classification", UnknownModel, "Did you mean"),
        (torchaudio_spec(colour=3), "audio-classification", SpecError, "colour"),
        (audio_spec("audio-spectrogram-transformer"), "audio-classification", SpecError, "raw waveform"),
    ],
)
def test_what_can_not_be_built_is_explained(spec: ModelSpec, task: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        build(spec, task=task, labels=LABELS)


def test_a_short_recording_trains() -> None:
    module = build(audio_spec("wav2vec2"), task="audio-classification", labels=LABELS, seed=0).train()
    module(**ragged_sound((1000, 500)))["logits"].sum().backward()
    assert module.net.config.apply_spec_augment is False  # type: ignore[union-attr]
    module(**ragged_sound())
    assert module.net.config.apply_spec_augment is True  # type: ignore[union-attr]


def test_without_a_mask_channel_the_network_is_upstreams() -> None:
    module = build(audio_spec("wav2vec2"), task="automatic-speech-recognition", labels=LABELS, seed=0)
    sound = alone(ragged_sound(), 0)
    with torch.inference_mode():
        bare = module.net(sound["input_values"]).logits
    torch.testing.assert_close(bare, run(module, sound)["logits"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "prefix"), [("dinov2-small", 1), ("dinov2-small-reg", 5)])
def test_patches_are_pooled_without_class_token_and_registers(name: str, prefix: int) -> None:
    spec = tiny(zoo.info(name))
    module = build(spec, task="feature-extraction", labels=(), seed=0)
    batch = pixels(2, 28)
    net: Any = module.net
    with torch.inference_mode():
        tokens = net.forward_features(module.prepare(batch["pixel_values"]))  # type: ignore[operator]
        assert tokens.shape[1] == prefix + 4
        torch.testing.assert_close(module.embed(**batch), tokens[:, 0])
        torch.testing.assert_close(module.embed("mean", **batch), tokens[:, prefix:].mean(dim=1))
        torch.testing.assert_close(module.embed("max", **batch), tokens[:, prefix:].amax(dim=1))
    with pytest.raises(ConfigError, match="its own way"):
        module.embed("last", **batch)


def test_transformers_patches_are_pooled_without_registers_too() -> None:
    config = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    spec = image_spec("transformers", "dinov2_with_registers", **config, num_register_tokens=4)
    module = build(spec, task="feature-extraction", labels=(), seed=0)
    batch = pixels(2, 28)
    with torch.inference_mode():
        hidden = module.net(pixel_values=module.prepare(batch["pixel_values"])).last_hidden_state  # type: ignore[operator]
        torch.testing.assert_close(module.embed("mean", **batch), hidden[:, 5:].mean(dim=1))
        torch.testing.assert_close(module.embed("cls", **batch), hidden[:, 0])


def test_the_hubs_name_of_image_embedding() -> None:
    model = zoo.load(tiny(zoo.info("resnet18")), task="image-feature-extraction", weights=None, device="cpu")
    assert model.task.name == "feature-extraction"
    text = zoo.info("all-minilm-l6-v2")
    with pytest.raises(ConfigError, match="is of vision models, and this one is of text"):
        zoo.load(text, task="image-feature-extraction", weights=None)


@pytest.mark.parametrize(("library", "name"), [("timm", "resnet10t"), ("torchvision", "resnet18")])
def test_every_convolution_is_given_pixels_and_weights_channels_last(library: str, name: str) -> None:
    module = build(image_spec(library, name), task="image-classification", labels=("a", "b"), seed=0)
    turned = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            assert part.weight.is_contiguous(memory_format=torch.channels_last)
            part.register_forward_pre_hook(
                lambda _, given: turned.append(given[0].is_contiguous(memory_format=torch.channels_last))
            )
    with torch.inference_mode():
        module(pixel_values=torch.zeros(2, 3, 64, 64, dtype=torch.uint8))
    assert turned
    assert all(turned)
