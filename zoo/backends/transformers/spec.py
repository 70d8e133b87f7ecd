"""What a transformers checkpoint says of itself, read into a spec: config.json and the small files beside it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

from transformers.models.auto import modeling_auto

from zoo import bundle, hub
from zoo.backends.transformers import pieces, seq2seq_spec
from zoo.backends.transformers.config import (
    TOWERS,
    classes,
    essentials,
    first_position,
    is_causal,
    known_types,
    make_config,
    quiet,
)
from zoo.backends.transformers.towers_spec import clap_input, text_input
from zoo.backends.transformers.towers_spec import embedding as towers_embedding
from zoo.backends.transformers.vits_tokenizer import blank_of, characters, is_vits
from zoo.backends.weights import NAMES, find_state
from zoo.errors import SpecError, UnknownModel, WeightsUnavailable, ZooError
from zoo.modalities.tokenizing import open_tokenizer, read_tokenizer
from zoo.plain import load_json
from zoo.spec import (
    AudioInput,
    Embedding,
    ImageInput,
    InputSpec,
    MelInput,
    Modality,
    ModelSpec,
    Pooling,
    ProblemType,
    TextInput,
    Weights,
)

if TYPE_CHECKING:
    import tokenizers

# A small file of the checkpoint as data, by its name; an empty mapping when it is not there.
Read = Callable[[str], dict[str, Any]]

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
# Characters that are spoken at once: the model itself sees any number, and memory does not.
_SPOKEN = 600
_AST = "audio-spectrogram-transformer"
_WHISPER = "whisper"
# What a generation_config.json says that is not the library's own default of every model.
_GENERATION = ("suppress_tokens", "begin_suppress_tokens", "max_initial_timestamp_index", "num_beams")
# PIL's codes, which preprocessor_config.json has.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


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
    spec = spec_of(lambda name: _read(folder / name), name=folder.name, where=str(folder))
    return spec, find_state(folder)


def resolve(repo: str, *, revision: str | None) -> ModelSpec:
    """The spec of a repository of the hub, of the commit that `revision` is now."""
    config = hub.fetch(repo, "config.json", revision=revision)
    state = hub.find(repo, NAMES, revision=config.revision)
    if state is None:
        raise WeightsUnavailable(f"{repo} at {config.revision} has none of: {', '.join(NAMES)}.")

    def read(name: str) -> dict[str, Any]:
        found = hub.find(repo, (name,), revision=config.revision)
        return _read(found.path) if found else {}

    weights = Weights(repo=repo, revision=config.revision, file=state.path.name)
    source = f"https://huggingface.co/{repo}"
    return spec_of(read, name=repo.rsplit("/", 1)[-1], where=repo).evolve(weights=weights.model_dump(), source=source)


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
        input=_ANY_INPUT[modality],
    )
    full = make_config(bare)
    if seq2seq_spec.writes(config):
        return bare.evolve(
            tasks=seq2seq_spec.tasks(config),
            input=_text_input(full, read).model_dump(),
            decoder=seq2seq_spec.decoder(config, full, read).model_dump(),
        )
    allowed = list(classes(full)) if towers else [task for task in classes(full) if task in _tasks_of(modality)]
    if kind == _WHISPER:
        allowed = ["automatic-speech-recognition"]
    default = allowed[0] if towers else _default_task(config, modality, allowed)
    return bare.evolve(
        problem_type=_problem(config) if default in _CLASSIFYING else None,
        tasks=[default, *(task for task in allowed if task != default)],
        input=_INPUTS[modality](full, read).model_dump(),
        text=text_input(full, read).model_dump() if towers else None,
        labels=_labels(default, config, full, read),
        embedding=(towers_embedding(full) if towers else _embedding(config, read)).model_dump(),
        decoder=_whisper_decoder(full, read) if kind == _WHISPER else None,
    )


def tokenizer(spec: ModelSpec, *, folder: Path | None) -> tokenizers.Tokenizer:
    """The tokenizer of a folder, or of the hub's repository at the spec's revision."""
    if folder is None:
        folder = _tokenizer_folder(spec)
    file = folder / "tokenizer.json"
    if file.is_file():
        return open_tokenizer(file)
    own = pieces.converted(folder, spec, _read(folder / "tokenizer_config.json"))
    return own if own is not None else _converted(folder, spec)


def target_tokenizer(spec: ModelSpec, *, folder: Path | None) -> tokenizers.Tokenizer | None:
    """That of the texts which the model writes; None where they have none of their own."""
    if spec.decoder is None:
        return None
    if folder is None and spec.architecture != "marian":
        return None
    folder = folder or _tokenizer_folder(spec)
    if (folder / bundle.TARGET_TOKENIZER).is_file():
        return read_tokenizer(folder, bundle.TARGET_TOKENIZER)
    return pieces.target(folder, spec)


def _tokenizer_folder(spec: ModelSpec) -> Path:
    if spec.weights is None:
        raise SpecError(f"{spec.name} names no repository to take a tokenizer from; pass tokenizer=.")
    repo, revision = spec.weights.repo, spec.weights.revision
    found = hub.find(repo, ("tokenizer.json",), revision=revision)
    if found is not None:
        return found.path.parent
    several = [hub.find(repo, (name,), revision=revision) for name in ("config.json", *hub.TOKENIZER_FILES)]
    there = [item for item in several if item is not None]
    if not there:
        # Asked once more for what is missing, so that the message says what was asked of which hub.
        hub.fetch(repo, "tokenizer.json", revision=revision)
    return there[0].path.parent


def _converted(folder: Path, spec: ModelSpec) -> tokenizers.Tokenizer:
    """A tokenizer of older files (vocab.txt, merges.txt, sentencepiece), converted by transformers."""
    from transformers import AutoTokenizer

    said = _read(folder / "tokenizer_config.json")
    if is_vits(said):
        return characters(folder, said)
    try:
        with quiet():
            slow = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise SpecError(f"{folder} holds no tokenizer that can be read ({error}). Pass tokenizer=.") from error
    found: tokenizers.Tokenizer | None = getattr(slow, "backend_tokenizer", None)
    if found is None:
        raise SpecError(f"{folder} has no tokenizer.json, and its tokenizer can't be converted. Pass tokenizer=.")
    return found


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a folder; empty where there is none. Raises SpecError for one that can't be read."""
    return _read(folder / "config.json")


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        data = load_json(path.read_text("utf-8"))
    except ValueError as error:
        raise SpecError(f"{path} is not readable JSON: {error}") from error
    # modules.json is a list; wrapped, so that every file is a mapping.
    return data if isinstance(data, dict) else {"items": data}


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
        return _vocabulary(full, read) if full.model_type != _WHISPER else None
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


def _text_input(full: Any, read: Read) -> InputSpec:
    positions = getattr(full, "max_position_embeddings", None)
    if isinstance(positions, int):
        positions -= first_position(full)
    limits = (
        positions,
        read("tokenizer_config.json").get("model_max_length"),
        read("sentence_bert_config.json").get("max_seq_length"),
    )
    said = read("tokenizer_config.json")
    if is_vits(said):
        return TextInput(max_length=_SPOKEN, blank=blank_of(said))
    # Tokenizers without a limit say so with a number of thirty digits.
    real = [int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < 1_000_000]
    return TextInput(max_length=min(real, default=512), token_types=has_token_types(full))


def has_token_types(full: Any) -> bool:
    """Whether the second text of a pair is marked: causal models with a table of types are not fed any."""
    types = getattr(full, "type_vocab_size", 0)
    return isinstance(types, int) and types > 1 and not is_causal(full)


def _audio_input(full: Any, read: Read) -> InputSpec:
    if full.model_type == "clap":
        return clap_input(full, read)
    said = read("preprocessor_config.json")
    if full.model_type == _AST:
        own = {"mean": said.get("mean", -4.2677393), "std": said.get("std", 4.5689974)}
        frames, bins = said.get("max_length", full.max_length), said.get("num_mel_bins", full.num_mel_bins)
        return MelInput(
            sampling_rate=said.get("sampling_rate", 16_000), layout="kaldi", bins=bins, frames=frames, **own
        )
    if full.model_type == _WHISPER:
        rate, frames = said.get("sampling_rate", 16_000), 2 * full.max_source_positions
        return MelInput(sampling_rate=rate, layout="whisper", bins=full.num_mel_bins, frames=frames)
    return AudioInput(
        sampling_rate=int(said.get("sampling_rate", 16_000)), normalize=bool(said.get("do_normalize", True))
    )


def _whisper_decoder(full: Any, read: Read) -> dict[str, Any]:
    """How a checkpoint of Whisper writes, for `ModelSpec.decoder`."""
    said = read("generation_config.json")
    generation = {name: said[name] for name in _GENERATION if said.get(name) is not None}
    if said and "suppress_tokens" not in generation:
        # Where nothing is said at all, the tokenizer says what is no speech.
        generation["suppress_tokens"] = []
    # The size of the vocabulary tells, as in OpenAI's own code: that of English alone has one token fewer.
    multilingual = bool(said.get("is_multilingual", full.vocab_size >= 51_865))
    return {"max_length": full.max_target_positions, "multilingual": multilingual, "generation": generation}


def _image_input(full: Any, read: Read) -> InputSpec:
    said = read("preprocessor_config.json")
    own = getattr(getattr(full, "vision_config", full), "image_size", 224)
    size, crop = said.get("size", own if isinstance(own, int) else 224), said.get("crop_size")
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
    height, width = _pair(crop if crop is not None and said.get("do_center_crop", True) else size)
    shorter = edge or _pair(size)[0]
    crop_pct = said.get("crop_pct") or min(1.0, height / shorter)
    squash = edge is None and crop is None
    return ImageInput(
        size=(height, width),
        mean=tuple(said.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(said.get("image_std", (0.5, 0.5, 0.5))),
        interpolation=_RESAMPLE.get(said.get("resample", 2), "bilinear"),  # type: ignore[arg-type]
        crop_pct=1.0 if squash else crop_pct,
        crop_mode="squash" if squash else "center",
    )


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", 224)
        return int(size.get("height", edge)), int(size.get("width", edge))
    return (int(size), int(size)) if isinstance(size, (int, float)) else (int(size[0]), int(size[1]))


def _embedding(config: Mapping[str, Any], read: Read) -> Embedding:
    """How sentence-transformers pools and normalises, for a folder that it wrote; by x-vectors where there are some."""
    if any(str(made).endswith("ForXVector") for made in config.get("architectures") or ()):
        return Embedding(pooling="xvector", normalize=True)
    if config.get("model_type") == _AST:
        return Embedding(pooling="cls")
    modules = [str(item.get("type", "")) for item in read("modules.json").get("items", ())]
    pooling = read("1_Pooling/config.json") if modules else {}
    chosen: Pooling = "mean"
    options: tuple[Pooling, ...] = ("mean", "cls", "max", "last")
    for option in options:
        if pooling.get({"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token",
                        "max": "pooling_mode_max_tokens", "last": "pooling_mode_lasttoken"}[option]):  # fmt: skip
            chosen = option
    return Embedding(pooling=chosen, normalize=any(kind.endswith("Normalize") for kind in modules))


def _slug(name: str) -> str:
    """A name that a spec may have: lower case, and nothing but letters, digits, dots, dashes and underscores."""
    slug = re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-._")
    if not slug:
        raise UnknownModel(f"{name!r} has no letter or digit to make a name of.")
    return slug


_ANY_INPUT: dict[Modality, InputSpec] = {
    "text": TextInput(max_length=512),
    "audio": AudioInput(sampling_rate=16_000),
    "vision": ImageInput(size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
_INPUTS: dict[Modality, Callable[[Any, Read], InputSpec]] = {
    "text": _text_input,
    "audio": _audio_input,
    "vision": _image_input,
}
