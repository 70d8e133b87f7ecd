"""Images or sound beside texts in one space: zero-shot classification, learned by contrast from captions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from zoo.errors import ConfigError, DataError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.towers import TEXT, TowersEncoder
from zoo.results import Classification, LabelScore
from zoo.tasks.arrays import by_length, sigmoid, softmax
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task
from zoo.tasks.losses import refuse
from zoo.tasks.retrieval import RetrievalScorer
from zoo.tasks.samples import samples_of
from zoo.tasks.zero_shot import read_labels

if TYPE_CHECKING:
    from torch import Tensor

LABELS = "label_embeds"  # what predict() adds to the outputs: the candidates' vectors, float32 [B, L, D]


@dataclass(frozen=True, slots=True)
class CandidateOptions:
    """candidate_labels: what an input may be: a list of texts, or one text with commas between them.

    hypothesis_template: the sentence that a label is put into, at "{}"; the task's own when None. top_k: how many of
    the best labels a result lists; all when None.
    """

    candidate_labels: tuple[str, ...] = ()
    hypothesis_template: str | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidate_labels", read_labels(self.candidate_labels))
        template: Any = self.hypothesis_template
        if template is not None and (not isinstance(template, str) or "{}" not in template):
            raise ConfigError(f"hypothesis_template is {template!r}; give a text with {{}} where the label goes.")
        if self.top_k is not None and (
            isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1
        ):
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")


class Contrastive(Task):
    """Abstract: all but the facts of a modality. Outputs, of each tower that had an input: `image_embeds [B, D]` (or
    `audio_embeds`) and `text_embeds [B, D]`, of unit length; `..._scale [B]` and `..._bias [B]`, which make a logit of
    the cosine: what the model has learned, once a row.

    A row to learn from is an image or recording with its caption. Targets: int64 `media` and `caption`, hashes that
    tell rows apart.
    """

    output = "logits"
    needs_labels = False
    options = CandidateOptions
    metric = "mean_recall@1"
    joint = True
    matches = True
    sample_options: ClassVar[Mapping[str, Any]] = {
        "candidate_labels": ("a cat", "two dogs in the rain", "中文", "noise")
    }
    template: ClassVar[str]

    @property
    def side(self) -> str:
        return self.columns[0]

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def hypotheses(self, options: Any) -> tuple[str, ...]:
        """The sentences that candidates stand in."""
        template = options.hypothesis_template or self.template
        return tuple(template.replace("{}", label) for label in options.candidate_labels)

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        if options is not None and isinstance(raw, Mapping) and TEXT in raw:
            raise InputError(
                f"{self.name} is of an {self.side} alone. Texts are its candidate_labels; embed() takes either side."
            )
        return super().encode(encoder, raw, options)

    def traced(self) -> list[Any]:
        """Both sides, for the graphs of both towers."""
        return samples_of(self.spec)

    def samples(self) -> list[Any]:
        return [raw for raw in samples_of(self.spec) if not (isinstance(raw, Mapping) and TEXT in raw)]

    def probe(self, encoder: Encoder, raw: Any, options: Any) -> list[Example]:
        return encoder.encode(raw)

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        assert isinstance(encoder, TowersEncoder), f"{self.spec.name} has no tower for texts"
        if not isinstance(target, str) or not target.strip():
            raise DataError(f"a caption is expected beside the {self.side}, not {target!r}")
        return self.attach(encoder.encode({self.side: raw, TEXT: target}), target)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        # Rows of one caption, or of one image, are not each other's contrast.
        media = [array for name, array in windows[0].inputs.items() if name not in ("input_ids", "attention_mask")]
        targets = {
            "media": _hash(*(np.ascontiguousarray(array).tobytes() for array in media)),
            "caption": _hash(str(target).strip().encode("utf-8", "surrogatepass")),
        }
        return [replace(window, targets=targets) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        """InfoNCE both ways (arXiv:2103.00020), or the sigmoid loss (arXiv:2303.15343), summed over rows.

        As upstream's, but for CLAP's, which upstream counts one way alone, and for rows that have one caption.
        """
        refuse(self.name, options)
        media, text = outputs[f"{self.side}_embeds"].float(), outputs["text_embeds"].float()
        scales = [outputs[f"{name}_scale"].float().unsqueeze(1) for name in (self.side, TEXT)]
        cosines = media @ text.T
        same = _same(targets["media"]) | _same(targets["caption"])
        same.fill_diagonal_(False)
        if self.spec.embedding.match == "sigmoid":
            return _sigmoid_loss(scales[0] * cosines + outputs[f"{self.side}_bias"].float().unsqueeze(1), same)
        return (_info_nce(scales[0] * cosines, same) + _info_nce(scales[1] * cosines.T, same)) / 2

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(len(targets["caption"]))

    def scorer(self) -> Scorer:
        return RetrievalScorer(self.name, self.side)

    def same(self, a: Any, b: Any) -> bool:
        return bool(a.label == b.label)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        """Of several windows of a recording: by the mean of their vectors, as `embed` has it."""
        if LABELS not in outputs[0] or f"{self.side}_embeds" not in outputs[0]:
            return Classification("", 0.0)  # of a text, in the parity check
        vector = by_length([output[f"{self.side}_embeds"] for output in outputs], windows)
        cosines = outputs[0][LABELS] @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        logits = outputs[0][f"{self.side}_scale"] * cosines + outputs[0][f"{self.side}_bias"]
        scores = sigmoid(logits) if self.spec.embedding.match == "sigmoid" else softmax(logits)
        best = np.argsort(-scores, kind="stable")[: options.top_k]
        top = tuple(LabelScore(options.candidate_labels[i], float(scores[i])) for i in best)
        return Classification(top[0].label, top[0].score, top)


@final
class ZeroShotImageClassification(Contrastive):
    """Which of some labels, given when asking, an image shows best."""

    name = "zero-shot-image-classification"
    modalities = ("vision",)
    columns = ("image", "text")
    template = "This is a photo of {}."


@final
class ZeroShotAudioClassification(Contrastive):
    """Which of some labels, given when asking, a recording is best described by."""

    name = "zero-shot-audio-classification"
    modalities = ("audio",)
    columns = ("audio", "text")
    template = "This is a sound of {}."


def _hash(*parts: bytes) -> Array:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part)
    return np.frombuffer(digest.digest(), dtype=np.int64)[0]  # type: ignore[no-any-return]


def _same(hashes: Tensor) -> Tensor:
    return hashes.unsqueeze(0) == hashes.unsqueeze(1)


def _info_nce(logits: Tensor, same: Tensor) -> Tensor:
    import torch
    from torch.nn import functional

    right = torch.arange(len(logits), device=logits.device)
    return functional.cross_entropy(logits.masked_fill(same, -torch.inf), right, reduction="sum")


def _sigmoid_loss(logits: Tensor, same: Tensor) -> Tensor:
    import torch
    from torch.nn import functional

    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -functional.logsigmoid(signs * logits).masked_fill(same, 0.0).sum()
