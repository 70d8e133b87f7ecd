"""What an answer means, one file a task. `get(name)` is the class, `make(name, spec, labels)` an instance."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

from zoo.errors import ConfigError, suggest
from zoo.spec import TASK_ALIASES

if TYPE_CHECKING:
    from zoo.spec import ModelSpec
    from zoo.tasks.base import Task

# A task's name on the hub, and where its class is; nothing is imported until it is asked for.
TASKS = {
    "text-classification": "zoo.tasks.classification:TextClassification",
    "zero-shot-classification": "zoo.tasks.zero_shot:ZeroShotClassification",
    "fill-mask": "zoo.tasks.fill_mask:FillMask",
    "pretraining": "zoo.tasks.pretraining:Pretraining",
    "text-to-speech": "zoo.tasks.text_to_speech:TextToSpeech",
    "image-classification": "zoo.tasks.classification:ImageClassification",
    "image-segmentation": "zoo.tasks.segmentation:ImageSegmentation",
    "object-detection": "zoo.tasks.detection:ObjectDetection",
    "zero-shot-image-classification": "zoo.tasks.contrastive:ZeroShotImageClassification",
    "zero-shot-audio-classification": "zoo.tasks.contrastive:ZeroShotAudioClassification",
    "audio-classification": "zoo.tasks.classification:AudioClassification",
    "token-classification": "zoo.tasks.token_classification:TokenClassification",
    "question-answering": "zoo.tasks.question_answering:QuestionAnswering",
    "text-generation": "zoo.tasks.text_generation:TextGeneration",
    "automatic-speech-recognition": "zoo.tasks.speech_recognition:SpeechRecognition",
    "tabular-classification": "zoo.tasks.tabular:TabularClassification",
    "tabular-regression": "zoo.tasks.tabular:TabularRegression",
    "summarization": "zoo.tasks.summarization:Summarization",
    "translation": "zoo.tasks.translation:Translation",
    "feature-extraction": "zoo.tasks.feature_extraction:FeatureExtraction",
}
# The same of models that write an answer token by token, with a decoder of their own.
WRITTEN = {"automatic-speech-recognition": "zoo.tasks.speech_seq2seq:SpeechSeq2Seq"}


def canonical(name: str, modality: str | None = None) -> str:
    """Our name of a task, where the hub has another for one modality ("image-feature-extraction"); else as it came.

    modality: of the model that it is asked of. Raises ConfigError for the name of another modality's.
    """
    ours, of = TASK_ALIASES.get(name, (name, modality))
    if modality is not None and of != modality:
        raise ConfigError(f"{name!r} is of {of} models, and this one is of {modality}. Its name here is {ours!r}.")
    return ours


def get(name: str, spec: ModelSpec | None = None) -> type[Task]:
    """The class of a task, for a model where it is given. Raises ConfigError that suggests the right name."""
    name = canonical(name)
    if name not in TASKS:
        raise ConfigError(f"Unknown task {name!r}.{suggest(name, TASKS)} The tasks are: {', '.join(TASKS)}.")
    written = spec is not None and spec.decoder is not None
    module, attribute = (WRITTEN if written and name in WRITTEN else TASKS)[name].split(":")
    return cast("type[Task]", getattr(importlib.import_module(module), attribute))


def make(name: str, spec: ModelSpec, labels: tuple[str, ...] = ()) -> Task:
    """A task for one model. labels: in the order of the logits; empty for a task without."""
    return get(name, spec)(spec, tuple(labels))


__all__ = ["TASKS", "WRITTEN", "canonical", "get", "make"]
