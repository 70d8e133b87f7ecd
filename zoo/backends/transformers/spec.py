"""What a transformers checkpoint says of itself, read into a spec: config.json and the small files beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from transformers.models.auto import modeling_auto

from zoo import hub
from zoo.backends.transformers import input_spec, seq2seq_spec, towers_spec
from zoo.backends.transformers.config import TOWERS, WHISPER, classes, essentials, known_types, make_config
from zoo.backends.transformers.files import Read, read_file
from zoo.backends.weights import NAMES, find_state
from zoo.errors import SpecError, UnknownModel, WeightsUnavailable, ZooError
from zoo.spec import Modality, ModelSpec, ProblemType, Weights

_TASK_OF_CLASS = {
    "ForSequenceClassification": {"text": "text-classification", "audio": "audio-classification"},
    "ForTokenClassification": {"text": "token-classification"},
    "ForQuestionAnswering": {"text": "question-answering"},
    "ForCausalLM": {"text": "text-generation"},
    "LMHeadModel": {"text": "text-generation"},
    "ForPreTraining": {"text": "pretraining"},
    "ForMaskedLM": {"text": "fill-mask"},
    "VitsModel": {"text": "text-to-speech"},
    "ForCTC": {"audio": "automatic-speech-recognition"},
    "WhisperForConditionalGeneration": {"audio": "automatic-speech-recognition"},
    "ForAudioClassification": {"audio": "audio-classification"},
    "ForImageClassification": {"vision": "image-classification"},
    "ForSemanticSegmentation": {"vision": "image-segmentation"},
}
_MODALITIES: dict[Modality, tuple[str, ...]] = {
    "audio": ("MODEL_FOR_CTC_MAPPING_NAMES", "MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING_NAMES"),
    "vision": (
        "MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES",
        "MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES",
    ),
    "text": (
        "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
        "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
        "MODEL_FOR_MASKED_LM_MAPPING_NAMES",
        "MODEL_FOR_TEXT_TO_WAVEFORM_MAPPING_NAMES",
    ),
}
_CLASSIFYING = ("text-classification", "image-classification", "audio-classification")


def from_folder(path: str | Path) -> tuple[ModelSpec, Path]:
    """The spec of a transformers checkpoint folder, and the file that holds its weights.

    Raises SpecError for a folder that is none, WeightsUnavailable when it has no weights.
    """
    folder = Path(path).expanduser().resolve()
    if not (folder / "config.json").is_file():
        raise SpecError(
            f"{folder} is neither a saved model (zoo.yaml) nor a checkpoint of transformers or timm (config.json): "
            f"it has {', '.join(sorted(item.name for item in folder.iterdir())[:5]) or 'no files'}."
        )
    spec = spec_of(lambda name: read_file(folder / name), name=folder.name, where=str(folder))
    return spec, find_state(folder)


def resolve(repo: str, *, revision: str | None) -> ModelSpec:
    """The spec of a repository of the hub, of the commit that `revision` is now."""
    config = hub.fetch(repo, "config.json", revision=revision)
    state = hub.find(repo, NAMES, revision=config.revision)
    if state is None:
        raise WeightsUnavailable(f"{repo} at {config.revision} has none of: {', '.join(NAMES)}.")

    def read(name: str) -> dict[str, Any]:
        found = hub.find(repo, (name,), revision=config.revision)
        return read_file(found.path) if found else {}

    weights = Weights(repo=repo, revision=config.revision, file=state.path.name)
    source = f"https://huggingface.co/{repo}"
    return spec_of(read, name=repo.rsplit("/", 1)[-1], where=repo).evolve(weights=weights.to_dict(), source=source)


def spec_of(read: Read, *, name: str, where: str) -> ModelSpec:
    """A spec from the files of a checkpoint. Raises SpecError for what the zoo can't run."""
    try:
        return _spec_of(read, name=name, where=where)
    # Files that transformers did not write may have anything in the place of a number or a list.
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        if isinstance(error, ZooError):
            raise
        raise SpecError(f"{where}: its config.json, or a file beside it, is damaged: {error!r}.") from error


def _spec_of(read: Read, *, name: str, where: str) -> ModelSpec:
    config = read("config.json")
    kind = config.get("model_type")
    if kind not in known_types():
        raise SpecError(
            f"{where}: config.json names the model type {kind!r}, which transformers does not have. "
            "Code that comes with a checkpoint is never run."
        )
    modality = _modality(str(kind), where)
    towers = kind in TOWERS
    # Built and judged by upstream's configuration class, which knows the defaults that the file leaves out.
    bare = ModelSpec(
        name=_slug(name),
        modality=modality,
        tasks=("feature-extraction",),
        backend="transformers",
        architecture=str(kind),
        config=essentials(config),
        input=input_spec.ANY_INPUT[modality],
    )
    full = make_config(bare)
    if seq2seq_spec.writes(config):
        return bare.evolve(
            tasks=seq2seq_spec.tasks(config),
            input=input_spec.text_input(full, read).to_dict(),
            decoder=seq2seq_spec.decoder(config, full, read).to_dict(),
        )
    allowed = list(classes(full)) if towers else [task for task in classes(full) if task in _tasks_of(modality)]
    if kind == WHISPER:
        allowed = ["automatic-speech-recognition"]
    default = allowed[0] if towers else _default_task(config, modality, allowed)
    return bare.evolve(
        problem_type=_problem(config) if default in _CLASSIFYING else None,
        tasks=[default, *(task for task in allowed if task != default)],
        input=input_spec.INPUTS[modality](full, read).to_dict(),
        text=towers_spec.text_input(full, read).to_dict() if towers else None,
        labels=_labels(default, config, full, read),
        embedding=(towers_spec.embedding(full) if towers else input_spec.embedding(config, read)).to_dict(),
        decoder=input_spec.whisper_decoder(full, read) if kind == WHISPER else None,
    )


def _modality(kind: str, where: str) -> Modality:
    if kind == "clap":
        return "audio"
    if kind in seq2seq_spec.KINDS:
        return "text"
    for modality, mappings in _MODALITIES.items():
        if any(kind in getattr(modeling_auto, name) for name in mappings):
            return modality
    raise SpecError(f"{where}: models of type {kind!r} take neither plain text, nor sound, nor images alone.")


def _tasks_of(modality: Modality) -> tuple[str, ...]:
    return {
        "text": (
            "text-classification",
            "token-classification",
            "question-answering",
            "text-generation",
            "fill-mask",
            "feature-extraction",
            "pretraining",
            "text-to-speech",
        ),
        "audio": ("audio-classification", "automatic-speech-recognition", "feature-extraction"),
        "vision": ("image-classification", "image-segmentation", "feature-extraction"),
    }[modality]


def _default_task(config: Mapping[str, Any], modality: Modality, allowed: list[str]) -> str:
    """What the checkpoint was made for, by the class that config.json names."""
    if _problem(config) == "regression" and _outputs(config) != 1:
        # Several numbers an input: the body can be used, and trained for a task of the zoo.
        return "feature-extraction"
    for made in config.get("architectures") or ():
        for suffix, tasks in _TASK_OF_CLASS.items():
            if str(made).endswith(suffix) and tasks.get(modality) in allowed:
                return tasks[modality]
    return "feature-extraction"


def _problem(config: Mapping[str, Any]) -> ProblemType | None:
    """What the head of a classification answers with. As upstream, one logit alone is a number."""
    said = config.get("problem_type")
    if said in get_args(ProblemType):
        return cast(ProblemType, said)
    return "regression" if _outputs(config) == 1 else None


def _outputs(config: Mapping[str, Any]) -> int:
    """How many logits the head of a classification has; two where the file leaves upstream's default out."""
    return len(config["id2label"]) if config.get("id2label") else int(config.get("num_labels", 2))


def _labels(task: str, config: Mapping[str, Any], full: Any, read: Read) -> tuple[str, ...] | None:
    if task == "automatic-speech-recognition":
        return _vocabulary(full, read) if full.model_type != WHISPER else None
    if task in _CLASSIFYING and _problem(config) == "regression":
        return ("value",)
    if task in (*_CLASSIFYING, "token-classification", "image-segmentation"):
        names = config.get("id2label") or {index: f"LABEL_{index}" for index in range(config.get("num_labels", 2))}
        return tuple(str(names[index]) for index in sorted(names, key=int))
    return None


def _vocabulary(full: Any, read: Read) -> tuple[str, ...] | None:
    """The characters of a CTC model in the order of its logits, under the names that the task knows."""
    vocab = {**read("vocab.json"), **read("added_tokens.json")}
    if not vocab or not all(isinstance(index, int) for index in vocab.values()):
        return None
    tokens = [f"<{index}>" for index in range(int(full.vocab_size))]
    for token, index in vocab.items():
        if index < len(tokens):
            tokens[index] = token
    said = read("tokenizer_config.json")
    renamed = {str(_content(said.get("unk_token"))): "<unk>", str(said.get("word_delimiter_token", "|")): "|"}
    tokens = [renamed.get(token, token) for token in tokens]
    if full.pad_token_id is not None and full.pad_token_id < len(tokens):
        tokens[full.pad_token_id] = "<pad>"
    return tuple(tokens)


def _content(token: Any) -> Any:
    return token.get("content") if isinstance(token, Mapping) else token


def _slug(name: str) -> str:
    """A name that a spec may have: lower case, and nothing but letters, digits, dots, dashes and underscores."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    if not slug:
        raise UnknownModel(f"{name!r} has no letter or digit to make a name of.")
    return slug
