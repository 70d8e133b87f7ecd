"""The catalogue: its names, its facts against the libraries' own registries, and its tiny versions."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.tiny import tiny
from zoo import catalog, tasks
from zoo.errors import ConfigError, SpecError, UnknownModel
from zoo.spec import ModelSpec, TextInput

NAMES = catalog.list_models()
# What is trained from nothing has no weights to state facts of.
PUBLISHED = [name for name in NAMES if catalog.info(name).weights is not None]
BACKENDS = {name: catalog.info(name).backend for name in NAMES}
TRANSFORMERS = [name for name in NAMES if BACKENDS[name] == "transformers"]
TIMM = [name for name in NAMES if BACKENDS[name] == "timm"]
# Tasks whose answers are not out of a list of names.
BARE = (
    "feature-extraction",
    "text-generation",
    "fill-mask",
    "question-answering",
    "summarization",
    "translation",
    "text-to-speech",
    "zero-shot-image-classification",
    "zero-shot-audio-classification",
)


def upstream(spec: ModelSpec) -> Any:
    """The network of a spec with the head of its first task, by the library itself."""
    if spec.backend == "timm":
        import timm

        return timm.create_model(spec.architecture, num_classes=len(catalog.labels(spec)), **spec.config)
    import transformers

    classes = {
        "feature-extraction": transformers.AutoModel,
        "zero-shot-image-classification": transformers.AutoModel,
        "zero-shot-audio-classification": transformers.AutoModel,
        "fill-mask": transformers.AutoModelForMaskedLM,
        "question-answering": transformers.AutoModelForQuestionAnswering,
        "text-generation": transformers.AutoModelForCausalLM,
        "automatic-speech-recognition": transformers.AutoModelForCTC,
        "audio-classification": transformers.AutoModelForAudioClassification,
        "zero-shot-classification": transformers.AutoModelForSequenceClassification,
        "summarization": transformers.AutoModelForSeq2SeqLM,
        "translation": transformers.AutoModelForSeq2SeqLM,
        "text-to-speech": transformers.AutoModelForTextToWaveform,
        "image-segmentation": transformers.AutoModelForSemanticSegmentation,
        "object-detection": transformers.AutoModelForObjectDetection,
    }
    config = transformers.AutoConfig.for_model(spec.architecture, **spec.config)
    if spec.embedding.pooling == "xvector":
        return transformers.AutoModelForAudioXVector.from_config(config)
    if spec.tasks[0].endswith(("-classification", "-segmentation", "-detection")) and spec.text is None:
        config.num_labels = len(catalog.labels(spec))
    if spec.architecture == "whisper":
        return transformers.AutoModelForSpeechSeq2Seq.from_config(config)
    return classes[spec.tasks[0]].from_config(config)


# Names


def test_the_families_asked_for_are_there() -> None:
    asked = """bert-base-cased bert-base-uncased bert-large-cased bert-large-uncased bert-base-multilingual-cased
        bert-base-chinese distilbert-base-uncased roberta-base roberta-large all-minilm-l6-v2 gpt2 gpt2-medium
        gpt2-large gpt2-xl distilgpt2 resnet18 resnet34 resnet50 resnet101 resnet152 resnext50-32x4d vgg11 vgg13 vgg16
        vgg19 vgg16-bn densenet121 densenet161 densenet169 densenet201 inception-v3 inception-v4 efficientnet-lite0
        vit-b-16 mobilenetv2 convnext-base swin-tiny swinv2-tiny efficientnet-b4 efficientnetv2-s regnety-032 deit-base
        dinov2-base dinov2-small-reg
        wav2vec2-base wav2vec2-base-960h wav2vec2-large wav2vec2-large-960h wav2vec2-large-xlsr-53
        hubert-base hubert-large albert-base-v2
        albert-large-v2 albert-xlarge-v2 albert-xxlarge-v2
        electra-small-discriminator electra-base-discriminator electra-large-discriminator deberta-v3-xsmall
        deberta-v3-small deberta-v3-base deberta-v3-large mdeberta-v3-base xlm-roberta-base xlm-roberta-large
        modernbert-base modernbert-large bert-tiny bert-mini bert-small bert-medium distilroberta-base
        whisper-tiny whisper-base whisper-small whisper-medium whisper-large-v3 whisper-large-v3-turbo
        qwen2.5-0.5b qwen3-0.6b smollm2-135m smollm2-360m tinyllama-1.1b pythia-70m pythia-160m"""
    assert set(asked.split()) <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_file_name_and_folder_say_name_and_modality(name: str) -> None:
    spec = catalog.info(name)
    assert spec.name == name
    assert (catalog.folder() / spec.modality / f"{name}.yaml").is_file()


def test_names_and_aliases_are_unique() -> None:
    spellings = Counter(
        spelling.lower().replace("_", "-") for name in NAMES for spelling in (name, *catalog.info(name).aliases)
    )
    assert [spelling for spelling, count in spellings.items() if count > 1] == []


@pytest.mark.parametrize("name", PUBLISHED)
def test_aliases_and_repository_names_are_found(name: str) -> None:
    spec = catalog.info(name)
    assert spec.weights is not None
    for spelling in (*spec.aliases, name.upper(), name.replace("-", "_"), spec.weights.repo.split("/")[-1]):
        assert catalog.info(spelling).name == name


def test_list_models_filters() -> None:
    assert sorted(NAMES) == NAMES
    assert catalog.list_models("resnet*") == [
        "resnet101",
        "resnet152",
        "resnet18",
        "resnet34",
        "resnet50",
        "resnetv2-50",
    ]
    assert catalog.list_models("ResNet5?") == ["resnet50"]
    assert catalog.list_models("vgg??_bn") == ["vgg11-bn", "vgg13-bn", "vgg16-bn", "vgg19-bn"]
    assert catalog.list_models("resnet*", modality="text") == []
    assert set(catalog.list_models("*gpt2*", task="text-generation")) == {n for n in NAMES if "gpt2" in n}
    assert catalog.list_models("bert-*", task="text-generation") == []
    assert catalog.list_models("electra-small*", task="fill-mask") == ["electra-small-generator"]
    assert catalog.list_models("*base*", modality="audio", task="automatic-speech-recognition") == [
        "data2vec-audio-base",
        "data2vec-audio-base-960h",
        "hubert-base",
        "unispeech-sat-base",
        "unispeech-sat-base-plus",
        "wav2vec2-base",
        "wav2vec2-base-960h",
        "wavlm-base",
        "wavlm-base-plus",
        "whisper-base",
        "whisper-base.en",
    ]
    assert catalog.list_models("dino*", task="image-feature-extraction") == catalog.list_models("dino*")
    images = catalog.list_models(task="feature-extraction", modality="vision")
    assert catalog.list_models(task="image-feature-extraction") == images
    assert catalog.list_models(task="image-feature-extraction", modality="text") == []
    by_modality = [
        name for kind in ("text", "vision", "audio", "tabular") for name in catalog.list_models(modality=kind)
    ]
    assert sorted(by_modality) == NAMES


def test_unknown_filters_suggest() -> None:
    with pytest.raises(
        ConfigError, match=r"no modality 'visoin'. Did you mean 'vision'. Allowed: text, vision, audio, tabular"
    ):
        catalog.list_models(modality="visoin")
    with pytest.raises(ConfigError, match=r"Did you mean 'image-classification'"):
        catalog.list_models(task="image-clasification")


def test_unknown_model_says_what_to_type() -> None:
    with pytest.raises(UnknownModel) as caught:
        catalog.info("resnet5")
    assert str(caught.value) == (
        f"Unknown model 'resnet5'. Did you mean 'resnet50'? zoo.list_models() lists all {len(NAMES)}."
    )
    with pytest.raises(KeyError, match=r"Unknown model 'zzz'. zoo.list_models"):
        catalog.info("zzz")


@pytest.mark.parametrize("name", ["", "../vision/resnet50", "resnet50.yaml", "/etc/passwd"])
def test_a_path_is_no_name(name: str) -> None:
    with pytest.raises(UnknownModel):
        catalog.info(name)


def test_a_name_needs_no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise AssertionError("every file was read to find one")

    monkeypatch.setattr(catalog, "_index", refuse)
    monkeypatch.setattr(catalog, "_aliases", refuse)
    assert catalog.info("resnet50").name == "resnet50"
    assert "resnet50" in catalog.list_models("res*", modality="vision")


def test_the_catalogue_imports_nothing_heavy() -> None:
    code = "import sys, zoo.catalog as c; c.list_models(task='text-generation'); c.labels(c.info('resnet50')); "
    code += "print([m for m in ('torch', 'transformers', 'timm', 'numpy', 'huggingface_hub') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_folder_prefers_the_wheels(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (catalog.folder() / "vision" / "resnet50.yaml").is_file()
    monkeypatch.setattr(catalog, "__file__", str(tmp_path / "zoo" / "catalog.py"))
    assert catalog.folder() == tmp_path / "hub_configs"
    (tmp_path / "zoo" / "hub_configs").mkdir(parents=True)
    assert catalog.folder() == tmp_path / "zoo" / "hub_configs"


# Labels


def test_imagenet_labels_are_timms_in_their_order() -> None:
    from timm.data import ImageNetInfo

    labels = catalog.labels(catalog.info("resnet50"))
    reference = ImageNetInfo("imagenet-1k")
    differing = {i: label for i, label in enumerate(labels) if label != reference.index_to_description(i)}
    assert len(labels) == len(set(labels)) == reference.num_classes() == 1000
    assert differing == {134: "crane (bird)", 517: "crane (machine)"}  # WordNet's lemma is the same for both


def test_ctc_labels_are_torchaudios_after_the_special_tokens() -> None:
    import torchaudio

    labels = catalog.labels(catalog.info("wav2vec2-base-960h"))
    assert labels[:4] == ("<pad>", "<s>", "</s>", "<unk>")
    assert labels[4:] == torchaudio.pipelines.WAV2VEC2_ASR_BASE_960H.get_labels()[1:]
    assert len(labels) == catalog.info("wav2vec2-base-960h").config["vocab_size"]


def test_labels_of_other_specs() -> None:
    spec = catalog.info("bert-base-cased")
    assert catalog.labels(spec) == ()
    assert catalog.labels(spec.evolve(labels=["O", "B-PER"])) == ("O", "B-PER")
    with pytest.raises(SpecError, match=r"no label set 'imagenet1k'. Did you mean 'imagenet-1k'"):
        catalog.labels(spec.evolve(labels="imagenet1k"))
    with pytest.raises(SpecError, match="no label set"):
        catalog.labels(spec.evolve(labels="../labels/imagenet-1k"))


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_first_task_with_classes_has_labels(name: str) -> None:
    spec = catalog.info(name)
    bare = spec.tasks[0] in BARE or spec.decoder is not None
    assert bool(catalog.labels(spec)) is not bare


# Facts


@pytest.mark.parametrize("name", PUBLISHED)
def test_card_facts_are_complete(name: str) -> None:
    spec = catalog.info(name)
    assert spec.title
    assert spec.weights is not None
    assert spec.source == f"https://huggingface.co/{spec.weights.repo}"
    assert spec.paper is not None
    assert spec.paper.startswith("https://")
    # SegFormer's published weights are NVIDIA's, for research and evaluation alone.
    known = {"apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-nc-4.0"}
    assert spec.license in known or (spec.license, spec.architecture) == ("other", "segformer")


@pytest.mark.parametrize("name", NAMES)
def test_finetune_defaults_are_valid_options(name: str) -> None:
    from zoo.training.config import TrainConfig

    spec = catalog.info(name)
    # A model for prediction alone has none.
    assert bool(spec.finetune) is any(tasks.get(task).trainable for task in spec.tasks)
    config = TrainConfig.model_validate(spec.finetune)
    assert {key: getattr(config, key) for key in spec.finetune} == spec.finetune


@pytest.mark.parametrize("name", TIMM)
def test_vision_facts_agree_with_timm(name: str) -> None:
    from timm.models import get_pretrained_cfg

    spec = catalog.info(name)
    facts: Any = get_pretrained_cfg(spec.architecture)
    assert spec.weights is not None
    assert spec.input.kind == "image"
    assert spec.weights.repo == facts.hf_hub_id
    assert spec.license == facts.license
    assert (3, *spec.input.size) == facts.input_size
    assert (spec.input.mean, spec.input.std) == (facts.mean, facts.std)
    assert (spec.input.interpolation, spec.input.crop_pct) == (facts.interpolation, facts.crop_pct)
    assert spec.input.crop_mode == facts.crop_mode
    assert len(catalog.labels(spec)) == facts.num_classes


def test_the_special_preprocessing_of_efficientnet_lite0() -> None:
    image = catalog.info("efficientnet-lite0").input
    assert image.kind == "image"
    assert (image.mean, image.std) == ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    assert (image.interpolation, image.crop_pct) == ("bicubic", 0.875)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_configs_are_the_architectures_own(name: str) -> None:
    import transformers

    spec = catalog.info(name)
    config = transformers.AutoConfig.for_model(spec.architecture)
    # Options of DeBERTa that its class reads where they are given, and does not list.
    unlisted = {"position_buckets", "norm_rel_ebd", "share_att_key"} if spec.architecture == "deberta-v2" else set()
    # transformers reads it for every encoder-decoder model, and lists it for some.
    unlisted |= {"decoder_start_token_id"} if spec.decoder is not None else set()
    assert [key for key in spec.config if key not in {*config.to_dict(), *unlisted}] == []
    built = transformers.AutoConfig.for_model(spec.architecture, **spec.config)
    # T5 has relative positions, and sees as far as memory goes.
    if isinstance(spec.input, TextInput) and hasattr(built, "max_position_embeddings"):
        padding = built.pad_token_id + 1 if spec.architecture in ("roberta", "xlm-roberta", "mpnet") else 0
        assert spec.input.max_length <= built.max_position_embeddings - padding


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "wav2vec2-base-960h", "hubert-base", "roberta-base"])
def test_sizes_agree_with_the_reference_models_of_transformers(name: str) -> None:
    """Their configuration classes default to these models' sizes."""
    import transformers

    spec = catalog.info(name)
    default = transformers.AutoConfig.for_model(spec.architecture).to_dict()
    # RoBERTa's own defaults are BERT's here; its repository has 514 positions (two for padding) and no segments.
    # Where dropout is applied differs between the pretrained and the fine-tuned model.
    own = {"max_position_embeddings", "type_vocab_size", "layer_norm_eps"} if name == "roberta-base" else set()
    own |= {"feat_proj_dropout"}
    assert {k: v for k, v in spec.config.items() if k not in own and default[k] != v} == {}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_counted_exactly(name: str) -> None:
    import torch

    spec = catalog.info(name)
    with torch.device("meta"):
        network = upstream(spec)
    own_head = spec.config.get("tie_word_embeddings") is False and spec.architecture in ("t5", "mt5")
    # Upstream ties these two at first, and unties them when it reads a checkpoint with a head of its own.
    head = network.lm_head.weight.numel() if own_head else 0
    assert sum(parameter.numel() for parameter in network.parameters()) + head == spec.parameters


def test_languages_are_upstream_s_in_the_order_of_their_ids() -> None:
    from transformers.models.mbart50 import tokenization_mbart50
    from transformers.models.nllb import tokenization_nllb

    def tokens(name: str) -> list[str]:
        decoder = catalog.info(name).decoder
        assert decoder is not None
        return list(decoder.languages.values())

    assert tokens("mbart-large-50-many-to-many-mmt") == tokenization_mbart50.FAIRSEQ_LANGUAGE_CODES
    assert tokens("nllb-200-distilled-600m") == tokenization_nllb.FAIRSEQ_LANGUAGE_CODES
    m2m = pytest.importorskip("transformers.models.m2m_100.tokenization_m2m_100")
    assert tokens("m2m100-418m") == [f"__{code}__" for code in m2m.FAIRSEQ_LANGUAGE_CODES["m2m100"]]


# Tiny versions


@pytest.mark.parametrize("name", NAMES)
def test_tiny_keeps_what_a_model_is(name: str) -> None:
    spec = catalog.info(name)
    small = tiny(spec)
    assert small.weights is None
    assert (small.name, small.tasks, small.labels, small.architecture) == (
        (spec.name, spec.tasks, spec.labels, spec.architecture)
    )
    assert ModelSpec.parse(small.to_yaml()) == small


# Schema


def test_schema_names_every_key() -> None:
    schema = catalog.schema()
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert set(schema["properties"]) == set(ModelSpec.__struct_fields__)
    assert {"name", "modality", "tasks", "backend", "architecture", "input"} == set(schema["required"])
    assert schema["additionalProperties"] is False
    assert set(schema["properties"]["modality"]["enum"]) == {"text", "vision", "audio", "tabular"}
    assert {"TextInput", "ImageInput", "AudioInput", "Weights", "Embedding"} <= set(schema["$defs"])
    json.dumps(schema)
