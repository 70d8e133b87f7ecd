"""Nearest neighbours by embedding: a folder of files, or any inputs, searched exactly, without torch of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo import bundle, manifest
from zoo.errors import BundleError, ConfigError, DataError
from zoo.modalities.base import Array
from zoo.plain import load_json
from zoo.strict import Frozen, read

if TYPE_CHECKING:
    from zoo.predictor import Predictor

_VECTORS, _NAMES = "vectors.npz", "names.json"
_FORMAT = 1
# Vectors embedded at once, and rows of the index compared at once: bounded memory whatever their number.
_BATCH, _CHUNK = 256, 65_536
_ENDINGS = {
    "image": (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"),
    "audio": (".flac", ".mp3", ".ogg", ".wav"),
    "mel": (".flac", ".mp3", ".ogg", ".wav"),
    "text": (".md", ".txt"),
}


@dataclass(frozen=True, slots=True)
class Neighbour:
    """One found item. score: the cosine of the angle to what was asked for, in [-1, 1]; place: its row in the index."""

    name: str
    score: float
    place: int

    def __repr__(self) -> str:
        return f"Neighbour({self.name!r}, score={self.score:.4f})"

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "score": self.score, "place": self.place}


class _Facts(Frozen):
    """`names.json`. names: of the rows; of files, relative to the folder."""

    format: int = _FORMAT
    model: str
    folder: str | None = None
    names: tuple[str, ...]


@final
class Index:
    """Vectors of unit length with names, and the exact nearest of them.

    vectors: float32 `[N, D]`. names: one a row. model: the name of the model that made them; what is asked for must be
    embedded by the same. folder: what the names are relative to, where they are files.
    """

    def __init__(
        self,
        vectors: Array,
        names: Sequence[str],
        *,
        model: str,
        folder: str | None = None,
        skipped: Iterable[str] = (),
    ) -> None:
        found = np.asarray(vectors, dtype=np.float32)
        if found.ndim != 2 or len(found) != len(names) or not len(names):
            raise DataError(f"An index is of N > 0 vectors [N, D] and N names; came {found.shape} and {len(names)}.")
        self.vectors = _unit(found)
        self.names = tuple(map(str, names))
        self.model = model
        self.folder = folder
        self.skipped = tuple(skipped)

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        return f"<Index of {len(self)} by {self.model!r}>"

    @classmethod
    def build(cls, model: Predictor, data: str | os.PathLike[str] | Sequence[Any], **options: Any) -> Index:
        """Embed a folder's files (those of the model's kind, in folders within it too), or a list of inputs.

        model: a `zoo.Model`, or a bundle of `feature-extraction`. options: of `model.embed()`. Files that can't be read
        are left out and listed in `skipped`. Names of a list are its texts and paths, or else its places.
        """
        if isinstance(data, (str, os.PathLike)):
            folder = Path(data).expanduser()
            paths = list(files(folder, model.spec.input.kind))
            raws: Iterable[Any] = (content(path, model.spec.input.kind) for path in paths)
            names = [path.relative_to(folder).as_posix() for path in paths]
            return cls._embed(model, zip(names, raws, strict=True), str(folder.resolve()), options)
        named = [(str(raw) if isinstance(raw, (str, os.PathLike)) else str(i), raw) for i, raw in enumerate(data)]
        return cls._embed(model, iter(named), None, options)

    @classmethod
    def _embed(
        cls, model: Predictor, items: Iterator[tuple[str, Any]], folder: str | None, options: dict[str, Any]
    ) -> Index:
        vectors: list[Array] = []
        names: list[str] = []
        skipped: list[str] = []
        while batch := list(islice(items, _BATCH)):
            good = list(_good(model, batch, options, skipped))
            names += [name for name, _ in good]
            vectors += [vector for _, vector in good]
        if not names:
            raise DataError(f"Nothing could be embedded: {skipped[0] if skipped else 'the list is empty'}.")
        return cls(np.stack(vectors), names, model=model.spec.name, folder=folder, skipped=skipped)

    def nearest(self, vector: Array, *, top_k: int = 10) -> list[Neighbour]:
        """The `top_k` rows nearest to a vector `[D]`, nearest first; of equally near ones the earlier row first."""
        wanted = np.asarray(vector, dtype=np.float32).reshape(-1)
        if wanted.size != self.vectors.shape[1]:
            raise ConfigError(f"The vector has {wanted.size} numbers, and those of the index {self.vectors.shape[1]}.")
        if isinstance(top_k, bool) or not isinstance(top_k, int) or top_k < 1:
            raise ConfigError(f"top_k is {top_k!r}; give a positive whole number.")
        if not np.isfinite(wanted).all():
            raise ConfigError("The vector holds NaN or infinite numbers.")
        unit = _unit(wanted[None])[0]
        best: list[tuple[float, int]] = []
        for start in range(0, len(self), _CHUNK):
            scores = self.vectors[start : start + _CHUNK] @ unit
            order = np.argsort(-scores, kind="stable")[:top_k]
            best = sorted([*best, *((float(scores[i]), start + int(i)) for i in order)], key=_nearness)[:top_k]
        return [Neighbour(self.names[place], min(max(score, -1.0), 1.0), place) for score, place in best]

    def search(self, model: Predictor, query: Any, *, top_k: int = 10, **options: Any) -> list[Neighbour]:
        """The rows nearest to a raw input. model: the one that made the index. options: of `model.embed()`, such as
        side="text" for a text among images."""
        if model.spec.name != self.model:
            raise ConfigError(
                f"The index is of {self.model!r}, and {model.spec.name!r} embeds into another space: search with the "
                "model that it was built with."
            )
        return self.nearest(model.embed(query, **options), top_k=top_k)

    def save(self, folder: str | Path) -> Path:
        """Write the vectors (.npz) and the names (JSON), with their hashes; nothing in it is a pickle."""
        facts = _Facts(model=self.model, folder=self.folder, names=self.names)
        with bundle.writing(folder) as temporary:
            np.savez(temporary / _VECTORS, vectors=self.vectors)
            text = json.dumps(facts.to_dict(), ensure_ascii=True, indent=0)
            (temporary / _NAMES).write_text(text, encoding="utf-8")
        return Path(folder)

    @classmethod
    def load(cls, folder: str | Path) -> Index:
        """What `save` wrote. Raises BundleError when it is not there, or a byte has changed."""
        path = Path(folder)
        manifest.verify(path)
        if not (path / _NAMES).is_file() or not (path / _VECTORS).is_file():
            raise BundleError(f"{path} is no index: Index.build(...).save(folder) or `zoo index` writes one.")
        facts = read(_Facts, load_json((path / _NAMES).read_bytes()), where=str(path / _NAMES))
        if facts.format != _FORMAT:
            raise BundleError(f"{path} is an index of format {facts.format}; this version reads {_FORMAT}.")
        with np.load(path / _VECTORS, allow_pickle=False) as arrays:
            vectors = arrays["vectors"]
        return cls(vectors, facts.names, model=facts.model, folder=facts.folder)


def files(folder: Path, kind: str) -> Iterator[Path]:
    """The files of a kind of input in a folder and those within it, by name. Hidden ones are left out."""
    if kind not in _ENDINGS:
        raise ConfigError(f"Files can't be indexed with a model of {kind}; give a list of inputs.")
    if not folder.is_dir():
        raise DataError(f"There is no folder {str(folder)!r}.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _ENDINGS[kind]
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not found:
        raise DataError(f"{folder} has no files that end in {', '.join(_ENDINGS[kind])}.")
    yield from found


def content(path: Path, kind: str) -> Any:
    """A text is what stands in the file; media are read by their encoder."""
    return path.read_text(encoding="utf-8-sig", errors="replace") if kind == "text" else path


def _good(
    model: Predictor, batch: Sequence[tuple[str, Any]], options: dict[str, Any], skipped: list[str]
) -> Iterator[tuple[str, Array]]:
    """All at once; one by one where one can't be read, to leave out only that."""
    try:
        yield from zip([name for name, _ in batch], model.embed([raw for _, raw in batch], **options), strict=True)
        return
    except DataError:
        pass
    for name, raw in batch:
        try:
            vector = model.embed(raw, **options)
        except DataError as error:
            skipped.append(f"{name}: {error}")
        else:
            yield name, vector


def _unit(vectors: Array) -> Array:
    """Rows of unit length; a row of zeros stays one, and is near to nothing."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _nearness(item: tuple[float, int]) -> tuple[float, int]:
    return -item[0], item[1]
