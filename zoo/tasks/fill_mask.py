"""Masked language modelling: words in the places of masks, and learning them from plain text."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError, DataError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import MASK_TOKENS, TextEncoder
from zoo.report import Report
from zoo.results import FilledMask
from zoo.tasks.arrays import log_softmax, softmax, unpadded, vocabulary_size
from zoo.tasks.base import IGNORE, LossOptions, Outputs, Scorer, Task
from zoo.tasks.losses import cross_entropy, label_weight, refuse
from zoo.tasks.masking import Vocabulary, fixed, mask_of, maskable, masked, vocabulary_of

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec

_SPELLINGS = re.compile("|".join(map(re.escape, MASK_TOKENS)))


@dataclass(frozen=True, slots=True)
class FillMaskOptions:
    """top_k: how many words to give for each mask, best first."""

    top_k: int = 5

    def __post_init__(self) -> None:
        if isinstance(self.top_k, bool) or not isinstance(self.top_k, int) or self.top_k < 1:
            raise ConfigError(f"top_k is {self.top_k!r}; give a positive whole number.")


@dataclass(frozen=True, slots=True, eq=False)
class _Masks:
    """Where the masks of a text are.

    places: int64 `[M]`, in the window. spans: begin and end of each in `text`, in characters. word: a token as text.
    """

    text: str
    places: Array
    spans: tuple[tuple[int, int], ...]
    word: Callable[[int], str]


@final
class FillMask(Task):
    """Outputs `logits [B, T, V]`; targets int64 `labels [B, T]`, the hidden tokens and -100 elsewhere.

    A mask is written as the model's own token, or as [MASK] for any model. Training hides other tokens in every epoch
    (`zoo.training.masking`); evaluation hides the same ones each time.
    """

    name = "fill-mask"
    modalities = ("text",)
    columns = ("text", None)
    metric = "perplexity"
    higher_is_better = False
    needs_labels = False
    options = FillMaskOptions
    windowed = False
    packs = True

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        self._vocabulary: tuple[Encoder, Vocabulary] | None = None

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def samples(self) -> list[Any]:
        """The built-in texts, each with a word hidden; one with two."""
        texts = [text.split() for text in super().samples()]
        for index, words in enumerate(texts):
            words[(index + 1) % len(words)] = "[MASK]"
        return [" ".join(words) for words in (*texts, ["[MASK]", "and", "[MASK]", "drank", "tea."])]

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        """One window. Raises InputError for a text without a mask, or one longer than the model can see."""
        assert isinstance(encoder, TextEncoder)
        token = str(encoder.tokenizer.id_to_token(mask_of(encoder)))
        windows = super().encode(encoder, _respelled(raw, token), options)
        source = windows[0].source
        places = np.flatnonzero(windows[0].inputs["input_ids"] == encoder.mask_id)
        if not len(places):
            raise InputError(f"{encoder.describe(raw)} has no mask. Write {token} where a word is to be found.")
        spans = tuple(_exactly(source.text, source.offsets[place], token) for place in places)
        return [replace(windows[0], source=_Masks(source.text, places, spans, encoder.word))]

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        """Windows of plain text that can be masked, with the masks of evaluation in them."""
        return self.attach(self.prepare(encoder, encoder.encode(self.checked(raw))), target)

    def prepare(self, encoder: Encoder, windows: Sequence[Example]) -> list[Example]:
        assert isinstance(encoder, TextEncoder)
        if self._vocabulary is None or self._vocabulary[0] is not encoder:
            self._vocabulary = encoder, vocabulary_of(encoder)
        vocabulary = self._vocabulary[1]
        return [maskable(window, vocabulary) for window in windows]

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        """windows: as `masking.maskable` gives them. target: not used; the text is its own."""
        if all((window.source.words < 0).all() for window in windows):
            raise DataError("The text has no word to hide. Give a text.")
        return [masked(window, fixed(window)) for window in windows]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse(self.name, options, smoothing=True)
        hidden = targets["labels"] != IGNORE
        return cross_entropy(outputs["logits"][hidden], targets["labels"][hidden], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"], options)

    def scorer(self) -> Scorer:
        return _Scorer(self.name)

    @property
    def width(self) -> int:
        return vocabulary_size(self.spec)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        """Of each window the logits of its masks `[M, V]` alone; where the hidden words are known, what they say of
        them: a row's logits of a whole vocabulary would fill the memory."""
        found = []
        for logits, example in zip(outputs["logits"], examples, strict=True):
            rows = unpadded(logits, example.length, left=self.left_padded)
            if "labels" in example.targets:
                found.append(judged(rows, example.targets["labels"]))
            else:
                found.append({"logits": rows[example.source.places]})
        return found

    def same(self, a: Any, b: Any) -> bool:
        """The best words, and in the same places."""
        return [words[0].token for words in a] == [words[0].token for words in b]

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> list[list[FilledMask]]:
        """For each mask of the text, in order, the best words, best first."""
        masks: _Masks = windows[0].source
        probabilities = softmax(outputs[0]["logits"].astype(np.float64))
        return [_best(row, masks, span, options.top_k) for row, span in zip(probabilities, masks.spans, strict=True)]


def judged(logits: Array, labels: Array) -> dict[str, Array]:
    """What logits `[T, V]` say of the hidden tokens: float64 `nats [M]` each costs, and whether it came first.

    labels: int64 `[T]`, -100 where nothing is hidden.
    """
    places = np.flatnonzero(labels != IGNORE)
    scores = log_softmax(logits[places].astype(np.float64))
    expected = labels[places]
    return {"nats": -scores[np.arange(len(places)), expected], "right": scores.argmax(axis=-1) == expected}


class HiddenCounter:
    """loss: nats a hidden token; perplexity: its exponential; masked_accuracy: how often the token came first."""

    def __init__(self) -> None:
        self._nats = 0.0
        self._right = 0
        self._tokens = 0

    def update(self, output: Outputs) -> None:
        self._nats += float(output["nats"].sum())
        self._right += int(output["right"].sum())
        self._tokens += len(output["nats"])

    def metrics(self) -> dict[str, float]:
        tokens = max(self._tokens, 1)
        loss = self._nats / tokens
        # exp of more than 709 does not fit a float.
        perplexity = math.exp(loss) if loss < 709 else math.inf
        return {"perplexity": perplexity, "loss": loss, "masked_accuracy": self._right / tokens}


@final
class _Scorer(Scorer):
    """Pseudo-perplexity, loss and accuracy over the hidden tokens."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._hidden = HiddenCounter()
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        for output in outputs:
            self._hidden.update(output)
        self._rows += 1

    def compute(self) -> Report:
        return Report(task=self._task, metrics=self._hidden.metrics(), rows=self._rows)


def _respelled(raw: Any, token: str) -> Any:
    """The input with every spelling of a mask as the model's own; what is no text is left for the encoder to refuse."""
    if isinstance(raw, str):
        return _SPELLINGS.sub(lambda _: token, raw)
    if isinstance(raw, (bytes, bytearray)):
        return re.sub(_SPELLINGS.pattern.encode(), lambda _: token.encode(), bytes(raw))
    if isinstance(raw, (list, tuple)):
        return [_respelled(word, token) if isinstance(word, str) else word for word in raw]
    return raw


def _exactly(text: str, span: Array, token: str) -> tuple[int, int]:
    """Begin and end of the mask without white space that some tokenizers count to it. span: int64 `[2]`."""
    start, end = span.tolist()
    found = text.find(token, start, end)
    return (start, end) if found < 0 else (found, found + len(token))


def _best(probabilities: Array, masks: _Masks, span: tuple[int, int], count: int) -> list[FilledMask]:
    count = min(count, len(probabilities))
    top = np.argpartition(-probabilities, count - 1)[:count]
    # Equal ones by their number, so that the order is the same everywhere.
    top = top[np.lexsort((top, -probabilities[top]))]
    found = []
    for token in top.tolist():
        word = masks.word(token)
        found.append(FilledMask(word, float(probabilities[token]), token, _filled(masks.text, span, word)))
    return found


def _filled(text: str, span: tuple[int, int], word: str) -> str:
    before, after = text[: span[0]], text[span[1] :]
    if word.startswith("##") and len(word) > 2:
        # WordPiece's mark of a piece that goes on the word before it.
        return before.rstrip() + word[2:] + after
    return before + word + after
