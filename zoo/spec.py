"""What a model is: one YAML file, parsed strictly at the border and frozen within.

YAML names things and never imports them. A `ModelSpec` from the catalogue may name a label set
(`labels: imagenet-1k`); a resolved one (in a saved model or a bundle) carries the labels themselves.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from zoo.errors import SpecError, suggest
from zoo.plain import dump_yaml, load_yaml

Modality = Literal["text", "vision", "audio", "tabular"]
TaskName = Literal[
    "text-classification",
    "zero-shot-classification",
    "token-classification",
    "question-answering",
    "text-generation",
    "fill-mask",
    "pretraining",
    "text-to-speech",
    "image-classification",
    "image-segmentation",
    "object-detection",
    "zero-shot-image-classification",
    "audio-classification",
    "zero-shot-audio-classification",
    "automatic-speech-recognition",
    "feature-extraction",
    "tabular-classification",
    "tabular-regression",
    "summarization",
    "translation",
]
# What the hub calls a task of ours where it is of one modality: (our name, the modality).
TASK_ALIASES: Mapping[str, tuple[str, Modality]] = {"image-feature-extraction": ("feature-extraction", "vision")}
ProblemType = Literal["single_label_classification", "multi_label_classification", "regression"]
Pooling = Literal["mean", "cls", "max", "last", "xvector"]
Unit = Annotated[float, Field(gt=0, le=1)]
# A spec may come from elsewhere: memory for what it asks for is taken without a further question.
Side = Annotated[int, Field(gt=0, le=16_384)]
_MOST_TOKENS = 10_000_000


class Frozen(BaseModel):
    """Strict and immutable: an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class TextInput(Frozen):
    """Text: int64 `input_ids` and `attention_mask`, both `[T]`, T <= max_length tokens; `token_type_ids` if it has."""

    kind: Literal["text"] = "text"
    max_length: int = Field(
        gt=0, le=_MOST_TOKENS, description="Tokens the model can see at once, special tokens included."
    )
    padding_side: Literal["right", "left"] = "right"
    token_types: bool = Field(default=False, description="Also `token_type_ids`: 1 for the second text of a pair.")
    blank: int | None = Field(
        default=None,
        ge=0,
        description="Of speech synthesis: the token that stands before, between and after all others.",
    )


class ImageInput(Frozen):
    """An image: uint8 `pixel_values` `[channels, H, W]`; mean and std (of values in [0, 1]) are applied inside."""

    kind: Literal["image"] = "image"
    size: tuple[Side, Side] = Field(description="Height and width in pixels.")
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    crop_pct: Unit = Field(default=0.875, description="The shorter side is resized to size / crop_pct, then cropped.")
    crop_mode: Literal["center", "squash", "pad"] = Field(
        default="center",
        description="'squash': both sides are resized, the aspect ratio is lost. 'pad': the whole image, in its own "
        "aspect ratio, in the upper left of a canvas of `size`, with a uint8 `pixel_mask` `[H, W]` (1 = image).",
    )
    shortest_edge: Side | None = Field(
        default=None,
        description="With 'pad': what the shorter side is resized to, unless the image would not fit the canvas then; "
        "None fills the canvas.",
    )
    channels: Literal[1, 3] = Field(
        default=3, description="1: grey, `[1, H, W]`; a pretrained first layer of three is summed (timm's models)."
    )
    window: Literal["full", "range", "percentile"] | tuple[float, float] = Field(
        default="full",
        description="How values of more than 8 bits become 8: 'full' by the whole range of their type; 'range' from "
        "the image's lowest to its highest; 'percentile' from its 0.5th to its 99.5th percentile; or (low, high).",
    )

    @model_validator(mode="after")
    def _window_is_open(self) -> ImageInput:
        if isinstance(self.window, tuple) and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise ValueError(f"window {self.window}: give (low, high), two numbers, the lower first")
        return self


class AudioInput(Frozen):
    """Sound: float32 `input_values` `[S]`, mono, at `sampling_rate` Hz, and its int64 `attention_mask` `[S]`."""

    kind: Literal["audio"] = "audio"
    sampling_rate: int = Field(ge=1000, le=768_000, description="Hz.")
    normalize: bool = Field(default=True, description="Zero mean and unit variance over each recording.")
    max_seconds: float = Field(
        default=30.0, gt=0, le=4 * 3600, description="Longer recordings are cut into windows of this length."
    )


class MelInput(Frozen):
    """Sound as a log-mel spectrogram of fixed length, a frame every 10 ms: float32 `input_features`.

    "whisper": `[bins, frames]`, as WhisperFeatureExtractor. "kaldi": `[frames, bins]`, as ASTFeatureExtractor.
    "clap": `[1, frames, bins]`, and "clap-fusion": `[4, frames, bins]` with int64 `is_longer`, as ClapFeatureExtractor.
    """

    kind: Literal["mel"] = "mel"
    sampling_rate: int = Field(ge=8000, le=768_000, description="Hz.")
    layout: Literal["whisper", "kaldi", "clap", "clap-fusion"]
    bins: int = Field(gt=0, le=4096, description="Mel filters.")
    frames: int = Field(
        ge=10, le=360_000, description="What the model sees at once; longer recordings are cut into windows."
    )
    mean: float = Field(default=0.0, description='Of "kaldi" features: (x - mean) / (2 std).')
    std: float = Field(default=0.5, gt=0)
    low: float = Field(default=0.0, ge=0, description='Of "clap": Hz, where the lowest filter begins.')
    high: float | None = Field(default=None, gt=0, description="Hz, where the highest ends; None is half the rate.")


class TabularColumn(Frozen):
    """One column of a table, as it was learned from the training data."""

    name: str
    kind: Literal["categorical", "set", "numeric"]
    values: tuple[str, ...] = Field(default=(), description="Known categories, the most frequent first.")
    buckets: int = Field(default=0, ge=0, description="Categories by their hash instead, this many; 0: by `values`.")
    width: int = Field(default=1, ge=1, le=100_000, description="Values that a cell of a set holds at most.")
    separator: str = Field(default="|", min_length=1, description="Between the values of a set that is a text.")
    mean: float = 0.0
    std: float = Field(default=1.0, gt=0)


class Cross(Frozen):
    """The combinations of some categorical columns, by their hash: one weight of the wide part a bucket."""

    columns: tuple[str, ...] = Field(min_length=2)
    buckets: int = Field(gt=0)


class TargetRange(Frozen):
    """The numbers of a regression's training data: outputs are scaled by them, and answers stay within them."""

    mean: float
    std: float = Field(gt=0)
    low: float
    high: float


class TabularInput(Frozen):
    """A row of a table: int64 `categories [S]` and `crosses [X]`, float32 `numbers [2 M]`; no columns before data."""

    kind: Literal["tabular"] = "tabular"
    columns: tuple[TabularColumn, ...] = ()
    crosses: tuple[Cross, ...] = ()
    target: TargetRange | None = None

    @model_validator(mode="after")
    def _crosses_name_categories(self) -> TabularInput:
        names = [column.name for column in self.columns]
        categorical = [column.name for column in self.columns if column.kind != "numeric"]
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        for name in (name for cross in self.crosses for name in cross.columns):
            if name not in categorical:
                raise ValueError(f"{name!r} is crossed and no categorical column; those are: {', '.join(categorical)}")
        return self

    def __str__(self) -> str:
        shown = [f"{len(self.columns)} columns" if self.columns else "columns are learned from the data"]
        shown += [f"{column.name} ({column.kind})" for column in self.columns[:20]]
        crosses = [" x ".join(cross.columns) for cross in self.crosses]
        return ", ".join(shown) + (f"; crosses: {', '.join(crosses)}" if crosses else "")


InputSpec = Annotated[TextInput | ImageInput | AudioInput | MelInput | TabularInput, Field(discriminator="kind")]


class Weights(Frozen):
    """Where pretrained weights are: a repository of the hub and one file in it."""

    repo: str = Field(pattern=r"^[\w.-]+/[\w.-]+$|^[\w.-]+$")
    revision: str = Field(default="main", description="A commit, tag or branch; save() writes the commit found.")
    file: str = "model.safetensors"
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")


class Embedding(Frozen):
    """How `embed` makes one vector of many."""

    pooling: Pooling = "mean"
    normalize: bool = False
    match: Literal["softmax", "sigmoid"] = Field(
        default="softmax",
        description="Of a model with two towers: whether texts are rivals for an image, or each fits it or not.",
    )


class Decoder(Frozen):
    """What an encoder-decoder model needs beside its input: how its second half writes.

    generation: the model's own defaults of predict(), by the names of its options; a fact of the checkpoint.
    prefixes: what stands before a text, by task ("summarize: "); {source} and {target} are the languages' values.
    languages: of a model for several, code -> the token of the language, or the word that the prefix has for it.
    """

    max_length: int = Field(gt=0, le=_MOST_TOKENS, description="Tokens the decoder can write, its beginning included.")
    generation: dict[str, Any] = Field(default_factory=dict)
    prefixes: dict[str, str] = Field(default_factory=dict)
    languages: dict[str, str] = Field(default_factory=dict)
    language_tokens: bool = Field(
        default=False, description="A language's token stands before each text, and is the first token written."
    )
    multilingual: bool = Field(default=False, description="Of Whisper: its prompt names a language and a task.")
    source_language: str | None = Field(default=None, description="Where predict() and finetune() name none.")
    target_language: str | None = None


class ModelSpec(Frozen):
    """One model: what it is, where its weights are, what goes in and what comes out."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    aliases: tuple[str, ...] = ()
    title: str = ""
    modality: Modality
    tasks: tuple[TaskName, ...] = Field(min_length=1, description="The first is the default of load().")
    backend: Literal["timm", "torchvision", "transformers", "torchaudio", "zoo"]
    architecture: str = Field(description="The backend's own name: a timm model, a transformers model_type, ...")
    config: dict[str, Any] = Field(default_factory=dict, description="The backend's own options for this architecture.")
    weights: Weights | None = None
    input: InputSpec
    text: TextInput | None = Field(
        default=None, description="Of a model with two towers in one space: the texts that its other tower takes."
    )
    labels: tuple[str, ...] | str | None = Field(
        default=None, description="Labels in the order of the logits, or the name of a label set beside the YAML files."
    )
    problem_type: ProblemType | None = Field(
        default=None, description="Of a classification: one label an input when not given, several, or a number."
    )
    embedding: Embedding = Embedding()
    decoder: Decoder | None = None
    license: str | None = None
    paper: str | None = None
    source: str | None = None
    parameters: int | None = Field(default=None, gt=0, description="With the head of the default task.")
    finetune: dict[str, float | int | str | bool] = Field(
        default_factory=dict, description="Defaults for finetune(), by the names of zoo.TrainConfig."
    )

    @field_validator("labels", mode="before")
    @classmethod
    def _labels_are_texts(cls, value: Any) -> Any:
        # YAML reads an unquoted `no` as False, and str(False) would be a label nobody meant.
        if isinstance(value, (list, tuple)) and any(isinstance(item, bool) for item in value):
            raise ValueError("a label is read as true or false: put yes, no, on, off in quotes")
        return [str(item) for item in value] if isinstance(value, (list, tuple)) else value

    @model_validator(mode="after")
    def _input_fits(self) -> ModelSpec:
        allowed = {"text": ("text",), "vision": ("image",), "audio": ("audio", "mel"), "tabular": ("tabular",)}[
            self.modality
        ]
        if self.input.kind not in allowed:
            kinds = " or ".join(map(repr, allowed))
            raise ValueError(f"modality {self.modality!r} takes input of kind {kinds}, not {self.input.kind!r}")
        if self.text is not None and self.modality not in ("vision", "audio"):
            raise ValueError("text is for a model of images or sound whose other tower takes texts")
        return self

    @classmethod
    def parse(cls, text: str, *, where: str = "this YAML") -> ModelSpec:
        """Read one YAML text. Raises SpecError that names the key and suggests the right one."""
        return parse_model(cls, load_yaml(text, where=where), where=where)

    def to_yaml(self) -> str:
        return dump_yaml(self.model_dump(mode="json", exclude_none=True, exclude_defaults=False))

    @property
    def id2label(self) -> dict[int, str]:
        """Label by the index of its logit; empty when there are none, or only a set's name."""
        return dict(enumerate(self.labels)) if isinstance(self.labels, tuple) else {}

    @property
    def has_tokenizer(self) -> bool:
        """Whether the model reads or writes text."""
        return self.input.kind == "text" or self.decoder is not None or self.text is not None

    def evolve(self, **changes: Any) -> ModelSpec:
        """A validated copy with some fields changed."""
        return parse_model(ModelSpec, {**self.model_dump(), **changes}, where=self.name)

    def __str__(self) -> str:
        return card(self)


def card(spec: ModelSpec) -> str:
    """The spec as a small table for a terminal."""
    kind = spec.input.kind
    shown = spec.input.model_dump(exclude={"kind"})
    labels = (
        f"{len(spec.labels)}: {', '.join(spec.labels[:5])}{', ...' if len(spec.labels) > 5 else ''}"
        if isinstance(spec.labels, tuple)
        else spec.labels
    )
    rows = {
        "title": spec.title or None,
        "aliases": ", ".join(spec.aliases) or None,
        "tasks": ", ".join(spec.tasks),
        "backend": f"{spec.backend} ({spec.architecture})",
        "weights": f"{spec.weights.repo}@{spec.weights.revision}" if spec.weights else "none",
        "parameters": f"{spec.parameters / 1e6:,.1f} M" if spec.parameters else None,
        "input": f"{kind} "
        + (str(spec.input) if kind == "tabular" else ", ".join(f"{key}={value}" for key, value in shown.items())),
        "text": f"up to {spec.text.max_length} tokens, into the same space" if spec.text else None,
        "labels": labels,
        "license": spec.license,
        "paper": spec.paper,
        "source": spec.source,
    }
    width = max(map(len, rows))
    indent = " " * (width + 2)
    lines = [
        textwrap.fill(
            f"{key:>{width}}  {value}", 80, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        )
        for key, value in rows.items()
        if value is not None
    ]
    return "\n".join([f"{spec.name} ({spec.modality})", *lines])


T = TypeVar("T", bound=BaseModel)
_MOST_FAULTS = 20


def parse_model(model: type[T], data: Any, *, where: str) -> T:
    """Validate `data`; a SpecError lists every fault, the allowed keys' closest beside an unknown one."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: expected a mapping of keys, got {type(data).__name__}.")
    try:
        return model.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)
        faults = "\n".join(f"  {_fault(model, item)}" for item in found[:_MOST_FAULTS])
        if len(found) > _MOST_FAULTS:
            faults += f"\n  and {len(found) - _MOST_FAULTS} more"
        raise SpecError(f"{where} is not valid:\n{faults}") from error


def _fault(model: type[BaseModel], item: Any) -> str:
    path = ".".join(str(part) for part in item["loc"]) or "(whole)"
    if item["type"] == "extra_forbidden":
        wrong = str(item["loc"][-1])
        return f"{path}: unknown key.{suggest(wrong, _keys(model))}"
    return f"{path}: {item['msg']}"


def _keys(model: type[BaseModel]) -> list[str]:
    nested: list[type[BaseModel]] = (
        [TextInput, ImageInput, AudioInput, MelInput, TabularInput, TabularColumn, Weights, Embedding, Decoder]
        if model is ModelSpec
        else []
    )
    return [*model.model_fields, *(key for part in nested for key in part.model_fields)]
