"""A spec as a configuration of transformers, and which classes upstream has for it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from transformers import AutoConfig, PreTrainedConfig
from transformers import logging as transformers_logging
from transformers.models.auto import modeling_auto

from zoo.errors import SpecError, UnknownModel, suggest
from zoo.spec import ModelSpec

# Upstream's table of classes for each task.
_AUTO = {
    "text-classification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING",
    "token-classification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING",
    "question-answering": "MODEL_FOR_QUESTION_ANSWERING_MAPPING",
    "text-generation": "MODEL_FOR_CAUSAL_LM_MAPPING",
    "fill-mask": "MODEL_FOR_MASKED_LM_MAPPING",
    "image-classification": "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING",
    "image-segmentation": "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING",
    "object-detection": "MODEL_FOR_OBJECT_DETECTION_MAPPING",
    "audio-classification": "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING",
    "automatic-speech-recognition": "MODEL_FOR_CTC_MAPPING",
    "feature-extraction": "MODEL_MAPPING",
    "summarization": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "translation": "MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING",
    "pretraining": "MODEL_FOR_PRETRAINING_MAPPING",
    "text-to-speech": "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING",
}

AST = "audio-spectrogram-transformer"
WHISPER = "whisper"

# Models that embed images or sound beside texts: what each is for.
TOWERS = {
    "clip": "zero-shot-image-classification",
    "siglip": "zero-shot-image-classification",
    "clap": "zero-shot-audio-classification",
}


def known_types() -> set[str]:
    """The model types that upstream can build, some of which have no body without a head."""
    return {*modeling_auto.MODEL_MAPPING_NAMES, *modeling_auto.MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES}


def make_config(spec: ModelSpec, *, task: str | None = None, labels: tuple[str, ...] = ()) -> Any:
    """The upstream configuration of a spec. Raises UnknownModel or SpecError."""
    names = known_types()
    if spec.architecture not in names:
        raise UnknownModel(
            f"transformers has no model type {spec.architecture!r}.{suggest(spec.architecture, names)} "
            "It is the `model_type` of a config.json."
        )
    options = dict(spec.config)
    if task == "automatic-speech-recognition" and spec.decoder is None:
        options["vocab_size"] = len(labels)
        options["pad_token_id"] = labels.index("<pad>") if "<pad>" in labels else 0
    elif labels and task not in (None, "text-generation", "fill-mask", "pretraining", "feature-extraction"):
        options["id2label"] = dict(enumerate(labels))
        options["label2id"] = {label: index for index, label in enumerate(labels)}
    try:
        with quiet():
            return AutoConfig.for_model(spec.architecture, **options)
    # Each configuration checks its own values, and raises what it likes.
    except Exception as error:
        raise SpecError(f"transformers can't configure {spec.architecture!r}: {error}") from error


# What a configuration says of the checkpoint's making or of the labels, which the spec itself holds.
_NOT_OF_THE_ARCHITECTURE = {
    "_attn_implementation", "_name_or_path", "architectures", "auto_map", "dtype", "finetuning_task", "id2label",
    "label2id", "model_type", "num_labels", "problem_type", "quantization_config", "task_specific_params",
    "tokenizer_class", "torch_dtype", "transformers_version",
}  # fmt: skip


def complete(spec: ModelSpec) -> ModelSpec:
    """With every option of the architecture, so that later defaults of upstream change nothing in a saved model."""
    config = make_config(spec)
    return spec.evolve(config=essentials(json.loads(config.to_json_string(use_diff=False))))


def essentials(config: Mapping[str, Any]) -> dict[str, Any]:
    """A config.json without what is not the architecture's."""
    return {key: value for key, value in config.items() if key not in _NOT_OF_THE_ARCHITECTURE}


def is_causal(config: PreTrainedConfig) -> bool:
    """Whether every token sees only those before it."""
    kind = type(config)
    if getattr(config, "is_encoder_decoder", False):
        return False
    both = kind in modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING
    return both and (kind not in modeling_auto.MODEL_FOR_MASKED_LM_MAPPING or bool(getattr(config, "is_decoder", 0)))


# Position 0 of these is after the padding's own index, so that they see two tokens fewer than they have positions.
_OFFSET = ("roberta", "xlm-roberta", "camembert", "xlm-roberta-xl", "roberta-prelayernorm", "data2vec-text", "mpnet")


def first_position(config: PreTrainedConfig) -> int:
    """The position of a text's first token: 0 but for RoBERTa and its kin."""
    return int(config.pad_token_id or 0) + 1 if config.model_type in _OFFSET else 0


def classes(config: PreTrainedConfig) -> dict[str, Any]:
    """Upstream's class by task, for the tasks that this configuration can be built for."""
    mappings = {task: getattr(modeling_auto, name) for task, name in _AUTO.items()}
    if config.model_type in TOWERS:
        # Their heads for labels leave one of the towers out.
        both = modeling_auto.MODEL_MAPPING[type(config)]
        return {TOWERS[config.model_type]: both, "feature-extraction": both}
    found = {task: mapping[type(config)] for task, mapping in mappings.items() if type(config) in mapping}
    if not is_causal(config):
        # Upstream would run BERT as a language model, in which every token sees the ones to come.
        found.pop("text-generation", None)
    else:
        # An answer's first token would not see what follows the question.
        found.pop("question-answering", None)
    if "text-to-speech" in found:
        # Upstream has more that makes sound of text (music, too); the zoo speaks with VITS, which does nothing else.
        found = {"text-to-speech": found["text-to-speech"]} if config.model_type == "vits" else {}
    if config.model_type == WHISPER:
        found["automatic-speech-recognition"] = modeling_auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING[type(config)]
    if config.model_type != "bert":
        # Upstream lists every architecture here; hidden words and following sentences are BERT's.
        found.pop("pretraining", None)
    return found


@contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' progress bars and reports: what matters in them is raised."""
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(logging.ERROR)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
