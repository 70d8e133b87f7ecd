"""`zoo.runtime.load(folder)`: an object with the same `predict` and the same results as the torch model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, final

from zoo import bundle
from zoo.errors import BundleError, ConfigError
from zoo.inference import Batch, Forward
from zoo.modalities import make_encoder
from zoo.modalities.base import Array
from zoo.predictor import Predictor, labels_for
from zoo.runtime.caching import CachedGraph, CachedSession
from zoo.runtime.sequences import GraphSequences, SequenceSession
from zoo.runtime.session import Device, Session
from zoo.runtime.towers import TowerSessions
from zoo.tasks import make
from zoo.tasks.generation import RerunStepper, Stepper
from zoo.tasks.sequences import SequenceStepper

if TYPE_CHECKING:
    from zoo.spec import Pooling


Sessions = Session | SequenceSession | TowerSessions | CachedSession


@final
class BundleModel(Predictor):
    """An exported model, ready to answer. Made by `zoo.runtime.load`."""

    def __init__(self, folder: Path, card: bundle.Card, session: Sessions) -> None:
        self.folder = folder
        self.card = card
        self.session = session
        self.spec = card.spec
        self.task = make(card.task, card.spec, labels_for(card.task, card.spec))
        self.encoder = make_encoder(card.spec, folder=folder)

    @property
    def accelerated(self) -> bool:
        return self.session.device == "cuda"

    def forward(self, batch: Batch) -> dict[str, Array]:
        return self.session.run(batch.inputs)

    def _embedder(self, pooling: Pooling | None) -> Forward:
        if self.card.task != "feature-extraction" and not isinstance(self.session, TowerSessions):
            raise ConfigError(
                f"This bundle was exported for {self.card.task}. To embed, load the model with "
                "task='feature-extraction' and export that."
            )
        if pooling not in (None, self.spec.embedding.pooling):
            raise ConfigError(
                f"This bundle pools by {self.spec.embedding.pooling!r}, which is part of its graph; {pooling!r} needs "
                "an export of its own."
            )
        return self.forward

    def _state(self) -> Any:
        return None

    def _stepper(self) -> Stepper:
        if isinstance(self.session, CachedSession):
            return CachedGraph(self.session)
        return RerunStepper(self.session.run, pad_id=self._text_encoder.pad_id)

    def _sequence_stepper(self) -> SequenceStepper:
        if not isinstance(self.session, SequenceSession):
            raise BundleError(f"{self.folder} has one graph, and {self.card.task} needs an encoder and a decoder.")
        return GraphSequences(self.session)

    def __repr__(self) -> str:
        return f"<BundleModel {self.folder.name!r}: {self.spec.name}, {self.card.task}, on {self.session.device}>"


def load(
    folder: str | Path,
    *,
    device: Device | Literal["auto"] = "cpu",
    fallback: bool = False,
    threads: int | None = None,
    verify: bool = True,
) -> BundleModel:
    """Open an exported bundle.

    device: "cpu"; "cuda", which raises DeviceError when CUDA can't be had, unless `fallback`; or "auto".
    threads: of one operator, ONNX Runtime's own choice when None.
    verify: hash every file against the manifest first; BundleError when a byte has changed.
    """
    path = Path(folder)
    if not path.is_dir():
        raise BundleError(f"There is no bundle at {path}. Model.export() or `zoo export` writes one.")
    if verify:
        bundle.verify(path)
    card = bundle.read_card(path)
    if card.kind != "bundle":
        raise BundleError(
            f"{path} is a saved model, not an exported bundle: zoo.load({str(path)!r}).export(...) makes one."
        )
    if card.graphs is None:
        session = Session(path / bundle.GRAPH, device=device, fallback=fallback, threads=threads)
        _check_contract(path, card.inputs, session)
        return BundleModel(path, card, session)
    sessions = {}
    for graph in card.graphs:
        sessions[graph.name] = Session(path / graph.file, device=device, fallback=fallback, threads=threads)
        _check_contract(path, graph.inputs, sessions[graph.name])
    if set(sessions) in ({"image", "text"}, {"audio", "text"}):
        return BundleModel(path, card, TowerSessions(tuple(sessions.values())))
    if set(sessions) == {"model", "select"}:
        return BundleModel(path, card, CachedSession(sessions["model"], sessions["select"], card.graphs[0].inputs))
    if set(sessions) != {"encoder", "decoder"}:
        raise BundleError(
            f"{path} has the graphs {', '.join(sessions)}; this version runs an encoder and a decoder, two towers, "
            "or a language model with a cache."
        )
    return BundleModel(path, card, SequenceSession(sessions["encoder"], sessions["decoder"]))


def _check_contract(path: Path, inputs: tuple[bundle.TensorSpec, ...], session: Session) -> None:
    stated: dict[str, Any] = {item.name: item.dtype for item in inputs}
    if stated != session.inputs:
        raise BundleError(f"{path}: the graph takes {session.inputs}, and {bundle.CARD} says {stated}.")
