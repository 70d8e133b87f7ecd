"""Summarization: a text as a shorter one, written by an encoder-decoder model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, final

from zoo.modalities.base import Array, Encoder, Example
from zoo.tasks import seq2seq, text2text
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task, Writer
from zoo.tasks.losses import cross_entropy, label_weight, refuse
from zoo.tasks.sequences import SequenceOptions, SequenceStepper
from zoo.tasks.textmetrics import Rouge

if TYPE_CHECKING:
    from torch import Tensor

# Languages mean nothing to a summary, but a model for several needs one to write in: its own default.
_NO_LANGUAGES = (None, None)


@final
class Summarization(Task):
    """Inputs as text and `decoder_input_ids [B, L]`; outputs `logits [B, L, V]`, `encoder_hidden [B, T, D]`.

    Targets: int64 `labels [B, L]`, the summary's tokens and its end. Longer texts and summaries are cut in training
    and evaluation; predict() refuses a longer text unless `truncation` is asked for.
    """

    name = "summarization"
    modalities = ("text",)
    columns = ("text", "summary")
    metric = "rougeL"
    needs_labels = False
    options = SequenceOptions
    sample_options: ClassVar[Mapping[str, Any]] = {"truncation": True}
    generations = ({"max_new_tokens": 6, "num_beams": 1, "truncation": True},
                   {"max_new_tokens": 6, "min_new_tokens": 2, "num_beams": 3, "truncation": True})  # fmt: skip
    windowed = False

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        cut = bool(options.truncation) if options is not None else False
        return text2text.windows(self.spec, self.name, encoder, raw, self._languages(), cut=cut)

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        (window,) = text2text.windows(self.spec, self.name, encoder, raw, self._languages(), cut=True)
        return [text2text.teach(self.spec, encoder, window, target, self._languages()[1])]

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        raise NotImplementedError("a target needs the tokenizer: examples() attaches it")

    def probe(self, encoder: Encoder, raw: Any, options: Any) -> list[Example]:
        return self.examples(encoder, raw, text2text.probe_target(raw))

    def writer(self, encoder: Encoder, stepper: SequenceStepper, options: Any) -> Writer | None:
        settings = text2text.settings_of(self.spec, encoder, options, self._languages()[1])
        return seq2seq.Writing(
            stepper, text2text.words(encoder), settings, text2text.token_id(self.spec, "eos_token_id")
        )

    def scorer(self) -> Scorer:
        """rouge1, rouge2, rougeL, rougeLsum of generated summaries; perplexity, loss, token_accuracy."""
        return seq2seq.SequenceScorer(self.name, Rouge)

    def collate(self, encoder: Encoder, examples: Sequence[Example]) -> dict[str, Array]:
        return seq2seq.collated(encoder, examples, text2text.token_id(self.spec, "pad_token_id") or 0)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return seq2seq.unbatched(outputs, examples)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse(self.name, options, smoothing=True)
        return cross_entropy(outputs["logits"], targets["labels"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"], options)

    def judged_by(self, metrics: Mapping[str, Any]) -> tuple[str, bool]:
        """By the texts, or by the perplexity where none were generated."""
        return (self.metric, True) if self.metric in metrics else ("perplexity", False)

    def same(self, a: Any, b: Any) -> bool:
        return text2text.same(a, b)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        """A `Generation`; of outputs without a generated text the last token's logits, float32 `[V]`."""
        return seq2seq.read(outputs)

    def _languages(self) -> tuple[str | None, str | None]:
        decoder = text2text.decoder_of(self.spec)
        return text2text.pair_of(decoder, None, None) if decoder.language_tokens else _NO_LANGUAGES
