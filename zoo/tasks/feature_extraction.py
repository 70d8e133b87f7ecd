"""Feature extraction: one vector for one input. It has no targets, so it can't be fine-tuned."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn, final

import numpy as np

from zoo.errors import ConfigError, InputError
from zoo.modalities.base import Array, Example
from zoo.tasks.arrays import by_length
from zoo.tasks.base import LossOptions, Outputs, Scorer, Task

if TYPE_CHECKING:
    from torch import Tensor

    from zoo.spec import ModelSpec

_INPUTS = {"text": "text", "vision": "image", "audio": "audio", "tabular": "row"}
_VECTORS = ("embedding", "image_embeds", "audio_embeds", "text_embeds")


@dataclass(frozen=True, slots=True)
class FeatureOptions:
    """normalize: to unit length; the spec's own choice when None."""

    normalize: bool | None = None


@final
class FeatureExtraction(Task):
    """Outputs `embedding [B, D]`; a result is float32 `[D]`, the mean of the windows counted by their length."""

    name = "feature-extraction"
    modalities = ("text", "vision", "audio", "tabular")
    output = "embedding"
    columns = ("text", None)  # of one model: by its modality
    metric = ""
    needs_labels = False
    options = FeatureOptions
    trainable = False

    def __init__(self, spec: ModelSpec, labels: tuple[str, ...] = ()) -> None:
        super().__init__(spec, labels)
        self.columns = (_INPUTS[spec.modality], None)

    @classmethod
    def labels_of(cls, targets: Iterable[Any]) -> tuple[str, ...]:
        return ()

    def attach(self, windows: Sequence[Example], target: Any) -> list[Example]:
        self._refuse()

    def loss(self, outputs: Mapping[str, Tensor], targets: Mapping[str, Tensor], options: LossOptions) -> Tensor:
        self._refuse()

    def weight(self, targets: Mapping[str, Array], options: LossOptions) -> float:
        self._refuse()

    def scorer(self) -> Scorer:
        self._refuse()

    def same(self, a: Any, b: Any) -> bool:
        """Always: a result is an array (an embedding), and the difference of the outputs is the comparison."""
        return True

    def checked(self, raw: Any) -> Any:
        if isinstance(raw, Mapping) and self.spec.text is not None and {"text", self.columns[0]} <= set(raw):
            raise InputError(f"A pair of {self.columns[0]} and text has two vectors. Give them one by one.")
        return super().checked(raw)

    def decode(self, outputs: Sequence[Outputs], windows: Sequence[Example], options: Any) -> Array:
        # One of two towers names its own.
        name = next(name for name in outputs[0] if name in _VECTORS)
        vector = by_length([output[name].astype(np.float32, copy=False) for output in outputs], windows)
        normalize = self.spec.embedding.normalize if options.normalize is None else options.normalize
        if normalize:
            vector = vector / max(float(np.linalg.norm(vector)), 1e-12)
        return np.asarray(vector, dtype=np.float32)

    def _refuse(self) -> NoReturn:
        trainable = [name for name in self.spec.tasks if name != self.name]
        choice = ", ".join(trainable) if trainable else "none of this model's"
        raise ConfigError(
            f"feature-extraction has no targets, so {self.spec.name} can't be fine-tuned or evaluated on it. "
            f"Tasks that can: {choice}."
        )
