"""What an answer is. The same frozen classes come from torch and from a bundle; no NumPy in them."""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

    import numpy.typing as npt
    from PIL import Image


class LabelScore(NamedTuple):
    """A label and its probability in [0, 1]."""

    label: str
    score: float


class _Result:
    """Shared behaviour: `to_dict()` gives plain JSON types."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        return {f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, LabelScore):
        return value._asdict()
    if isinstance(value, _Result):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    return value


@dataclass(frozen=True, slots=True)
class Classification(_Result):
    """One label for one input. `score` is its probability; `top` the k best, best first."""

    label: str
    score: float
    top: tuple[LabelScore, ...] = ()

    def __repr__(self) -> str:
        return f"Classification(label={self.label!r}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True)
class MultiLabel(_Result):
    """The labels whose own probability reaches the threshold, most probable first, and those probabilities.

    `top`: the k most probable of all labels, whether they reach it or not.
    """

    labels: tuple[str, ...]
    scores: tuple[float, ...]
    top: tuple[LabelScore, ...] = ()

    def __repr__(self) -> str:
        found = ", ".join(f"{label!r}: {score:.4f}" for label, score in zip(self.labels, self.scores, strict=True))
        return f"MultiLabel({found})"


@dataclass(frozen=True, slots=True)
class Regression(_Result):
    """A number, in the unit of the training data's targets."""

    value: float

    def __repr__(self) -> str:
        return f"Regression({self.value:.6g})"


@dataclass(frozen=True, slots=True)
class Entity(_Result):
    """A named entity: `text == input[start:end]`, offsets in characters; `score` is the mean
    probability of its words' labels."""

    label: str
    text: str
    start: int
    end: int
    score: float

    def __repr__(self) -> str:
        return f"Entity({self.label!r}, {self.text!r}, {self.start}:{self.end}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True)
class FilledMask(_Result):
    """A word in the place of a mask: its `text`, its probability among the whole vocabulary, the token's id, and
    `sequence`, the input with this one mask filled."""

    text: str
    score: float
    token: int
    sequence: str

    def __repr__(self) -> str:
        return f"FilledMask({self.text!r}, score={self.score:.4f}, {self.sequence!r})"


@dataclass(frozen=True, slots=True)
class Answer(_Result):
    """A part of a context that answers a question: `text == context[start:end]`, offsets in characters.

    `text` is empty where there is no answer. `score`: its probability as a part of its window. `top`: the k best, best
    first, where more than one was asked for.
    """

    text: str
    start: int
    end: int
    score: float
    top: tuple[Answer, ...] = ()

    def __repr__(self) -> str:
        return f"Answer({self.text!r}, {self.start}:{self.end}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True)
class NextSentence(_Result):
    """Whether the second text of a pair follows the first; `score` is the probability that it does."""

    follows: bool
    score: float

    def __repr__(self) -> str:
        return f"NextSentence(follows={self.follows}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True)
class Generation(_Result):
    """Generated text, without the prompt. `finish_reason`: "length", "eos" or "stop".

    score: of a summary or translation: its log-probability over its length to the power of length_penalty.
    """

    text: str
    prompt: str = ""
    tokens: tuple[int, ...] = ()
    finish_reason: str = "length"
    score: float | None = None

    def __repr__(self) -> str:
        return f"Generation({self.text!r}, tokens={len(self.tokens)}, finish_reason={self.finish_reason!r})"


@dataclass(frozen=True, slots=True)
class Spoken(_Result):
    """A character, a word or a stretch of a transcript, with its time in seconds. `score`: a probability."""

    text: str
    start: float
    end: float
    score: float = 0.0

    def __repr__(self) -> str:
        return f"Spoken({self.text!r}, {self.start:.2f}-{self.end:.2f} s)"


@dataclass(frozen=True, slots=True)
class Transcript(_Result):
    """What was said. `score` is the mean probability of the emitted characters or tokens.

    `words`: each with its time, where return_timestamps="word" (or "char") was asked for; `segments`: stretches of
    speech, of Whisper with return_timestamps=True. `language`: the code of what Whisper heard or was told. `tokens`:
    what Whisper wrote, timestamps among them; empty for CTC.
    """

    text: str
    score: float = 0.0
    words: tuple[Spoken, ...] = ()
    segments: tuple[Spoken, ...] = ()
    language: str | None = None
    tokens: tuple[int, ...] = ()

    def __repr__(self) -> str:
        return f"Transcript({self.text!r}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True, eq=False)
class Speech(_Result):
    """A text that was spoken. waveform: float32 `[S]`, mono, in [-1, 1], `sampling_rate` samples a second."""

    waveform: npt.NDArray[Any]
    sampling_rate: int
    text: str = ""

    @property
    def seconds(self) -> float:
        return len(self.waveform) / self.sampling_rate

    def save(self, path: str | Path) -> Path:
        """Write a sound file by the path's ending: .wav, .flac, .ogg, ... Raises ConfigError for one that is none."""
        from pathlib import Path

        target = Path(path)
        target.write_bytes(self._encoded(target.suffix.removeprefix(".").upper()))
        return target

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the sound as base64 of a WAV file of 16 bits."""
        return {
            "text": self.text,
            "sampling_rate": self.sampling_rate,
            "seconds": self.seconds,
            "audio": {"encoding": "wav", "data": base64.b64encode(self._encoded("WAV")).decode("ascii")},
        }

    def _encoded(self, kind: str) -> bytes:
        import io

        import soundfile

        from zoo.errors import ConfigError

        if kind not in soundfile.available_formats():
            known = "wav, flac, ogg, mp3"
            raise ConfigError(f"A speech is written as a sound file ({known}), not as {kind.lower()!r}: name it x.wav.")
        file = io.BytesIO()
        soundfile.write(file, self.waveform, self.sampling_rate, format=kind)
        return file.getvalue()

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Speech):
            return NotImplemented
        same = (self.text, self.sampling_rate) == (other.text, other.sampling_rate)
        return same and self.waveform.shape == other.waveform.shape and bool((self.waveform == other.waveform).all())

    def __hash__(self) -> int:
        return hash((self.text, self.sampling_rate, self.waveform.tobytes()))

    def __repr__(self) -> str:
        return f"Speech({self.text!r}, {self.seconds:.2f} s, {self.sampling_rate} Hz)"


@dataclass(frozen=True, slots=True)
class Detection(_Result):
    """An object in an image. `box` is (x0, y0, x1, y1) in pixels of the input image."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class Detections(list[Detection]):
    """The objects of one image, best first: a list. labels: all of the model, whose order says their colours."""

    def __init__(self, found: Iterable[Detection] = (), labels: tuple[str, ...] = ()) -> None:
        super().__init__(found)
        self.labels = labels

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (list(self), self.labels)

    def overlay(self, image: Any, *, scores: bool = True) -> Image.Image:
        """An RGB picture: the boxes over the image that was given to predict(), each with its label and its score.

        Save it with `.save("out.png")`.
        """
        from zoo import overlay

        known = self.labels or tuple(dict.fromkeys(found.label for found in self))
        drawn = [overlay.Boxed(found.label, known.index(found.label), found.score, found.box) for found in self]
        return overlay.draw_boxes(image, drawn, scores=scores)


@dataclass(frozen=True, slots=True)
class Segment(_Result):
    """A label that a segmentation gives. area: its share of the picture, in [0, 1]; score: the mean probability of its
    pixels; index: what the mask has where it is."""

    label: str
    index: int
    area: float
    score: float

    def __repr__(self) -> str:
        return f"Segment({self.label!r}, area={self.area:.4f}, score={self.score:.4f})"


@dataclass(frozen=True, slots=True)
class Segmentation(_Result):
    """A label for every pixel. labels: all of the model; `mask[y, x]` is a place in them, at the image's own size.

    segments: the labels that occur, the largest first. pixels: the mask's bytes, row by row, one a pixel, or two (of
    the machine's order) for more than 256 labels.
    """

    labels: tuple[str, ...]
    segments: tuple[Segment, ...]
    height: int
    width: int
    pixels: bytes

    def __repr__(self) -> str:
        return f"Segmentation({self.width}x{self.height}, {list(self.segments)!r})"

    @property
    def mask(self) -> npt.NDArray[Any]:
        """uint8, or uint16 for more than 256 labels, `[height, width]`: a new array each time."""
        import numpy as np

        kind = np.uint8 if len(self.labels) <= 256 else np.uint16
        return np.frombuffer(self.pixels, dtype=kind).reshape(self.height, self.width).copy()

    def png(self) -> bytes:
        """The mask as a grey PNG of 8 or 16 bits, whose values are the places of the labels."""
        import io

        from PIL import Image

        file = io.BytesIO()
        Image.fromarray(self.mask).save(file, "PNG")
        return file.getvalue()

    def overlay(self, image: Any = None, *, alpha: float = 0.55, legend: bool = True) -> Image.Image:
        """An RGB picture: the labels' colours over the image, lines where they meet, and a legend on the right.

        image: what was given to predict(); None draws the colours alone. alpha: how much the colours cover, in [0, 1].
        Save it with `.save("out.png")`.
        """
        from zoo import overlay
        from zoo.errors import ConfigError

        if not 0 <= alpha <= 1:
            raise ConfigError(f"alpha is {alpha!r}; give a number from 0 (the image alone) to 1 (the colours alone).")
        entries = [overlay.Entry(segment.label, segment.index, segment.area) for segment in self.segments]
        return overlay.draw(image, self.mask, entries, alpha=alpha, legend=legend)

    def to_dict(self) -> dict[str, Any]:
        """JSON types; the mask as base64 of a PNG."""
        return {
            "labels": list(self.labels),
            "segments": [segment.to_dict() for segment in self.segments],
            "height": self.height,
            "width": self.width,
            "mask": {"encoding": "png", "data": base64.b64encode(self.png()).decode("ascii")},
        }


@dataclass(frozen=True, slots=True)
class RowError(_Result):
    """What `predict(..., on_error="return")` gives for an input that could not be used."""

    row: int
    input: str
    error: str
    message: str

    def __repr__(self) -> str:
        return f"RowError(row={self.row}, input={self.input!r}, {self.error}: {self.message})"


Result: TypeAlias = (
    "Classification | MultiLabel | Regression | Answer | list[Entity] | list[list[FilledMask]] | NextSentence | "
    "Generation | Transcript | Speech | list[Detection] | Segmentation | RowError"
)


def to_plain(result: Any) -> Any:
    """A result, or a list of them, as JSON types."""
    return _plain(result)


def to_json(result: Any) -> Any:
    """The same of a result or an embedding, strictly: a number that is not finite is null."""
    return _finite(result.tolist() if hasattr(result, "tolist") else to_plain(result))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
