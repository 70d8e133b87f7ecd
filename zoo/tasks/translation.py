"""Translation: a text in another language, written by an encoder-decoder model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, final

from zoo.modalities.base import Array, Encoder, Example
from zoo.tasks import seq2seq, text2text
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task, Writer
from zoo.tasks.losses import cross_entropy, label_weight, refuse
from zoo.tasks.sequences import SequenceOptions, SequenceStepper
from zoo.tasks.textmetrics import Bleu

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class TranslationOptions(SequenceOptions):
    """src_lang, tgt_lang: codes of a model for several languages; its own defaults when None."""

    src_lang: str | None = None
    tgt_lang: str | None = None


@final
class Translation(Task):
    """Inputs as text and `decoder_input_ids [B, L]`; outputs `logits [B, L, V]`, `encoder_hidden [B, T, D]`.

    Targets: int64 `labels [B, L]`, the translation's tokens (its language's first, where the model has such) and its
    end. Lengths as in summarization.
    """

    name = "translation"
    modalities = ("text",)
    columns = ("text", "translation")
    metric = "bleu"
    needs_labels = False
    options = TranslationOptions
    sample_options: ClassVar[Mapping[str, Any]] = {"truncation": True}
    generations = ({"max_new_tokens": 6, "num_beams": 1, "truncation": True},
                   {"max_new_tokens": 6, "min_new_tokens": 2, "num_beams": 3, "truncation": True})  # fmt: skip
    windowed = False

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        chosen = options if options is not None else TranslationOptions()
        return text2text.windows(
            self.spec, self.name, encoder, raw, self._languages(chosen), cut=bool(chosen.truncation)
        )

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        languages = self._languages(TranslationOptions())
        (window,) = text2text.windows(self.spec, self.name, encoder, raw, languages, cut=True)
        return [text2text.teach(self.spec, encoder, window, target, languages[1])]

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        raise NotImplementedError("a target needs the tokenizer: examples() attaches it")

    def probe(self, encoder: Encoder, raw: Any, options: Any) -> list[Example]:
        return self.examples(encoder, raw, text2text.probe_target(raw))

    def writer(self, encoder: Encoder, stepper: SequenceStepper, options: Any) -> Writer | None:
        settings = text2text.settings_of(self.spec, encoder, options, self._languages(options)[1])
        return seq2seq.Writing(
            stepper, text2text.words(encoder), settings, text2text.token_id(self.spec, "eos_token_id")
        )

    def scorer(self) -> Scorer:
        """bleu and chrf of generated translations (0 to 100); perplexity, loss, token_accuracy."""
        language = text2text.decoder_of(self.spec).target_language
        return seq2seq.SequenceScorer(self.name, lambda: Bleu(language))

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

    def _languages(self, options: TranslationOptions) -> tuple[str | None, str | None]:
        return text2text.pair_of(text2text.decoder_of(self.spec), options.src_lang, options.tgt_lang)
