"""A bundle as an object with the same `predict` and the same results as the torch model."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack, final

from zoo import bundle
from zoo.errors import BundleError, ConfigError, ZooError
from zoo.inference import Batch, Bulk, Forward, RowOutcome
from zoo.modalities import make_encoder
from zoo.modalities.base import Array
from zoo.predictor import Predictor, labels_for
from zoo.runtime.caching import CachedGraph, CachedSession
from zoo.runtime.caching_sequences import CachedSequences, CachedSequenceSession
from zoo.runtime.draft import Draft
from zoo.runtime.flight import Flight, Joinable
from zoo.runtime.sequences import GraphSequences, SequenceSession
from zoo.runtime.session import Ahead, How, Session
from zoo.runtime.shortlist import Shortlist
from zoo.runtime.towers import TowerSessions
from zoo.tasks import get, make
from zoo.tasks.generation import GenerateOptions
from zoo.tasks.rerunning import RerunStepper
from zoo.tasks.sequences import SequenceStepper
from zoo.tasks.steppers import Stepper

if TYPE_CHECKING:
    from zoo.spec import Pooling


Sessions = Session | SequenceSession | TowerSessions | CachedSession | CachedSequenceSession


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

    @property
    def bulk(self) -> Callable[[], Bulk] | None:
        # Measured on two cores: transformers gain some fifth, and convolutions of images nothing.
        if isinstance(self.session, Session) and self.session.splits and self.spec.input.kind in ("text", "audio"):
            return self._split
        return None

    def _split(self) -> Bulk:
        assert isinstance(self.session, Session)
        twin = self.session.split()
        return lambda batch: twin.run(batch.inputs), 1 if twin is self.session else self.session.threads

    def forward(self, batch: Batch) -> dict[str, Array]:
        return self.session.run(batch.inputs)

    def _answer(self, outcome: RowOutcome, options: Any) -> Any:
        try:
            return super()._answer(outcome, options)
        except ZooError:
            raise
        # Outputs of the promised shapes may still have more classes than there are labels, or none.
        except (IndexError, KeyError, ValueError) as error:
            raise BundleError(f"{self.folder}: its graph's answer is none of {self.card.task} ({error!r}).") from error

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

    def stepping(self) -> AbstractContextManager[Stepper]:
        if isinstance(self.session, CachedSession):
            return nullcontext(CachedGraph(self.session))
        return nullcontext(self._rerun())

    def flight(self) -> Flight | None:
        """What writes the texts of many callers together. None for a model that continues no texts, and where its cache
        lies on a GPU, which it would have to leave whenever a text joins."""
        session = self.session
        if not issubclass(self.task.options, GenerateOptions) or session.device != "cpu":
            return None
        encoder = self._text_encoder
        make: Callable[[], Joinable] = (
            functools.partial(CachedGraph, session) if isinstance(session, CachedSession) else self._rerun
        )
        return Flight(
            make, self._prompt, self._generation, eos_id=encoder.eos_id, pad_id=encoder.pad_id, decode=encoder.decode
        )

    def _rerun(self) -> RerunStepper:
        return RerunStepper(self.session.run, pad_id=self._text_encoder.pad_id, checks=_exact(self.card))

    def sequence_stepper(self) -> SequenceStepper:
        if isinstance(self.session, CachedSequenceSession):
            return CachedSequences(self.session)
        if not isinstance(self.session, SequenceSession):
            raise BundleError(f"{self.folder} has one graph, and {self.card.task} needs an encoder and a decoder.")
        return GraphSequences(self.session)

    def __repr__(self) -> str:
        return f"<BundleModel {self.folder.name!r}: {self.spec.name}, {self.card.task}, on {self.session.device}>"


def opened(path: Path, ahead: Ahead | None = None, **how: Unpack[How]) -> BundleModel:
    """The model of a folder whose graphs and card were checked against its manifest. ahead: one of its graphs, which
    is being opened already, as `how` says."""
    card = bundle.read_card(path)
    if card.kind != "bundle":
        raise BundleError(
            f"{path} is a saved model, not an exported bundle: zoo.load({str(path)!r}).export(...) makes one."
        )
    _check_task(path, card)
    return BundleModel(path, card, open_graphs(path, card, ahead, **how))


def open_graphs(folder: Path, card: bundle.Card, ahead: Ahead | None = None, **how: Unpack[How]) -> Sessions:
    """The graphs of a folder as a card describes them. how: as of `Session`; ahead: as of `opened`. Raises BundleError,
    DeviceError."""

    def session_of(file: str) -> Session:
        path = folder / file
        return ahead.session() if ahead is not None and ahead.graph == path else Session(path, **how)

    if card.graphs is None:
        session = session_of(bundle.GRAPH)
        session.promise(card.inputs, card.outputs)
        return session
    more, guesses = (
        next((graph for graph in card.graphs if graph.file == file), None) for file in (bundle.SHORTLIST, bundle.DRAFT)
    )
    # On a GPU all logits are there as soon.
    listing = how.get("device", "cpu") == "cpu"
    found, contracts = {}, {graph.name: graph for graph in card.graphs}
    for graph in card.graphs:
        if graph is more or graph is guesses:
            continue
        meant = _extended(graph, more) if listing and more is not None and graph.file == bundle.GRAPH else graph
        found[graph.name] = session_of(meant.file)
        found[graph.name].promise(meant.inputs, meant.outputs)
    if set(found) in ({"image", "text"}, {"audio", "text"}):
        return TowerSessions(found)
    if set(found) == {"model", "select"}:
        model = found["model"]
        shortlist = Shortlist(model.graph, _vocabulary(card)) if model.graph.name == bundle.SHORTLIST else None
        return CachedSession(
            model,
            found["select"],
            contracts["model"].inputs,
            exact=_exact(card),
            shortlist=shortlist,
            draft=_draft(folder, contracts["model"], guesses, **how) if listing and guesses is not None else None,
        )
    if set(found) == {"encoder", "decoder", "select"}:
        return CachedSequenceSession(**found, inputs=contracts["decoder"].inputs)
    if set(found) != {"encoder", "decoder"}:
        raise BundleError(
            f"{folder} has the graphs {', '.join(found)}; this version runs an encoder and a decoder, two towers, "
            "or a language model with a cache."
        )
    return SequenceSession(found["encoder"], found["decoder"])


def _extended(graph: bundle.Graph, more: bundle.Graph) -> bundle.Graph:
    """The contract of a graph that does what another does and more, of which its own says no more than that."""
    if (more.inputs, more.outputs) != (bundle.SHORTLIST_INPUTS, bundle.SHORTLIST_OUTPUTS):
        raise BundleError(f"{more.file}: its card says that it takes and gives something else than shortlists.")
    return bundle.Graph(
        name=more.name, file=more.file, inputs=graph.inputs + more.inputs, outputs=graph.outputs + more.outputs
    )


def _draft(folder: Path, model: bundle.Graph, graph: bundle.Graph, **how: Unpack[How]) -> Draft:
    """What drafts for a model's graph, of whose contract its own must be. It is opened later, beside the answers."""
    if graph != bundle.draft_of(model):
        raise BundleError(f"{graph.file}: its card says that it takes and gives something else than {model.file}.")
    later: How = {**how, "packed": False}

    def open_it() -> Session:
        session = Session(folder / graph.file, **later)
        session.promise(graph.inputs, graph.outputs)
        return session

    return Draft(open_it)


def _vocabulary(card: bundle.Card) -> int:
    found = next((item.shape[-1] for item in card.outputs if item.name == "logits"), None)
    if not isinstance(found, int):
        raise BundleError(f"The card of {card.spec.name} does not say how large its vocabulary is.")
    return found


def _exact(card: bundle.Card) -> bool:
    """Whether a graph's numbers do not depend on what is computed with them: dynamic int8 has one scale for all."""
    return card.export is None or card.export.precision != "int8"


def _check_task(path: Path, card: bundle.Card) -> None:
    """Raises BundleError for a card whose parts are each right and do not belong together."""
    task = get(card.task, card.spec)
    if card.spec.modality not in task.modalities:
        raise BundleError(f"{path}: {card.task} is no task of {card.spec.modality}, which its spec is of.")
    if card.graphs is None and task.output not in {item.name for item in card.outputs}:
        raise BundleError(f"{path}: {card.task} reads {task.output!r}, which is none of its graph's outputs.")
