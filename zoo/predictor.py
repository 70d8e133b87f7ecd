"""`predict`, `predict_iter` and `embed`, said once for a torch model and for an exported bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import tasks
from zoo.errors import ConfigError, DataError, InputError
from zoo.inference import BatchSize, Bulk, Forward, OnError, RowOutcome, batches, limits_of, make_batch, run_rows
from zoo.modalities.base import Array, Encoder, Example, pad
from zoo.modalities.text import TextEncoder
from zoo.modalities.towers import TEXT, TowersEncoder
from zoo.results import Generation, RowError
from zoo.spec import ModelSpec
from zoo.tasks import caching
from zoo.tasks.base import Task, Writer
from zoo.tasks.feature_extraction import FeatureExtraction
from zoo.tasks.generation import Generated, GenerateOptions, cut_at_stop, generate, stream
from zoo.tasks.pieces import pieces_of
from zoo.tasks.sequences import SequenceOptions, SequenceStepper
from zoo.tasks.steppers import Checker, Stepper

if TYPE_CHECKING:
    from zoo.spec import Pooling
    from zoo.tasks.contrastive import CandidateOptions

_TEXTS = 32  # in a batch, of a model whose batches are else measured for images or sound


def labels_for(task: str, spec: ModelSpec) -> tuple[str, ...]:
    """The labels that a task's head answers with: none where the task has none, whatever the spec carries."""
    return spec.labels if tasks.get(task, spec).needs_labels and isinstance(spec.labels, tuple) else ()


class Predictor(ABC):
    """A model that answers raw inputs. Final kinds: `zoo.Model` (torch) and `zoo.runtime.BundleModel`."""

    spec: ModelSpec
    task: Task
    encoder: Encoder
    _candidates: tuple[Any, Array] | None = None  # the candidate labels last asked for, and their vectors

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the logits; empty for a task without."""
        return self.task.labels

    @property
    @abstractmethod
    def accelerated(self) -> bool:
        """Whether the network runs on a GPU, which sets what batch_size="auto" means."""

    @property
    def packs(self) -> bool:
        """Whether the network leaves the padding of a batch out by itself."""
        return False

    @property
    def bulk(self) -> Callable[[], Bulk] | None:
        """What makes a forward function that is better at many batches than `forward` is; None where nothing is."""
        return None

    @abstractmethod
    def forward(self, batch: Any) -> dict[str, Array]:
        """The network's outputs for one `zoo.inference.Batch`, as float32 arrays `[B, ...]`."""

    @abstractmethod
    def _embedder(self, pooling: Pooling | None) -> Forward:
        """A forward that gives `embedding [B, D]`."""

    @abstractmethod
    def stepping(self) -> AbstractContextManager[Stepper]:
        """What one generation asks for the next token's logits. It may be another's when the block has ended."""

    @abstractmethod
    def _state(self) -> Any:
        """What changes whenever the weights do: what was computed with others is of no use then."""

    @abstractmethod
    def sequence_stepper(self) -> SequenceStepper:
        """The same of an encoder-decoder model. Raises an error for any other."""

    def predict(
        self, inputs: Any, *, batch_size: BatchSize = "auto", on_error: OnError = "raise", **options: Any
    ) -> Any:
        """One input gives one result; a list gives a list, in the order given.

        inputs: text (`str`); an image (path, bytes, PIL image, array `[H, W, 3]`); sound (path, bytes, mono array
            `[S]` at the model's rate, or `(array, sampling_rate)`); a row of a table (a dict, or a data frame of
            rows); or a list of them.
        batch_size: rows a batch, or "auto": sorted by length under a budget that suits the device.
        on_error: "raise" (InputError that names the row), or "return" a `RowError` in the row's place.
        options: the task's own: `top_k` of a classification; `max_new_tokens`, `do_sample`, `temperature`, `top_k`,
            `top_p`, `seed`, `stop` of a generation, and `num_beams`, `length_penalty`, ... of a summary or translation,
            by transformers' names (docs/tasks). ConfigError for any other.
        """
        several = self.encoder.several(inputs)
        if several is not None:
            return list(self.predict_iter(several, batch_size=batch_size, on_error=on_error, **options))
        return next(self.predict_iter([inputs], batch_size=batch_size, on_error=on_error, **options))

    def predict_iter(
        self, inputs: Iterable[Any], *, batch_size: BatchSize = "auto", on_error: OnError = "raise", **options: Any
    ) -> Iterator[Any]:
        """Results of any iterable, lazily and in order, in bounded memory. Options as in `predict`."""
        if isinstance(inputs, (str, bytes)):
            raise ConfigError("predict_iter() takes an iterable of inputs; for one input use predict().")
        parsed = self.task.parse_options(options)
        if isinstance(parsed, GenerateOptions):
            return self._generate(inputs, parsed, batch_size, on_error)
        if isinstance(parsed, SequenceOptions):
            return self._write(inputs, parsed, batch_size, on_error)
        return self._decode(inputs, parsed, batch_size, on_error)

    def stream(self, raw: Any, **options: Any) -> Generator[str, None, Any]:
        """What the model writes about one input, in pieces as they come: those of `predict` put together.

        raw: a prompt, a text to summarise or translate, a recording for Whisper. options: of `predict`. The generator
        returns the result of `predict`, a `Generation` or a `Transcript`: `result = yield from model.stream(...)`, or
        the `value` of its StopIteration. Pieces are of a token; of recordings longer than a window, or with times, of
        a window.
        Raises ConfigError for a task that writes no text and for beams, InputError for what is too long.
        """
        parsed = self.task.parse_options(options)
        # Not within the generators, whose errors would wait for the first piece.
        if isinstance(parsed, GenerateOptions):
            return self._stream(self._prompt(0, raw, parsed, "raise")[0], parsed)
        if isinstance(parsed, SequenceOptions):
            return self._stream_written(raw, parsed)
        raise ConfigError(
            f"stream() is for models that write text, and this model is for {self.task.name}: use predict()."
        )

    def embed(
        self,
        inputs: Any,
        *,
        side: str | None = None,
        pooling: Pooling | None = None,
        normalize: bool | None = None,
        batch_size: BatchSize = "auto",
    ) -> Array:
        """One vector an input: float32 `[N, D]` for a list, `[D]` for one input.

        side: of a model with two towers, what the inputs are: "text", or "image" or "audio", which are also what they
            are taken for where nothing is said. A single input can say it itself: {"text": "a cat"}.
        pooling: "mean", "cls", "max" or "last" over the real tokens or frames; the spec's own when not given.
        normalize: to unit length; the spec's own when not given. Longer inputs are embedded in windows,
        averaged by length.
        """
        task = FeatureExtraction(self.spec)
        options = task.parse_options({} if normalize is None else {"normalize": normalize})
        several = self.encoder.several(inputs)
        raws = [inputs] if several is None else several
        if side is not None:
            raws = [self._towers.named(raw, side) for raw in raws]
            batch_size = _TEXTS if (side, batch_size) == (TEXT, "auto") else batch_size
        outcomes = run_rows(
            raws,
            prepare=lambda raw: task.encode(self.encoder, raw, options),
            encoder=self.encoder,
            task=task,
            forward=self._embedder(pooling),
            batch_size=batch_size,
            accelerated=self.accelerated,
            packs=self.packs,
            bulk=self.bulk,
        )
        vectors = [np.asarray(task.decode(outcome.outputs, outcome.windows, options)) for outcome in outcomes]
        if several is None:
            return vectors[0]
        return np.stack(vectors) if vectors else np.zeros((0, 0), dtype=np.float32)

    def outcomes(
        self, inputs: Iterable[Any], options: Any, *, batch_size: BatchSize, on_error: OnError, probe: bool = False
    ) -> Iterator[RowOutcome]:
        """The network's outputs row by row, before decoding. options: an instance of `self.task.options`.

        probe: on `Task.probe`'s windows, as the parity check compares them.
        """
        prepare = self.task.probe if probe else self.task.encode
        matching = self.task.matches
        return run_rows(
            inputs,
            prepare=lambda raw: prepare(self.encoder, raw, options),
            encoder=self.encoder,
            task=self.task,
            forward=self._matching(options) if matching else self.forward,
            batch_size=batch_size,
            accelerated=self.accelerated,
            packs=self.packs,
            bulk=None if matching else self.bulk,
            on_error=on_error,
        )

    def steps(self, windows: Sequence[Example], tokens: Array) -> Array:
        """Logits after the prompt of each window, and after each further token: float32 `[S + 1, N, V]`.

        tokens: int64 `[S, N]`. As generation asks for them, in one batch, whose rows are turned round before each
        token: what a cache must stand.
        """
        if not issubclass(self.task.options, SequenceOptions):
            prompts = [np.asarray(window.inputs["input_ids"], dtype=np.int64) for window in windows]
            ids = pad(prompts, self._text_encoder.pad_id, left=True)
            mask = pad([np.ones_like(prompt) for prompt in prompts], 0, left=True)
            with self.stepping() as stepper:
                return _turned(stepper, stepper.start(ids, mask), tokens)
        inputs = self.task.collate(self.encoder, windows)
        first = inputs.pop(caching.TOKENS)[:, :1]
        writer = self.sequence_stepper()
        return _turned(writer, writer.start(inputs, first), tokens)

    def checked(self, window: Example, tokens: Array) -> Array | None:
        """Logits after each further token of a text, float32 `[S, V]`, which are read at once behind others that are
        forgotten; None where generation does not.

        tokens: int64 `[S]`. What a cache must stand where it guesses (`prompt_lookup_num_tokens`).
        """
        if issubclass(self.task.options, SequenceOptions):
            return None
        ids = np.asarray(window.inputs["input_ids"], dtype=np.int64)[None]
        with self.stepping() as stepper:
            stepper.start(ids, np.ones_like(ids))
            if not isinstance(stepper, Checker) or not stepper.checks:
                return None
            stepper.check(tokens[::-1])
            stepper.forget(len(tokens))
            return stepper.check(tokens)

    def _matching(self, options: CandidateOptions) -> Forward:
        """The forward function with the candidates' vectors beside its outputs, which are embedded once."""
        # Few models need it, and a short process is to start soon.
        from zoo.tasks.contrastive import LABELS, Contrastive

        assert isinstance(self.task, Contrastive)
        wanted = (self._state(), self.task.hypotheses(options))
        if self._candidates is None or self._candidates[0] != wanted:
            self._candidates = (wanted, self.embed(list(wanted[1]), side=TEXT, normalize=True))
        vectors = self._candidates[1]

        def forward(batch: Any) -> dict[str, Array]:
            outputs = self.forward(batch)
            rows = len(next(iter(outputs.values())))
            return {**outputs, LABELS: np.broadcast_to(vectors, (rows, *vectors.shape))}

        return forward

    def _decode(self, inputs: Iterable[Any], options: Any, batch_size: BatchSize, on_error: OnError) -> Iterator[Any]:
        for outcome in self.outcomes(inputs, options, batch_size=batch_size, on_error=on_error):
            yield outcome.error or self._answer(outcome, options)

    def _answer(self, outcome: RowOutcome, options: Any) -> Any:
        return self.task.decode(outcome.outputs, outcome.windows, options)

    def _generate(
        self, inputs: Iterable[Any], options: GenerateOptions, batch_size: BatchSize, on_error: OnError
    ) -> Iterator[Generation | RowError]:
        limits = limits_of(batch_size, "text", accelerated=self.accelerated, writing=True)
        rows = enumerate(inputs)
        while chunk := list(islice(rows, limits.rows)):
            prompts = [self._prompt(row, raw, options, on_error) for row, raw in chunk]
            windows = [prompt[0] for prompt in prompts if not isinstance(prompt, RowError)]
            found: dict[int, Generation] = {}
            for batch in batches(windows, limits):
                generated = self._continue([window.inputs["input_ids"] for window in batch], options)
                found |= {
                    window.row: self._generation(window, made, options)
                    for window, made in zip(batch, generated, strict=True)
                }
            for (row, _), prompt in zip(chunk, prompts, strict=True):
                yield prompt if isinstance(prompt, RowError) else found[row]

    def _stream(self, window: Example, options: GenerateOptions) -> Generator[str, None, Generation]:
        encoder, prompt = self._text_encoder, window.inputs["input_ids"]
        with self.stepping() as stepper:
            made = yield from stream(prompt, stepper, options, eos_id=encoder.eos_id, decode=encoder.decode)
        return self._generation(window, made, options)

    def _stream_written(self, raw: Any, options: SequenceOptions) -> Generator[str, None, Any]:
        windows = self.task.encode(self.encoder, raw, options)
        texts = self._writer(options).stream(make_batch(self.encoder, self.task, windows))
        return pieces_of(texts, lambda row: self.task.decode([row], windows, options))

    def _writer(self, options: SequenceOptions) -> Writer:
        writer = self.task.writer(self.encoder, self.sequence_stepper(), options)
        assert writer is not None, f"{self.task.name} has options of a sequence, and writes none"
        return writer

    def _generation(self, window: Example, made: Generated, options: GenerateOptions) -> Generation:
        text = self._text_encoder.decode(np.asarray(made.tokens, dtype=np.int64))
        return Generation(cut_at_stop(text, options.stop), window.source.text, made.tokens, made.finish_reason)

    def _write(
        self, inputs: Iterable[Any], options: SequenceOptions, batch_size: BatchSize, on_error: OnError
    ) -> Iterator[Any]:
        """Results of an encoder-decoder model: the same loop, over a forward that generates."""
        outcomes = run_rows(
            inputs,
            prepare=lambda raw: self.task.encode(self.encoder, raw, options),
            encoder=self.encoder,
            task=self.task,
            forward=self._writer(options),
            batch_size=batch_size,
            accelerated=self.accelerated,
            on_error=on_error,
            writing=True,
        )
        for outcome in outcomes:
            yield outcome.error or self.task.decode(outcome.outputs, outcome.windows, options)

    def _continue(self, prompts: list[Array], options: GenerateOptions) -> list[Generated]:
        encoder = self._text_encoder
        with self.stepping() as stepper:
            return generate(
                prompts, stepper, options, eos_id=encoder.eos_id, pad_id=encoder.pad_id, decode=encoder.decode
            )

    def _prompt(self, row: int, raw: Any, options: GenerateOptions, on_error: OnError) -> Any:
        try:
            windows = self.task.encode(self.encoder, raw, options)
            longest = self._text_encoder.input.max_length
            if windows[0].length + options.max_new_tokens > longest:
                raise InputError(
                    f"the prompt has {windows[0].length} tokens and max_new_tokens is {options.max_new_tokens}; "
                    f"together they may be {longest}. Shorten the prompt or ask for fewer tokens."
                )
            return [window.at(row) for window in windows]
        except DataError as error:
            if on_error == "raise":
                raise type(error)(f"row {row}: {error}", row=row) from error
            return RowError(row, self.encoder.describe(raw), type(error).__name__, str(error))

    def writer(self, wanted: bool, generation: Mapping[str, Any] | None) -> Writer | None:
        """What generates texts to measure; None for a task that writes none, or where only the loss is wanted.

        generation: predict()'s options of that; greedy where it says nothing. Raises ConfigError.
        """
        if not issubclass(self.task.options, SequenceOptions):
            if generation:
                raise ConfigError(f"{self.task.name} generates no texts: leave generation= out.")
            return None
        options = self.task.parse_options({"num_beams": 1, **(generation or {})})
        return self.task.writer(self.encoder, self.sequence_stepper(), options) if wanted else None

    @property
    def _towers(self) -> TowersEncoder:
        if not isinstance(self.encoder, TowersEncoder):
            raise ConfigError(f"{self.spec.name} takes one kind of input, {self.spec.input.kind}: leave side= out.")
        return self.encoder

    @property
    def _text_encoder(self) -> TextEncoder:
        assert isinstance(self.encoder, TextEncoder)
        return self.encoder


def _turned(stepper: Stepper | SequenceStepper, logits: Array, tokens: Array) -> Array:
    """`Predictor.steps`, of a stepper that has given the first logits."""
    turn = np.arange(len(logits) - 1, -1, -1)
    order, found = np.arange(len(logits)), [logits]
    for column in tokens:
        stepper.select(turn)
        order = order[::-1]
        found.append(stepper.advance(column[order])[order])
    return np.stack(found)
