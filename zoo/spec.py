"""What a model is: one YAML file, parsed strictly at the border and frozen within.

YAML names things and never imports them. A `ModelSpec` from the catalogue may name a label set
(`labels: imagenet-1k`); a resolved one (in a saved model or a bundle) carries the labels themselves.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta, field
from msgspec.structs import force_setattr

from zoo.plain import dump_yaml, load_yaml
from zoo.strict import END, Frozen, read

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
Unit = Annotated[float, Meta(gt=0, le=1)]
# A spec may come from elsewhere: memory for what it asks for is taken without a further question.
Side = Annotated[int, Meta(gt=0, le=16_384)]
_MOST_TOKENS = 10_000_000
# What YAML reads as a number or a date is a label all the same.
if TYPE_CHECKING:
    Label = str
else:
    Label = Any


class TextInput(Frozen):
    """Text: int64 `input_ids` and `attention_mask`, both `[T]`, T <= max_length tokens; `token_type_ids` if it has."""

    kind: ClassVar[Literal["text"]] = "text"
    max_length: Annotated[
        int, Meta(gt=0, le=_MOST_TOKENS, description="Tokens the model can see at once, special tokens included.")
    ]
    padding_side: Literal["right", "left"] = "right"
    token_types: Annotated[bool, Meta(description="Also `token_type_ids`: 1 for the second text of a pair.")] = False
    blank: (
        Annotated[
            int,
            Meta(ge=0, description="Of speech synthesis: the token that stands before, between and after all others."),
        ]
        | None
    ) = None


class ImageInput(Frozen):
    """An image: uint8 `pixel_values` `[channels, H, W]`; mean and std (of values in [0, 1]) are applied inside."""

    kind: ClassVar[Literal["image"]] = "image"
    size: Annotated[tuple[Side, Side], Meta(description="Height and width in pixels.")]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: Literal["nearest", "bilinear", "bicubic", "lanczos"] = "bicubic"
    crop_pct: Annotated[Unit, Meta(description="The shorter side is resized to size / crop_pct, then cropped.")] = 0.875
    crop_mode: Annotated[
        Literal["center", "squash", "pad"],
        Meta(
            description="'squash': both sides are resized, the aspect ratio is lost. 'pad': the whole image, in its "
            "own aspect ratio, in the upper left of a canvas of `size`, with a uint8 `pixel_mask` `[H, W]` (1 = image)."
        ),
    ] = "center"
    shortest_edge: Annotated[
        Side | None,
        Meta(
            description="With 'pad': what the shorter side is resized to, unless the image would not fit the canvas "
            "then; None fills the canvas."
        ),
    ] = None
    channels: Annotated[
        Literal[1, 3],
        Meta(description="1: grey, `[1, H, W]`; a pretrained first layer of three is summed (timm's models)."),
    ] = 3
    window: Annotated[
        Literal["full", "range", "percentile"] | tuple[float, float],
        Meta(
            description="How values of more than 8 bits become 8: 'full' by the whole range of their type; 'range' "
            "from the image's lowest to its highest; 'percentile' from its 0.5th to its 99.5th percentile; or "
            "(low, high)."
        ),
    ] = "full"

    def __post_init__(self) -> None:
        if isinstance(self.window, tuple) and not -math.inf < self.window[0] < self.window[1] < math.inf:
            raise ValueError(f"window {self.window}: give (low, high), two numbers, the lower first")


class AudioInput(Frozen):
    """Sound: float32 `input_values` `[S]`, mono, at `sampling_rate` Hz, and its int64 `attention_mask` `[S]`."""

    kind: ClassVar[Literal["audio"]] = "audio"
    sampling_rate: Annotated[int, Meta(ge=1000, le=768_000, description="Hz.")]
    normalize: Annotated[bool, Meta(description="Zero mean and unit variance over each recording.")] = True
    max_seconds: Annotated[
        float, Meta(gt=0, le=4 * 3600, description="Longer recordings are cut into windows of this length.")
    ] = 30.0


class MelInput(Frozen):
    """Sound as a log-mel spectrogram of fixed length, a frame every 10 ms: float32 `input_features`.

    "whisper": `[bins, frames]`, as WhisperFeatureExtractor. "kaldi": `[frames, bins]`, as ASTFeatureExtractor.
    "clap": `[1, frames, bins]`, and "clap-fusion": `[4, frames, bins]` with int64 `is_longer`, as ClapFeatureExtractor.
    """

    kind: ClassVar[Literal["mel"]] = "mel"
    sampling_rate: Annotated[int, Meta(ge=8000, le=768_000, description="Hz.")]
    layout: Literal["whisper", "kaldi", "clap", "clap-fusion"]
    bins: Annotated[int, Meta(gt=0, le=4096, description="Mel filters.")]
    frames: Annotated[
        int,
        Meta(ge=10, le=360_000, description="What the model sees at once; longer recordings are cut into windows."),
    ]
    mean: Annotated[float, Meta(description='Of "kaldi" features: (x - mean) / (2 std).')] = 0.0
    std: Annotated[float, Meta(gt=0)] = 0.5
    low: Annotated[float, Meta(ge=0, description='Of "clap": Hz, where the lowest filter begins.')] = 0.0
    high: Annotated[float, Meta(gt=0, description="Hz, where the highest ends; None is half the rate.")] | None = None


class TabularColumn(Frozen):
    """One column of a table, as it was learned from the training data."""

    name: str
    kind: Literal["categorical", "set", "numeric"]
    values: Annotated[tuple[str, ...], Meta(description="Known categories, the most frequent first.")] = ()
    buckets: Annotated[int, Meta(ge=0, description="Categories by their hash instead, this many; 0: by `values`.")] = 0
    width: Annotated[int, Meta(ge=1, le=100_000, description="Values that a cell of a set holds at most.")] = 1
    separator: Annotated[str, Meta(min_length=1, description="Between the values of a set that is a text.")] = "|"
    mean: float = 0.0
    std: Annotated[float, Meta(gt=0)] = 1.0


class Cross(Frozen):
    """The combinations of some categorical columns, by their hash: one weight of the wide part a bucket."""

    columns: Annotated[tuple[str, ...], Meta(min_length=2)]
    buckets: Annotated[int, Meta(gt=0)]


class TargetRange(Frozen):
    """The numbers of a regression's training data: outputs are scaled by them, and answers stay within them."""

    mean: float
    std: Annotated[float, Meta(gt=0)]
    low: float
    high: float


class TabularInput(Frozen):
    """A row of a table: int64 `categories [S]` and `crosses [X]`, float32 `numbers [2 M]`; no columns before data."""

    kind: ClassVar[Literal["tabular"]] = "tabular"
    columns: tuple[TabularColumn, ...] = ()
    crosses: tuple[Cross, ...] = ()
    target: TargetRange | None = None

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        categorical = [column.name for column in self.columns if column.kind != "numeric"]
        if len(set(names)) != len(names):
            raise ValueError("two columns have one name")
        for name in (name for cross in self.crosses for name in cross.columns):
            if name not in categorical:
                raise ValueError(f"{name!r} is crossed and no categorical column; those are: {', '.join(categorical)}")

    def __str__(self) -> str:
        shown = [f"{len(self.columns)} columns" if self.columns else "columns are learned from the data"]
        shown += [f"{column.name} ({column.kind})" for column in self.columns[:20]]
        crosses = [" x ".join(cross.columns) for cross in self.crosses]
        return ", ".join(shown) + (f"; crosses: {', '.join(crosses)}" if crosses else "")


InputSpec = TextInput | ImageInput | AudioInput | MelInput | TabularInput


class Weights(Frozen):
    """Where pretrained weights are: a repository of the hub and one file in it."""

    repo: Annotated[str, Meta(pattern=rf"^[\w.-]+/[\w.-]+{END}|^[\w.-]+{END}")]
    revision: Annotated[str, Meta(description="A commit, tag or branch; save() writes the commit found.")] = "main"
    file: str = "model.safetensors"
    sha256: Annotated[str, Meta(pattern=rf"^[0-9a-f]{{64}}{END}")] | None = None


class Embedding(Frozen):
    """How `embed` makes one vector of many."""

    pooling: Pooling = "mean"
    normalize: bool = False
    match: Annotated[
        Literal["softmax", "sigmoid"],
        Meta(
            description="Of a model with two towers: whether texts are rivals for an image, or each fits it or not.",
        ),
    ] = "softmax"


class Decoder(Frozen):
    """What an encoder-decoder model needs beside its input: how its second half writes.

    generation: the model's own defaults of predict(), by the names of its options; a fact of the checkpoint.
    prefixes: what stands before a text, by task ("summarize: "); {source} and {target} are the languages' values.
    languages: of a model for several, code -> the token of the language, or the word that the prefix has for it.
    """

    max_length: Annotated[
        int, Meta(gt=0, le=_MOST_TOKENS, description="Tokens the decoder can write, its beginning included.")
    ]
    generation: dict[str, Any] = field(default_factory=dict)
    prefixes: dict[str, str] = field(default_factory=dict)
    languages: dict[str, str] = field(default_factory=dict)
    language_tokens: Annotated[
        bool, Meta(description="A language's token stands before each text, and is the first token written.")
    ] = False
    multilingual: Annotated[bool, Meta(description="Of Whisper: its prompt names a language and a task.")] = False
    source_language: Annotated[str | None, Meta(description="Where predict() and finetune() name none.")] = None
    target_language: str | None = None


class ModelSpec(Frozen):
    """One model: what it is, where its weights are, what goes in and what comes out."""

    name: Annotated[str, Meta(pattern=rf"^[a-z0-9][a-z0-9._-]*{END}")]
    aliases: tuple[str, ...] = ()
    title: str = ""
    modality: Modality
    tasks: Annotated[tuple[TaskName, ...], Meta(min_length=1, description="The first is the default of load().")]
    backend: Literal["timm", "torchvision", "transformers", "torchaudio", "zoo"]
    architecture: Annotated[
        str, Meta(description="The backend's own name: a timm model, a transformers model_type, ...")
    ]
    config: Annotated[dict[str, Any], Meta(description="The backend's own options for this architecture.")] = field(
        default_factory=dict
    )
    weights: Weights | None = None
    input: InputSpec
    text: Annotated[
        TextInput | None,
        Meta(description="Of a model with two towers in one space: the texts that its other tower takes."),
    ] = None
    labels: Annotated[
        tuple[Label, ...] | str | None,
        Meta(
            description="Labels in the order of the logits, or the name of a label set beside the YAML files.",
        ),
    ] = None
    problem_type: Annotated[
        ProblemType | None,
        Meta(description="Of a classification: one label an input when not given, several, or a number."),
    ] = None
    embedding: Embedding = field(default_factory=Embedding)
    decoder: Decoder | None = None
    license: str | None = None
    paper: str | None = None
    source: str | None = None
    parameters: Annotated[int, Meta(gt=0, le=10**15, description="With the head of the default task.")] | None = None
    finetune: Annotated[
        dict[str, float | int | str | bool],
        Meta(description="Defaults for finetune(), by the names of zoo.TrainConfig."),
    ] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.labels, (list, tuple)):
            # YAML reads an unquoted `no` as False, and str(False) would be a label nobody meant.
            if any(isinstance(item, bool) for item in self.labels):
                raise ValueError("labels: one is read as true or false: put yes, no, on, off in quotes")
            force_setattr(self, "labels", tuple(map(str, self.labels)))
        allowed = {"text": ("text",), "vision": ("image",), "audio": ("audio", "mel"), "tabular": ("tabular",)}[
            self.modality
        ]
        if self.input.kind not in allowed:
            kinds = " or ".join(map(repr, allowed))
            raise ValueError(f"modality {self.modality!r} takes input of kind {kinds}, not {self.input.kind!r}")
        if self.text is not None and self.modality not in ("vision", "audio"):
            raise ValueError("text is for a model of images or sound whose other tower takes texts")

    @classmethod
    def parse(cls, text: str, *, where: str = "this YAML") -> ModelSpec:
        """Read one YAML text. Raises SpecError that names the key and suggests the right one."""
        return read(cls, load_yaml(text, where=where), where=where)

    def to_yaml(self) -> str:
        return dump_yaml(self.to_dict(none=False))

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
        return read(ModelSpec, {**self.to_dict(), **changes}, where=self.name)

    def __str__(self) -> str:
        return card(self)


def card(spec: ModelSpec) -> str:
    """The spec as a small table for a terminal."""
    kind = spec.input.kind
    shown = {name: getattr(spec.input, name) for name in spec.input.__struct_fields__}
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
