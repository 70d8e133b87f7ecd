"""Speech recognition by a decoder that writes: Whisper. Models with CTC are in `speech_recognition`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, final

import numpy as np

from zoo.errors import ConfigError, DataError
from zoo.modalities.base import Array, Encoder, Example
from zoo.modalities.spectrogram import MelEncoder, samples_seen
from zoo.modalities.target_text import TargetText
from zoo.results import Transcript
from zoo.spec import MelInput
from zoo.tasks import ctc, seq2seq
from zoo.tasks.base import IGNORE, LossOptions, Outputs, Scorer, Task, Writer
from zoo.tasks.hearing import FEATURES, Heard, Listener, Plan
from zoo.tasks.losses import cross_entropy, label_weight, refuse
from zoo.tasks.metrics import EditCounter
from zoo.tasks.sequences import SequenceOptions, SequenceStepper
from zoo.tasks.text2text import decoder_of, token_id
from zoo.tasks.whisper import TASKS, WhisperTokens, read_tokens, suppressed

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True)
class SpeechOptions(SequenceOptions):
    """How Whisper writes, by transformers' names.

    language: a code or an English name ("de", "german"); None is the model's own, or what it hears. task: "transcribe"
    or "translate", into English. return_timestamps: True for `Transcript.segments` with their times.
    prompt: a text that might have been said before, with names as they are to be spelt. condition_on_prev_tokens: of
    a long recording, each window is told what was said in those before it.
    no_speech_threshold: leave out windows that are silent with a greater probability, if the mean log-probability of
    what was written is below logprob_threshold.
    truncation: hear the first window alone.
    """

    language: str | None = None
    task: Literal["transcribe", "translate"] | None = None
    return_timestamps: bool = False
    prompt: str | None = None
    condition_on_prev_tokens: bool | None = None
    no_speech_threshold: float | None = None
    logprob_threshold: float | None = None

    def __post_init__(self) -> None:
        SequenceOptions.__post_init__(self)
        for name, allowed in _ALLOWED.items():
            if getattr(self, name) not in allowed:
                listed = " or ".join(repr(choice) for choice in allowed if choice is not None)
                raise ConfigError(f"{name} is {getattr(self, name)!r}; Whisper takes {listed}.")
        for name in ("language", "prompt"):
            if getattr(self, name) is not None and not isinstance(getattr(self, name), str):
                raise ConfigError(f"{name} is {getattr(self, name)!r}; give a text.")
        for name in ("no_speech_threshold", "logprob_threshold"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
                raise ConfigError(f"{name} is {value!r}; give a number.")


_ALLOWED: dict[str, tuple[Any, ...]] = {
    "task": (None, *TASKS),
    "return_timestamps": (False, True),
    "condition_on_prev_tokens": (None, False, True),
}


@final
class SpeechSeq2Seq(Task):
    """Inputs float32 `input_features [B, bins, frames]` and int64 `decoder_input_ids [B, L]`; outputs `logits
    [B, L, V]`, `encoder_hidden [B, T, D]`.

    Targets: int64 `labels [B, L]`: language, task and `<|notimestamps|>`, the transcript's tokens and the end.
    """

    name = "automatic-speech-recognition"
    modalities = ("audio",)
    columns = ("audio", "text")
    metric = "wer"
    higher_is_better = False
    needs_labels = False
    options = SpeechOptions
    generations: ClassVar[tuple[Mapping[str, Any], ...]] = (
        {"max_new_tokens": 6, "num_beams": 1},
        {"max_new_tokens": 6, "num_beams": 3, "return_timestamps": True},
    )

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def check(self, samples: int, target: Any) -> None:
        """Raise DataError when a recording of so many samples can't be trained on this transcript.

        samples: at the model's own sampling rate.
        """
        ctc.transcript(target)
        longest = samples_seen(self._input)
        if samples > longest:
            rate = self._input.sampling_rate
            raise DataError(
                f"The recording is {samples / rate:.1f} s long, and training takes up to {longest / rate:g} s with one "
                "transcript. Cut it, with its transcript, or leave it out."
            )

    def encode(self, encoder: Encoder, raw: Any, options: Any = None) -> list[Example]:
        """The whole recording as one window, which `writer` goes through; the rest of the prompt is its matter too."""
        window = _mel(encoder).recording(raw)
        if options is not None and options.truncation:
            window = self._first(window)
        return seq2seq.prompted([window], [read_tokens(self.spec, _words(encoder)).start])

    def examples(self, encoder: Encoder, raw: Any, target: Any) -> list[Example]:
        return [self._teach(encoder, raw, target, self._language(encoder))]

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        raise NotImplementedError("a target needs the tokenizer: examples() attaches it")

    def probe(self, encoder: Encoder, raw: Any, options: Any) -> list[Example]:
        """Taught on a text of no meaning, which is longer for a longer recording, so that rows are ragged."""
        tokens = read_tokens(self.spec, _words(encoder))
        window = self._first(_mel(encoder).recording(raw))
        text = "ab" * (1 + window.length * 8 // samples_seen(self._input))
        return [self._taught(encoder, window, text, next(iter(tokens.languages), None))]

    def writer(self, encoder: Encoder, stepper: SequenceStepper, options: SpeechOptions) -> Writer | None:
        writing = _words(encoder)
        tokens = read_tokens(self.spec, writing)
        return Listener(stepper, tokens, writing, self._plan(tokens, writing, options))

    def scorer(self) -> Scorer:
        """wer and cer of generated transcripts; perplexity, loss, token_accuracy of taught ones."""
        return seq2seq.SequenceScorer(self.name, _ErrorRates)

    def collate(self, encoder: Encoder, examples: Sequence[Example]) -> dict[str, Array]:
        """The first window of each recording."""
        first = [self._first(example) for example in examples]
        return seq2seq.collated(encoder, first, token_id(self.spec, "pad_token_id") or 0)

    def unbatch(self, outputs: Outputs, examples: Sequence[Example]) -> list[dict[str, Array]]:
        return seq2seq.unbatched(outputs, examples)

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        refuse(self.name, options, smoothing=True)
        return cross_entropy(outputs["logits"], targets["labels"], options)

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        return label_weight(targets["labels"], options)

    def judged_by(self, metrics: Mapping[str, Any]) -> tuple[str, bool]:
        """By the word error rate, or by the perplexity where no text was written."""
        return (self.metric if self.metric in metrics else "perplexity"), False

    def same(self, a: Any, b: Any) -> bool:
        """Whether two recordings were written with the same tokens; of logits the difference is the comparison."""
        return not isinstance(a, Transcript) or bool(a.tokens == b.tokens)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Any:
        """A `Transcript`; of outputs without a generated text the last token's logits, float32 `[V]`."""
        if seq2seq.GENERATED not in outputs[0]:
            return seq2seq.read(outputs)
        heard: Heard = outputs[0][seq2seq.GENERATED]  # type: ignore[assignment]
        # Of each window's mean log-probability the mean, by length.
        sizes = [len(one.tokens) + (one.finish_reason == "eos") for one in heard.made]
        score = float(np.exp(np.average([one.score for one in heard.made], weights=sizes))) if sum(sizes) else 0.0
        return Transcript(heard.text, score, (), heard.segments, heard.language, heard.tokens)

    @property
    def _input(self) -> MelInput:
        assert isinstance(self.spec.input, MelInput), "this decoder reads a spectrogram"
        return self.spec.input

    def _first(self, window: Example) -> Example:
        """What is heard in the first window alone."""
        features = window.inputs[FEATURES][:, : self._input.frames]
        longest = samples_seen(self._input)
        source = window.source
        if window.length > longest and not isinstance(source, seq2seq.Reference):
            source = replace(source, samples=longest)
        return replace(
            window, inputs={**window.inputs, FEATURES: features}, length=min(window.length, longest), source=source
        )

    def _language(self, encoder: Encoder) -> str | None:
        """The language of transcripts that are taught. Raises ConfigError where the model was told none."""
        tokens = read_tokens(self.spec, _words(encoder))
        told = tokens.language(decoder_of(self.spec).source_language)
        if told is None and tokens.languages:
            raise ConfigError(
                f"{self.spec.name} knows {len(tokens.languages)} languages and was not told which one the transcripts "
                "are in: zoo.load(..., decoder={'source_language': 'en'})."
            )
        return told

    def _teach(self, encoder: Encoder, raw: Any, target: Any, language: str | None) -> Example:
        window = _mel(encoder).recording(raw)
        taught = self._taught(encoder, window, ctc.transcript(target), language)
        if window.length <= samples_seen(self._input):
            return taught
        # A transcript can't be divided: its text is measured, and its tokens count for nothing.
        return replace(taught, targets={"labels": np.full_like(taught.targets["labels"], IGNORE)})

    def _taught(self, encoder: Encoder, window: Example, text: str, language: str | None) -> Example:
        writing = _words(encoder)
        tokens = read_tokens(self.spec, writing)
        tail = tokens.tail(language, None, timestamps=False)
        # As OpenAI's transcripts, which begin with a space where the language has spaces.
        written = writing.ids(f" {text.strip()}")
        room = decoder_of(self.spec).max_length - len(tail) - 1
        labels = np.concatenate([np.array(tail, dtype=np.int64), written[:room], [tokens.end]])
        (prompted,) = seq2seq.prompted([window], [tokens.start, *tail])
        return seq2seq.taught(prompted, labels, text)

    def _plan(self, tokens: WhisperTokens, writing: TargetText, options: SpeechOptions) -> Plan:
        decoder = decoder_of(self.spec)
        own = {**suppressed(tokens, writing), **decoder.generation}
        before = () if options.prompt is None else tuple(writing.ids(f" {options.prompt.strip()}").tolist())
        if before and tokens.previous is None:
            raise ConfigError(f"The tokenizer of {self.spec.name} has no token for what was said before: no prompt.")
        # The longest prompt that any model has without a text before it: start, language, task, no timestamps.
        settings = seq2seq.resolved(options, own, decoder.max_length - 4)
        if options.max_new_tokens is None:
            settings = replace(settings, max_new_tokens=decoder.max_length)
        tokens.tail(next(iter(tokens.languages), None), options.task, timestamps=False)
        return Plan(
            settings=settings,
            longest=decoder.max_length,
            frames=self._input.frames,
            language=tokens.language(options.language or decoder.source_language),
            task=options.task,
            timestamps=options.return_timestamps,
            before=before,
            remember=bool(options.condition_on_prev_tokens),
            silence=options.no_speech_threshold,
            least=options.logprob_threshold,
            latest=own.get("max_initial_timestamp_index"),
        )


@final
class _ErrorRates:
    """`EditCounter` as a `zoo.tasks.seq2seq.TextMetric`."""

    def __init__(self) -> None:
        self._edits = EditCounter()

    def update(self, reference: str, text: str) -> None:
        self._edits.update(reference, text)

    def compute(self) -> dict[str, float]:
        return self._edits.rates()


def _mel(encoder: Encoder) -> MelEncoder:
    assert isinstance(encoder, MelEncoder), "Whisper hears spectrograms"
    return encoder


def _words(encoder: Encoder) -> TargetText:
    writing = _mel(encoder).target
    assert writing is not None, "a model that writes has a tokenizer"
    return writing
