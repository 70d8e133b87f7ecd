"""BERT's own objective: hidden words, and whether the second of two texts follows the first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import DataError, InputError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.text import TextEncoder
from zoo.report import Report
from zoo.results import NextSentence
from zoo.tasks.arrays import log_softmax, softmax, unpadded, vocabulary_size
from zoo.tasks.base import IGNORE, LossOptions, NoOptions, Outputs, Scorer, Task
from zoo.tasks.fill_mask import HiddenCounter, judged
from zoo.tasks.losses import refuse
from zoo.tasks.masking import fixed, maskable, masked, vocabulary_of
from zoo.tasks.samples import samples_of

if TYPE_CHECKING:
    from torch import Tensor

# Upstream's order of the two logits.
_FOLLOWS, _RANDOM = 0, 1
_PAIR = '{"text": ..., "text_pair": ...}'


@final
class Pretraining(Task):
    """Outputs `logits [B, T, V]` and `next_logits [B, 2]`; targets int64 `labels [B, T]`, the hidden tokens and -100
    elsewhere, and `next [B]`, 0 where the second text follows and 1 where it is another document's.

    The data are documents, of which `zoo.training.documents` makes pairs. A row's loss is the mean over its hidden
    tokens plus that of the pair, so that accumulated batches equal one large batch.
    """

    name = "pretraining"
    modalities = ("text",)
    columns = ("text", None)
    metric = "loss"
    higher_is_better = False
    needs_labels = False
    options = NoOptions
    windowed = False

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    @property
    def width(self) -> int:
        return vocabulary_size(self.spec)

    def samples(self) -> list[Any]:
        texts = samples_of(self.spec)
        # Half of a text each, so that a pair fits where a text does.
        halves = [text[: max(len(text) // 2, 1)] for text in texts]
        return [{"text": a, "text_pair": b} for a, b in zip(halves, [*halves[1:], halves[0]], strict=True)]

    def checked(self, raw: Any) -> Any:
        if not isinstance(raw, Mapping) or raw.get("text") is None or raw.get("text_pair") is None:
            raise InputError(f"Whether one text follows another is asked of a pair: give {_PAIR}.")
        return raw

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        """raw: a pair; one too long for a window is cut. target: whether the second text follows."""
        assert isinstance(encoder, TextEncoder)
        window = replace(encoder.encode(self.checked(raw))[0], windows=1)
        return self.attach([maskable(window, vocabulary_of(encoder))], target)

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        """windows: one, as `masking.maskable` gives it."""
        if not isinstance(target, (bool, np.bool_)):
            raise DataError(f"Whether the second text follows is True or False, not {target!r}.")
        [window] = windows
        found = masked(window, fixed(window))
        return [replace(found, targets={**found.targets, "next": np.array(_FOLLOWS if target else _RANDOM)})]

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        from torch.nn import functional

        refuse(self.name, options)
        hidden = targets["labels"] != IGNORE
        rows = hidden.nonzero()[:, 0]
        nats = functional.cross_entropy(outputs["logits"][hidden].float(), targets["labels"][hidden], reduction="none")
        counts = hidden.sum(dim=1).clamp(min=1)
        pairs = functional.cross_entropy(outputs["next_logits"].float(), targets["next"], reduction="sum")
        return (nats / counts[rows]).sum() + pairs

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return float(len(targets["next"]))

    def scorer(self) -> Scorer:
        return _Scorer(self.name)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        """Of the words' logits the first token's, which the parity check looks at; or what is known of hidden ones."""
        found = []
        for index, example in enumerate(examples):
            rows = unpadded(outputs["logits"][index], example.length, left=self.left_padded)
            labels = example.targets.get("labels")
            words = {"logits": rows[:1]} if labels is None else judged(rows, labels)
            found.append({"next_logits": outputs["next_logits"][index], **words})
        return found

    def same(self, a: Any, b: Any) -> bool:
        return bool(a.follows == b.follows)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> NextSentence:
        probability = float(softmax(outputs[0]["next_logits"].astype(np.float64))[_FOLLOWS])
        return NextSentence(probability >= 0.5, probability)


@final
class _Scorer(Scorer):
    """loss: of words and pairs together, a mean over pairs; next_sentence_accuracy; and the hidden words' figures."""

    def __init__(self, task: str) -> None:
        self._task = task
        self._hidden = HiddenCounter()
        self._loss = 0.0
        self._right = 0
        self._rows = 0

    def update(self, outputs: Sequence[Outputs], windows: Sequence[Example]) -> None:
        [output], [window] = outputs, windows
        self._hidden.update(output)
        logits, true = output["next_logits"].astype(np.float64), int(window.targets["next"])
        words = float(output["nats"].mean()) if len(output["nats"]) else 0.0
        self._loss += words - float(log_softmax(logits)[true])
        self._right += int(logits.argmax() == true)
        self._rows += 1

    def compute(self) -> Report:
        rows = max(self._rows, 1)
        words = self._hidden.metrics()
        metrics = {
            "loss": self._loss / rows,
            "next_sentence_accuracy": self._right / rows,
            "perplexity": words["perplexity"],
            "masked_accuracy": words["masked_accuracy"],
        }
        return Report(task=self._task, metrics=metrics, rows=self._rows)
