"""Checkpoint folders that transformers itself writes, read without being told what they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

import zoo
from tests.backends.conftest import BERT, WAV2VEC2, ragged_sound, ragged_tokens
from zoo.backends import build, from_folder, read_state, tokenizer
from zoo.backends.module import ZooModule
from zoo.errors import SpecError, WeightsUnavailable
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.spec import AudioInput, ImageInput, ModelSpec, TextInput


def write(folder: Path, **files: Any) -> None:
    for name, data in files.items():
        (folder / f"{name}.json").write_text(json.dumps(data), "utf-8")


def load(folder: Path) -> tuple[ModelSpec, ZooModule]:
    spec, state = from_folder(folder)
    labels = spec.labels if isinstance(spec.labels, tuple) else ()
    module = build(spec, task=spec.tasks[0], labels=labels, state=read_state(state))
    assert not module.fresh_head
    return spec, module


def test_a_classifier_of_text(tmp_path: Path) -> None:
    config = transformers.RobertaConfig(**BERT, id2label={0: "no", 1: "maybe", 2: "yes"})
    net = transformers.RobertaForSequenceClassification(config).eval()
    net.save_pretrained(tmp_path)
    write(tmp_path, tokenizer_config={"model_max_length": 1_000_000_000_000})
    spec, module = load(tmp_path)
    assert spec.tasks == (
        "text-classification",
        "token-classification",
        "question-answering",
        "fill-mask",
        "feature-extraction",
    )
    assert spec.labels == ("no", "maybe", "yes")
    assert spec.input == TextInput(max_length=64, token_types=True)  # the configuration says two types
    with torch.inference_mode():
        torch.testing.assert_close(module(**ragged_tokens())["logits"], net(**ragged_tokens()).logits)


def test_a_language_model_in_shards(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=300, n_positions=48, bos_token_id=0, eos_token_id=0
    )
    net = transformers.GPT2LMHeadModel(config).eval()
    net.save_pretrained(tmp_path, max_shard_size="40KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    spec, module = load(tmp_path)
    assert spec.tasks[0] == "text-generation"
    assert spec.input == TextInput(max_length=48)
    assert spec.labels is None
    with torch.inference_mode():
        ids = ragged_tokens((9,))
        torch.testing.assert_close(module(**ids)["logits"], net(**ids).logits)


SMALL: dict[str, Any] = {
    "vocab_size": 300, "d_model": 32, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "max_position_embeddings": 64,
}  # fmt: skip
SUMMARIES = {"max_length": 20, "min_length": 4, "num_beams": 3, "length_penalty": 2.0, "prefix": "summarize: "}
GERMAN = {"prefix": "translate English to German: "}


@pytest.mark.parametrize(
    ("config", "tokens", "tasks", "decoder"),
    [
        (transformers.T5Config(vocab_size=300, d_model=32, d_kv=16, d_ff=37, num_layers=1, num_heads=2, n_positions=48,
                               decoder_start_token_id=0, task_specific_params={
                                   "summarization": SUMMARIES, "translation_en_to_de": GERMAN}),
         {}, ("summarization", "translation"),
         {"max_length": 48, "generation": {"max_new_tokens": 19, "min_new_tokens": 3, "num_beams": 3,
                                           "length_penalty": 2.0},
          "prefixes": {"summarization": "summarize: ", "translation": "translate {source} to {target}: "},
          "languages": {"en": "English", "de": "German"}, "source_language": "en", "target_language": "de"}),
        (transformers.BartConfig(**SMALL), {}, ("summarization", "translation"),
         {"max_length": 64, "generation": {"forced_eos_token_id": 2}}),
        (transformers.PegasusConfig(**SMALL), {}, ("summarization", "translation"),
         {"max_length": 64, "generation": {"forced_eos_token_id": 1}}),
        (transformers.MarianConfig(**SMALL, pad_token_id=299, decoder_start_token_id=299, decoder_vocab_size=300),
         {}, ("translation", "summarization"), {"max_length": 64, "generation": {"forced_eos_token_id": 0}}),
        (transformers.M2M100Config(**SMALL),
         {"additional_special_tokens": ["__de__", "__en__", "__zh__", "<madeup>"], "src_lang": "en", "tgt_lang": "zh"},
         ("translation", "summarization"),
         {"languages": {"de": "__de__", "en": "__en__", "zh": "__zh__"}, "language_tokens": True,
          "source_language": "en", "target_language": "zh"}),
        (transformers.MBartConfig(**SMALL, decoder_start_token_id=2),
         {"additional_special_tokens": ["en_XX", "de_DE"], "src_lang": "en_XX"}, ("translation", "summarization"),
         {"languages": {"en_XX": "en_XX", "de_DE": "de_DE"}, "language_tokens": True, "source_language": "en_XX"}),
    ],
    ids=lambda value: getattr(value, "model_type", ""),
)  # fmt: skip
def test_a_writer(config: Any, tokens: Any, tasks: Any, decoder: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    net.save_pretrained(tmp_path)
    write(tmp_path, tokenizer_config=tokens)
    spec, module = load(tmp_path)
    assert spec.tasks == tasks
    assert spec.decoder is not None
    found = spec.decoder.to_dict()
    assert {name: found[name] for name in decoder} == decoder
    ids = torch.randint(3, 250, (1, 7))
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, :4]}
    with torch.inference_mode():
        torch.testing.assert_close(module(**asked)["logits"], net(**asked).logits, atol=1e-5, rtol=1e-5)


def test_a_t5_with_a_head_of_its_own_keeps_it(tmp_path: Path) -> None:
    """T5 1.1 and mT5: the head is no copy of the embedding, though a configuration of today says so."""
    config = transformers.T5Config(
        vocab_size=300, d_model=32, d_kv=16, d_ff=37, num_layers=1, num_heads=2, feed_forward_proj="gated-gelu",
        tie_word_embeddings=False, decoder_start_token_id=0,
    )  # fmt: skip
    net = transformers.T5ForConditionalGeneration(config).eval()
    net.lm_head.weight = torch.nn.Parameter(torch.randn(300, 32))
    net.save_pretrained(tmp_path / "there")
    ids = torch.randint(3, 250, (1, 7))
    asked = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "decoder_input_ids": ids[:, :4]}
    model = zoo.load(tmp_path / "there", tokenizer=byte_tokenizer(style="seq2seq"), device="cpu")
    model.save(tmp_path / "saved")
    for found in (model, zoo.load(tmp_path / "saved", device="cpu")):
        with torch.inference_mode():
            torch.testing.assert_close(found.module(**asked)["logits"], net(**asked).logits)


def test_a_classifier_with_a_decoder_is_no_writer(tmp_path: Path) -> None:
    transformers.BartForSequenceClassification(transformers.BartConfig(**SMALL)).save_pretrained(tmp_path)
    spec, _ = from_folder(tmp_path)
    assert spec.tasks[0] == "text-classification"
    assert spec.decoder is None


def test_a_speech_recogniser(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(**{**WAV2VEC2, "vocab_size": 6, "pad_token_id": 5})
    net = transformers.Wav2Vec2ForCTC(config).eval()
    net.save_pretrained(tmp_path)
    write(
        tmp_path,
        vocab={"a": 0, "b": 1, "_": 2, "[UNK]": 4, "[PAD]": 5},
        added_tokens={"<s>": 3},
        tokenizer_config={"unk_token": {"content": "[UNK]"}, "word_delimiter_token": "_"},
        preprocessor_config={"sampling_rate": 8000, "do_normalize": False},
    )
    spec, module = load(tmp_path)
    assert spec.tasks[0] == "automatic-speech-recognition"
    assert spec.labels == ("a", "b", "|", "<s>", "<unk>", "<pad>")
    assert spec.input == AudioInput(sampling_rate=8000, normalize=False)
    sound = ragged_sound((6000,))
    with torch.inference_mode():
        torch.testing.assert_close(module(**sound)["logits"], net(**sound).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (
            {"size": {"height": 32, "width": 32}, "resample": 3, "image_mean": [0.1, 0.2, 0.3]},
            {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "bicubic", "mean": (0.1, 0.2, 0.3)},
        ),
        (
            {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}, "do_center_crop": True},
            {"size": (32, 32), "crop_pct": 0.8, "crop_mode": "center", "interpolation": "bilinear"},
        ),
        ({"size": {"shortest_edge": 32}, "crop_pct": 0.875}, {"size": (32, 32), "crop_pct": 0.875}),
        ({"size": 32}, {"size": (32, 32), "crop_mode": "squash"}),
        ({}, {"size": (32, 32), "mean": (0.5, 0.5, 0.5)}),
    ],
)
def test_a_classifier_of_images(said: dict[str, Any], expected: dict[str, Any], tmp_path: Path) -> None:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37, image_size=32, num_labels=2
    )
    net = transformers.ViTForImageClassification(config).eval()
    net.save_pretrained(tmp_path)
    if said:
        write(tmp_path, preprocessor_config=said)
    spec, module = load(tmp_path)
    assert isinstance(spec.input, ImageInput)
    assert {name: getattr(spec.input, name) for name in expected} == expected
    assert spec.labels == ("LABEL_0", "LABEL_1")
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (spec.input.mean, spec.input.std))
    with torch.inference_mode():
        expected_logits = net(pixel_values=(pixels.float() / 255 - mean) / std).logits
        torch.testing.assert_close(module(pixel_values=pixels)["logits"], expected_logits)
        assert module.embed("cls", pixel_values=pixels).shape == (2, 32)


@pytest.mark.parametrize(
    ("said", "task", "problem", "labels"),
    [
        ({"num_labels": 3, "problem_type": "multi_label_classification"}, "text-classification",
         "multi_label_classification", ("LABEL_0", "LABEL_1", "LABEL_2")),
        ({"num_labels": 1, "problem_type": "regression"}, "text-classification", "regression", ("value",)),
        ({"num_labels": 1}, "text-classification", "regression", ("value",)),
        ({"num_labels": 2}, "text-classification", None, ("LABEL_0", "LABEL_1")),
        # Several numbers an input are no answer of the zoo: the body is, and a task of the zoo can be trained.
        ({"num_labels": 2, "problem_type": "regression"}, "feature-extraction", None, None),
    ],
)  # fmt: skip
def test_what_the_head_answers_with(said: Any, task: str, problem: Any, labels: Any, tmp_path: Path) -> None:
    config = transformers.BertConfig(**BERT, **said)
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    spec, _ = load(tmp_path)
    assert (spec.tasks[0], spec.problem_type, spec.labels) == (task, problem, labels)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "my_own", "auto_map": {"AutoModel": "evil.Model"}}, "never run"),
        ({}, "model type None"),
        ({"model_type": "align"}, "neither plain text"),
    ],
)
def test_what_is_no_model_of_the_zoo(config: dict[str, Any], words: str, tmp_path: Path) -> None:
    write(tmp_path, config=config)
    with pytest.raises(SpecError, match=words):
        from_folder(tmp_path)


def test_folders_that_lack_something(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"zoo\.yaml.*config\.json.*no files"):
        from_folder(tmp_path)
    write(tmp_path, config={**BERT, "model_type": "bert"})
    with pytest.raises(WeightsUnavailable, match=r"model\.safetensors"):
        from_folder(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(SpecError, match="not readable JSON"):
        from_folder(tmp_path)


def test_a_tokenizer_that_can_not_be_read(tmp_path: Path) -> None:
    spec = ModelSpec(
        name="t", modality="text", tasks=("feature-extraction",), backend="transformers", architecture="bert",
        config=BERT, input=TextInput(max_length=64),
    )  # fmt: skip
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(SpecError, match=r"failed in reading .*tokenizer\.json"):
        tokenizer(spec, folder=tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(SpecError, match="Pass tokenizer="):
        tokenizer(spec, folder=tmp_path)
    with pytest.raises(SpecError, match="names no repository"):
        tokenizer(spec)
