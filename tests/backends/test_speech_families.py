"""WavLM, UniSpeech-SAT, data2vec, AST and x-vectors: upstream's own answers, and the same ones in a padded batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

import zoo
from tests.backends.conftest import alone, audio_spec, ragged_sound
from tests.tiny import tiny
from zoo import backends
from zoo.backends.transformers.speech_parts import x_vectors
from zoo.tasks import make
from zoo.tasks.base import LossOptions

pytestmark = pytest.mark.filterwarnings("ignore:Support for mismatched key_padding_mask:UserWarning")
FAMILIES = ["wavlm-base", "wavlm-large", "unispeech-sat-base", "unispeech-sat-large", "data2vec-audio-base"]
SPEAKERS = ["wavlm-base-plus-sv", "unispeech-sat-base-plus-sv"]


def build(name: str, task: str, labels: tuple[str, ...] = ()) -> Any:
    module = backends.build(tiny(zoo.info(name)), task=task, labels=labels, seed=0)
    with torch.no_grad():
        for parameter in module.parameters():
            # Upstream's own spread is so small that a mask lost on the way would hardly show.
            if parameter.dim() > 1:
                parameter.mul_(3.0)
    return module


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("task", ["feature-extraction", "automatic-speech-recognition", "audio-classification"])
def test_upstreams_answer_alone_and_the_same_in_a_padded_batch(name: str, task: str) -> None:
    labels = ("<pad>", "<unk>", "|", "a", "b") if task == "automatic-speech-recognition" else ("x", "y", "z")
    module = build(name, task, () if task == "feature-extraction" else labels)
    batch = ragged_sound()
    output = "embedding" if task == "feature-extraction" else "logits"
    with torch.inference_mode():
        together = module(**batch)
        for row in range(3):
            single = alone(batch, row)
            own = module(**single)[output][0]
            found = together[output][row][: len(own)]
            torch.testing.assert_close(found, own, atol=1e-5, rtol=1e-5)
            upstream = module.net(input_values=single["input_values"])
            expected = upstream.last_hidden_state[0].mean(dim=0) if output == "embedding" else upstream.logits[0]
            torch.testing.assert_close(own, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SPEAKERS)
def test_x_vectors_are_upstreams_and_the_same_in_a_padded_batch(name: str) -> None:
    module = build(name, "feature-extraction")
    batch = ragged_sound((9000, 7000, 6100))
    with torch.inference_mode():
        together = module(**batch)["embedding"]
        for row in range(3):
            single = alone(batch, row)
            own = module(**single)["embedding"]
            torch.testing.assert_close(together[row : row + 1], own, atol=1e-5, rtol=1e-5)
            upstream = module.net(input_values=single["input_values"])
            torch.testing.assert_close(own, upstream.embeddings, atol=1e-5, rtol=1e-5)
    assert together.shape[1] == module.net.config.xvector_output_dim


def test_a_recording_too_short_for_the_layers_has_an_x_vector() -> None:
    module = build(SPEAKERS[0], "feature-extraction")
    batch = ragged_sound((9000, 2000, 900))
    with torch.inference_mode():
        together = module(**batch)["embedding"]
        assert torch.isfinite(together).all()
        for row in (1, 2):
            torch.testing.assert_close(together[row : row + 1], module(**alone(batch, row))["embedding"])
    assert x_vectors(module.net, torch.zeros(1, 3, 32), torch.tensor([3])).isfinite().all()


def test_speakers_are_learned_by_upstreams_loss() -> None:
    spec = tiny(zoo.info(SPEAKERS[0]))
    labels = ("ada", "bo", "cy")
    module = build(SPEAKERS[0], "audio-classification", labels)
    task = make("audio-classification", spec, labels)
    with torch.no_grad():
        # At random weights x-vectors are so small that their direction is rounding.
        for part in (module.net.projector, *(layer.kernel for layer in module.net.tdnn), module.net.feature_extractor):
            part.weight.mul_(10.0)
    single = alone(ragged_sound((9000,)), 0)
    label = torch.tensor([2])
    outputs = module(**single)
    found = task.loss(outputs, {"label": label}, LossOptions())
    expected = module.net(input_values=single["input_values"], labels=label).loss
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    found.backward()
    assert module.net.objective.weight.grad.abs().sum() > 0


def test_x_vectors_need_the_head() -> None:
    model = zoo.load(tiny(zoo.info("wavlm-base")), weights=None, device="cpu")
    with pytest.raises(zoo.errors.ConfigError, match="x-vector head"):
        model.embed([np.zeros(16_000, dtype=np.float32)], pooling="xvector")


def test_embedding_is_of_unit_length_and_survives_finetuning(tmp_path: Any) -> None:
    model = zoo.load(tiny(zoo.info(SPEAKERS[0])), weights=None, device="cpu", seed=0)
    raws = model.task.samples()
    before = model.embed(raws)
    np.testing.assert_allclose(np.linalg.norm(before, axis=1), 1.0, atol=1e-5)
    rows = [(raw, f"speaker {i % 2}") for i, raw in enumerate(raws)]
    model.finetune(rows, val=None, max_steps=1, batch_size=2, learning_rate=1e-2, output_dir=tmp_path / "run")
    assert model.task.name == "audio-classification"
    model.save(tmp_path / "saved")
    again = zoo.load(tmp_path / "saved", task="feature-extraction", device="cpu")
    np.testing.assert_allclose(again.embed(raws), model.embed(raws), atol=1e-6)
    assert abs(model.embed(raws) - before).max() > 1e-5


def test_the_spectrogram_transformer_is_upstreams(tmp_path: Any) -> None:
    spec = tiny(zoo.info("ast-audioset"))
    model = zoo.load(spec, task="audio-classification", labels=["a", "b"], weights=None, device="cpu", seed=0)
    raw = model.task.samples()[0]
    features = torch.from_numpy(model.encoder.encode(raw)[0].inputs["input_features"])[None]
    with torch.inference_mode():
        expected = model.module.net(input_values=features).logits[0].softmax(-1)
        body = model.module.net.audio_spectrogram_transformer(input_values=features)
    result = model.predict(raw)
    np.testing.assert_allclose(result.score, float(expected.max()), atol=1e-5)
    vector = model.embed(raw)
    np.testing.assert_allclose(vector, body.pooler_output[0].numpy(), atol=1e-5)
    assert abs(model.embed(raw, pooling="mean") - vector).max() > 1e-4


@pytest.mark.parametrize("kind", ["xvector", "ast"])
def test_a_transformers_folder_says_what_it_is(kind: str, tmp_path: Any) -> None:
    if kind == "xvector":
        config = transformers.WavLMConfig(**audio_spec("wavlm").config, num_labels=4)
        transformers.WavLMForXVector(config).save_pretrained(tmp_path)
        model = zoo.load(tmp_path, device="cpu")
        assert model.spec.embedding.pooling == "xvector"
        assert model.embed(model.task.samples()).shape == (4, config.xvector_output_dim)
        return
    small = tiny(zoo.info("ast-audioset")).config
    transformers.ASTForAudioClassification(transformers.ASTConfig(**small, num_labels=3)).save_pretrained(tmp_path)
    transformers.ASTFeatureExtractor(num_mel_bins=32, max_length=64, mean=-1.0, std=2.0).save_pretrained(tmp_path)
    model = zoo.load(tmp_path, device="cpu")
    assert model.spec.input.to_dict() == {
        "kind": "mel", "sampling_rate": 16_000, "layout": "kaldi", "bins": 32, "frames": 64, "mean": -1.0, "std": 2.0,
        "low": 0.0, "high": None,
    }  # fmt: skip
    assert model.predict(model.task.samples()[0]).label.startswith("LABEL_")
