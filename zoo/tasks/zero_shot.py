"""Zero-shot classification: labels that the model never saw, each as a sentence that a text may entail.

After Yin et al. (arXiv:1909.00161) and transformers' pipeline of this name: a network for natural language inference
says whether the text entails "This example is sport.", and the same for each other label.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, final

import numpy as np

from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import TextEncoder
from zoo.results import Classification as OneLabel
from zoo.results import LabelScore, MultiLabel
from zoo.tasks.arrays import by_length, softmax
from zoo.tasks.base import Outputs
from zoo.tasks.classification import Classification
from zoo.tasks.problems import SINGLE
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from zoo.spec import ModelSpec

_EXAMPLE = 'candidate_labels=["sport", "politics"]'


@dataclass(frozen=True, slots=True)
class ZeroShotOptions:
    """candidate_labels: what to choose from: a list of texts, or one text with commas between them.

    hypothesis_template: the sentence that a label is put into, at "{}". multi_label: any number of labels may be true,
    each by its own probability of entailment against contradiction; else one, and the probabilities sum to 1.
    threshold: with multi_label, the probability from which a label is given; 0.5 when None. top_k: how many of the best
    labels a result lists; all when None.
    """

    candidate_labels: tuple[str, ...] = ()
    hypothesis_template: str = "This example is {}."
    multi_label: bool = False
    threshold: float | None = None
    top_k: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "candidate_labels", read_labels(self.candidate_labels))
        if not isinstance(self.hypothesis_template, str) or self.hypothesis_template.count("{}") != 1:
            raise ConfigError(
                f"hypothesis_template is {self.hypothesis_template!r}; give a sentence with {{}} in the label's place."
            )
        if not isinstance(self.multi_label, bool):
            raise ConfigError(f"multi_label is {self.multi_label!r}; it is True or False.")
        if self.top_k is not None and (
            isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1
        ):
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")
        given = self.threshold
        if given is not None and (
            isinstance(given, bool) or not isinstance(given, (int, float)) or not 0 <= given <= 1
        ):
            raise ConfigError(f"threshold is {given!r}; give a probability from 0 to 1.")
        if given is not None and not self.multi_label:
            raise ConfigError("threshold goes with multi_label=True; without it one label is given.")

    @property
    def hypotheses(self) -> list[str]:
        """The sentence of each label."""
        return [self.hypothesis_template.replace("{}", label) for label in self.candidate_labels]


def read_labels(given: Any) -> tuple[str, ...]:
    """Candidate labels of a list, or of one text with commas. Raises ConfigError for none, and for one given twice."""
    items = given.split(",") if isinstance(given, str) else given if isinstance(given, (list, tuple)) else ()
    labels = tuple(item.strip() if isinstance(item, str) else item for item in items)
    if not labels or not all(isinstance(label, str) and label for label in labels):
        raise ConfigError(f"candidate_labels is {given!r}; give the labels to choose from: {_EXAMPLE}.")
    if len(set(labels)) != len(labels):
        twice = next(label for label in labels if labels.count(label) > 1)
        raise ConfigError(f"candidate_labels has {twice!r} twice; give each label once.")
    return labels


@final
class ZeroShotClassification(Classification):
    """The network, the training and the metrics are text-classification's, of pairs of texts and the labels of natural
    language inference: a premise, a hypothesis, and whether the one entails the other.

    At prediction an input is one text. Its windows are those of the text beside each label's sentence in turn; logits
    are averaged over the windows of a long text, each counted by its length. Raises ConfigError for a model whose
    labels have no "entailment" and what is against it.
    """

    name = "zero-shot-classification"
    modalities = ("text",)
    columns = ("text", "label")
    more_inputs = ("text_pair",)
    other_targets = ()
    network = "text-classification"
    options = ZeroShotOptions
    sample_options: ClassVar[Mapping[str, Any]] = {"candidate_labels": ("travel", "new york", "a 中文 tea")}

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        if labels and (spec.problem_type or SINGLE) != SINGLE:
            raise ConfigError(f"{self.name} needs a model that gives one label; this one is of {spec.problem_type!r}.")
        self.entailment, self.contradiction = inference_labels(labels) if labels else (0, 0)

    def samples(self) -> list[Any]:
        return samples_of(self.spec)

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        text = raw["text"] if isinstance(raw, Mapping) and set(raw) == {"text"} else raw
        if isinstance(text, Mapping):
            raise InputError(
                f"A text is expected, not a dict with {', '.join(map(repr, text))}: what it may entail is made of "
                "candidate_labels. task='text-classification' answers pairs."
            )
        assert isinstance(encoder, TextEncoder)
        found: list[Example] = []
        for hypothesis in options.hypotheses:
            found += encoder.encode_pair(text, hypothesis, over="first")
        return [replace(window, window=index, windows=len(found)) for index, window in enumerate(found)]

    def windows(self, encoder: Encoder, raw: Any) -> list[Example]:
        """Of a labelled pair, as training and evaluation have them."""
        return encoder.encode(raw, overlap=self.overlap)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        logits = np.stack([_logits(outputs, windows, hypothesis) for hypothesis in options.hypotheses])
        alone = options.multi_label or len(logits) == 1
        scores = (
            softmax(logits[:, [self.contradiction, self.entailment]])[:, 1]
            if alone
            else softmax(logits[:, self.entailment])
        )
        order = np.argsort(-scores, kind="stable")
        ranked = [LabelScore(options.candidate_labels[i], float(scores[i])) for i in order.tolist()]
        top = tuple(ranked[: options.top_k])
        if not options.multi_label:
            return OneLabel(ranked[0].label, ranked[0].score, top)
        threshold = 0.5 if options.threshold is None else options.threshold
        chosen = [item for item in ranked if item.score >= threshold]
        return MultiLabel(tuple(item.label for item in chosen), tuple(item.score for item in chosen), top)

    def same(self, a: Any, b: Any) -> bool:
        return set(a.labels) == set(b.labels) if isinstance(a, MultiLabel) else bool(a.label == b.label)


def inference_labels(labels: Sequence[str]) -> tuple[int, int]:
    """Where "entailment" stands among the labels of natural language inference, and what is against it.

    Known by how they begin, as upstream has it: "entailment"; "contradiction", or else "not_entailment", or the other
    one of two. Raises ConfigError where there is none.
    """
    lower = [label.lower() for label in labels]
    entailing = [i for i, label in enumerate(lower) if label.startswith("entail")]
    for beginning in ("contra", "not", "non"):
        against = [i for i, label in enumerate(lower) if label.startswith(beginning)]
        if against:
            break
    else:
        against = [1 - i for i in entailing] if len(labels) == 2 else []
    if len(entailing) != 1 or len(against) != 1:
        shown = ", ".join(map(repr, labels[:6])) + (", ..." if len(labels) > 6 else "")
        raise ConfigError(
            f"zero-shot-classification needs a model of natural language inference, whose labels are 'entailment', "
            f"'neutral' and 'contradiction' (or 'entailment' and 'not_entailment'). These are: {shown}."
        )
    return entailing[0], against[0]


def _logits(outputs: Sequence[Outputs], windows: Sequence[Example], hypothesis: str) -> Array:
    """float64 `[C]` of one label: the mean over its windows, each counted by its length."""
    own = [place for place, window in enumerate(windows) if window.source.pair == hypothesis]
    rows = [outputs[place]["logits"].astype(np.float64) for place in own]
    return by_length(rows, [windows[place] for place in own])
