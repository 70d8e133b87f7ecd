"""Checkpoints that transformers and timm wrote, and we did not train: their answers are those of upstream's own code,
from raw inputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import timm
import torch
import transformers
from PIL import Image
from timm.models._hub import save_for_hf
from typer.testing import CliRunner

import zoo
from tests.backends.conftest import BERT, WAV2VEC2
from zoo.cli import app
from zoo.errors import BundleError, ConfigError, SpecError, UnknownModel
from zoo.modalities.byte_tokenizers import byte_tokenizer

TEXTS = ["A short one.", "And a text that is somewhat longer, with Words and 3 numbers!", "x"]
NAMES = {0: "no", 1: "maybe", 2: "yes"}
VISION: dict[str, Any] = {"id2label": NAMES, "label2id": {v: k for k, v in NAMES.items()}}


def saved(folder: Path, net: Any, *parts: Any) -> Any:
    torch.manual_seed(0)
    net.eval().save_pretrained(folder)
    for part in parts:
        part.save_pretrained(folder)
    return net


def bert_tokenizer() -> Any:
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(style="bert"), pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        unk_token="[UNK]", mask_token="[MASK]", model_max_length=64,
    )  # fmt: skip


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "classifier"
    config = transformers.BertConfig(**BERT, id2label=NAMES)
    saved(folder, transformers.BertForSequenceClassification(config), bert_tokenizer())
    return folder


def pictures(folder: Path) -> list[str]:
    generator = np.random.default_rng(0)
    paths = []
    for index, (height, width) in enumerate([(40, 60), (61, 33), (32, 32)]):
        coarse = Image.fromarray(generator.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(folder / f"{index}.png")
        paths.append(str(folder / f"{index}.png"))
    return paths


def recordings(folder: Path, rate: int = 16_000) -> list[str]:
    paths = []
    for index, seconds in enumerate((0.7, 1.3)):
        wave = np.random.default_rng(index).standard_normal(int(seconds * rate)) / 10
        soundfile.write(folder / f"{index}.wav", wave, rate, subtype="FLOAT")
        paths.append(str(folder / f"{index}.wav"))
    return paths


def same_scores(ours: Any, theirs: list[dict[str, Any]], atol: float = 1e-5) -> None:
    """Every label's score."""
    expected = {item["label"]: item["score"] for item in theirs}
    found = dict(ours.top)
    assert ours.label == max(expected, key=expected.__getitem__)
    assert set(found) == set(expected)
    for label, score in expected.items():
        assert found[label] == pytest.approx(score, abs=atol)


def test_texts(classifier: Path) -> None:
    theirs = transformers.pipeline("text-classification", str(classifier), top_k=None, device="cpu")(TEXTS)
    model = zoo.load(classifier, device="cpu")
    assert model.labels == ("no", "maybe", "yes")
    for ours, expected in zip(model.predict(TEXTS, top_k=3), theirs, strict=True):
        same_scores(ours, expected)


def test_entities(tmp_path: Path) -> None:
    config = transformers.BertConfig(**BERT, id2label={0: "O", 1: "B-PER", 2: "I-PER", 3: "B-LOC", 4: "I-LOC"})
    saved(tmp_path, transformers.BertForTokenClassification(config), bert_tokenizer())
    upstream = transformers.pipeline("token-classification", str(tmp_path), ignore_labels=[], device="cpu")
    tokens = zoo.load(tmp_path, device="cpu")
    assert tokens.task.name == "token-classification"
    for text in TEXTS:
        windows = tokens.task.encode(tokens.encoder, text)
        [outcome] = tokens.outcomes([text], tokens.task.parse_options({}), batch_size=1, on_error="raise")
        labels = [tokens.labels[i] for i in outcome.outputs[0]["logits"].argmax(-1)]
        kept = [label for label, special in zip(labels, windows[0].source.special, strict=True) if not special]
        assert kept == [item["entity"] for item in upstream(text)]


def test_continued_texts(tmp_path: Path) -> None:
    config = transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=2, vocab_size=257, n_positions=64, bos_token_id=256, eos_token_id=256
    )
    words = transformers.PreTrainedTokenizerFast(
        tokenizer_object=byte_tokenizer(style="gpt"), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )
    saved(tmp_path, transformers.GPT2LMHeadModel(config), words)
    upstream = transformers.pipeline("text-generation", str(tmp_path), device="cpu")
    made = zoo.load(tmp_path, device="cpu").predict(["Once", "upon a"], max_new_tokens=8, do_sample=False)
    for prompt, ours in zip(["Once", "upon a"], made, strict=True):
        theirs = upstream(prompt, max_new_tokens=8, do_sample=False, return_full_text=False)
        assert ours.text == theirs[0]["generated_text"]


def vit() -> tuple[Any, Any]:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=37, image_size=32, patch_size=8,
        **VISION,
    )  # fmt: skip
    return transformers.ViTForImageClassification(config), transformers.ViTImageProcessor(
        size={"height": 32, "width": 32}
    )


def resnet() -> tuple[Any, Any]:
    config = transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **VISION)
    return transformers.ResNetForImageClassification(config), transformers.ConvNextImageProcessor(
        size={"shortest_edge": 32}, crop_pct=0.875
    )


@pytest.mark.parametrize("made", [vit, resnet])
def test_images(made: Any, tmp_path: Path) -> None:
    saved(tmp_path / "net", *made())
    paths = pictures(tmp_path)
    upstream = transformers.pipeline("image-classification", str(tmp_path / "net"), device="cpu")
    model = zoo.load(tmp_path / "net", device="cpu")
    for path, ours in zip(paths, model.predict(paths, top_k=3), strict=True):
        # Upstream rounds after the resize and again after the crop; a level of one pixel is 1/255.
        same_scores(ours, upstream(path, top_k=3), atol=2e-3)


@pytest.mark.parametrize("safe", [True, False])
def test_images_by_timm(safe: bool, tmp_path: Path) -> None:
    """Its weights are a pickle by default, which is read without running it."""
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    save_for_hf(net, str(tmp_path / "net"), model_config={"label_names": list(NAMES.values())}, safe_serialization=safe)
    config = timm.data.resolve_model_data_config(net)
    transform = timm.data.create_transform(**config, is_training=False)
    model = zoo.load(tmp_path / "net", device="cpu")
    assert model.labels == ("no", "maybe", "yes")
    paths = pictures(tmp_path)
    for path, ours in zip(paths, model.predict(paths, top_k=3), strict=True):
        picture = Image.open(path).convert("RGB")
        with torch.inference_mode():
            scores = net(transform(picture)[None]).softmax(-1)[0].tolist()
        same_scores(ours, [{"label": NAMES[i], "score": score} for i, score in enumerate(scores)], atol=2e-3)


def test_speech(tmp_path: Path) -> None:
    letters = ["<pad>", "<unk>", "|", "a", "b", "c"]
    (tmp_path / "vocab.json").write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    words = transformers.Wav2Vec2CTCTokenizer(
        str(tmp_path / "vocab.json"), pad_token="<pad>", unk_token="<unk>", word_delimiter_token="|"
    )
    config = transformers.Wav2Vec2Config(**{**WAV2VEC2, "vocab_size": 6, "pad_token_id": 0})
    listening = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    made = transformers.Wav2Vec2ForCTC(config)
    made.lm_head.bias.data[1] = -100  # upstream writes <unk> out, and the zoo leaves it out
    net = saved(tmp_path / "net", made, words, listening)
    paths = recordings(tmp_path)
    for path, ours in zip(paths, zoo.load(tmp_path / "net", device="cpu").predict(paths), strict=True):
        wave, rate = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            ids = net(**listening(wave, sampling_rate=rate, return_tensors="pt")).logits.argmax(-1)
        assert ours.text == words.batch_decode(ids)[0]


def test_sounds(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(**WAV2VEC2, **VISION)
    listening = transformers.Wav2Vec2FeatureExtractor(return_attention_mask=True)
    net = saved(tmp_path / "net", transformers.Wav2Vec2ForSequenceClassification(config), listening)
    paths = recordings(tmp_path)
    for path, ours in zip(paths, zoo.load(tmp_path / "net", device="cpu").predict(paths, top_k=3), strict=True):
        wave, rate = soundfile.read(path, dtype="float32")
        with torch.inference_mode():
            scores = net(**listening(wave, sampling_rate=rate, return_tensors="pt")).logits.softmax(-1)[0].tolist()
        same_scores(ours, [{"label": NAMES[i], "score": score} for i, score in enumerate(scores)])


def test_the_command_adopts_a_checkpoint(classifier: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.bundle"
    done = CliRunner().invoke(app, ["export", str(classifier), "--task", "text-classification", "-o", str(out)])
    assert done.exit_code == 0, done.output
    theirs = transformers.pipeline("text-classification", str(classifier), top_k=None, device="cpu")(TEXTS)
    for ours, expected in zip(zoo.runtime.load(out).predict(TEXTS, top_k=3), theirs, strict=True):
        same_scores(ours, expected)


def test_a_checkpoint_of_timm_as_a_bundle(tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=3).eval()
    save_for_hf(net, str(tmp_path / "net"), safe_serialization=True)
    made = zoo.export(tmp_path / "net", tmp_path / "out.bundle")
    assert made.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    [path, *_] = pictures(tmp_path)
    assert made.predict(path).score == pytest.approx(
        zoo.load(tmp_path / "net", device="cpu").predict(path).score, abs=1e-4
    )


def test_what_can_not_be_adopted(classifier: Path, tmp_path: Path) -> None:
    for arguments in (["a", "b", "-o", "c"], ["a"]):
        done = CliRunner().invoke(app, ["export", *arguments])
        assert done.exit_code == 1
        assert "Give one folder to write" in done.output
    (tmp_path / "photo").write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        zoo.export("nowhere/at/all", tmp_path / "photo")
    with pytest.raises(ConfigError, match="has its own task"):
        zoo.export(zoo.load(classifier, device="cpu"), tmp_path / "out", task="text-classification")


@pytest.mark.parametrize(
    ("said", "error", "words"),
    [
        ({"architecture": "resnet5000"}, UnknownModel, "timm has no model"),
        ({"architecture": "hf-hub:org/evil"}, UnknownModel, "timm has no model"),
        ({"architecture": "test_resnet"}, SpecError, "not one that timm writes"),
        ({"architecture": "test_resnet", "pretrained_cfg": 3}, SpecError, "not one that timm writes"),
        ({"model_args": {"checkpoint_path": "/tmp/evil.pth"}}, SpecError, "checkpoint_path says where weights"),
        ({"model_args": {"pretrained": True}}, SpecError, "pretrained says where weights"),
        ({"model_args": {"pretrained_cfg_overlay": {"url": "https://x"}}}, SpecError, "says where weights"),
        ({"model_args": {"evil": 1}}, SpecError, "timm can't build"),
        ({"num_classes": "many"}, SpecError, "not one that timm writes"),
        ({"num_classes": -1}, SpecError, ""),
    ],
)
def test_a_damaged_checkpoint_of_timm(said: dict[str, Any], error: type[Exception], words: str, tmp_path: Path) -> None:
    net = timm.create_model("test_resnet", num_classes=3)
    save_for_hf(net, str(tmp_path / "net"), safe_serialization=True)
    path = tmp_path / "net" / "config.json"
    whole = json.loads(path.read_text()) if "architecture" not in said else {}
    path.write_text(json.dumps({**whole, **said}))
    with pytest.raises(error, match=words):
        zoo.load(tmp_path / "net", device="cpu")
