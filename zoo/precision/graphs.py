"""The graphs that a precision is made of: a bundle's one, its encoder and decoder, or its two towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, final

import numpy as np
from msgspec import structs

from zoo import tracing
from zoo.bundle import CACHED_FORMAT, DRAFT, GRAPH, SELECT, SHARED, SHORTLIST, Card, TensorSpec
from zoo.modalities.base import Array
from zoo.precision.source import Conversion, Source, write
from zoo.runtime import BundleModel
from zoo.runtime.caching import CachedSession, nothing
from zoo.runtime.caching_sequences import CachedSequenceSession
from zoo.runtime.sequences import SequenceSession
from zoo.runtime.towers import TowerSessions
from zoo.tasks import caching

if TYPE_CHECKING:
    from onnx import NodeProto

Arrays = Mapping[str, Array]
_FOR_CPUS = (SHORTLIST, DRAFT)


@final
class Graphs:
    """The fp32 graphs of a bundle in memory, by name. Operators of several are called `decoder:name`."""

    def __init__(self, bundle: BundleModel) -> None:
        self._bundle = bundle
        self.files = files_of(bundle.card)
        self.sources = {name: Source(bundle.folder / file) for name, file in self.files.items()}

    def nodes(self, of: Mapping[str, Sequence[str] | None] | None = None) -> tuple[str, ...]:
        """Names of operators, in the graphs' order. of: the kinds in each graph, all of them where None."""
        wanted: Mapping[str, Sequence[str] | None] = dict.fromkeys(self.sources) if of is None else of
        return tuple(
            self._called(name, node)
            for name, kinds in wanted.items()
            for node in self.sources[name].nodes
            if kinds is None or node.op_type in kinds
        )

    def weighty(self, operators: tuple[str, ...]) -> int:
        """How many numbers are the weights of these operators."""
        return sum(source.weighty(operators) for source in self.sources.values())

    def convert(self, conversions: Mapping[str, Conversion], left_out: frozenset[str], folder: Path) -> None:
        """Write all graphs into an empty folder, those that have a conversion by it, with all that runs them."""
        folder.mkdir()
        for name, source in self.sources.items():
            convert = conversions.get(name)
            kept = frozenset(node.name for node in source.nodes if self._called(name, node) in left_out)
            write(source.copy() if convert is None else convert(source.copy(), kept), folder / self.files[name])
        if (self._bundle.folder / SHARED).is_file():
            # What both held in fp32 both hold alike still, and it stands once.
            tracing.share_weights([folder / file for file in self.files.values()], folder / SHARED)
        if (self._bundle.folder / SELECT).is_file():
            tracing.write_select(folder, dtype=_dtype_of_cache(folder / list(self.files.values())[-1]))

    def feeds(self, batches: Sequence[Arrays]) -> dict[str, list[Arrays]]:
        """What each graph is given for the bundle's own inputs: the same for a cache that is empty."""
        found: dict[str, list[Arrays]] = {name: [] for name in self.sources}
        for batch in batches:
            for name, arrays in self._feed(batch).items():
                found[name].append(arrays)
        return found

    def _feed(self, batch: Arrays) -> dict[str, Arrays]:
        session = self._bundle.session
        if isinstance(session, CachedSession):
            ids = batch["input_ids"]
            return {"model": session.first(ids, batch["attention_mask"], np.arange(ids.shape[1]))}
        if isinstance(session, (SequenceSession, CachedSequenceSession)):
            known = {**batch, **session.encoder.run(batch)}
            if isinstance(session, CachedSequenceSession):
                known |= nothing(session.past, len(batch[caching.TOKENS]))
            halves = {"encoder": session.encoder, "decoder": session.decoder}
            return {name: {key: known[key] for key in half.inputs} for name, half in halves.items()}
        if isinstance(session, TowerSessions):
            return {
                name: {key: batch[key] for key in tower.inputs}
                for name, tower in session.towers.items()
                if set(tower.inputs) <= set(batch)
            }
        return {"model": batch}

    def _called(self, name: str, node: NodeProto) -> str:
        return node.name if len(self.sources) == 1 else f"{name}:{node.name}"


def contract(card: Card, folder: Path) -> Card:
    """The card of graphs that were converted into a folder: a cache may be of another dtype than fp32's."""
    if card.graphs is None or not (folder / SELECT).is_file():
        return card
    dtype = _dtype_of_cache(folder / list(files_of(card).values())[-1])

    def told(arrays: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        return tuple(structs.replace(item, dtype=dtype) if caching.is_cache(item.name) else item for item in arrays)

    graphs = tuple(
        tracing.select_of(dtype)
        if graph.file == SELECT
        else structs.replace(graph, inputs=told(graph.inputs), outputs=told(graph.outputs))
        for graph in card.graphs
        # They are of fp32's weights, and all of a model in int8 is quicker.
        if graph.file not in _FOR_CPUS
    )
    return structs.replace(card, graphs=graphs, format=CACHED_FORMAT)


def _dtype_of_cache(path: Path) -> str:
    """Of a graph that goes on from one."""
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    kind = next(value.type.tensor_type.elem_type for value in graph.input if caching.is_cache(value.name))
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind))


def files_of(card: Card) -> dict[str, str]:
    """Name and file of each graph that is the model, or a part of it."""
    if card.graphs is None:
        return {"model": GRAPH}
    return {graph.name: graph.file for graph in card.graphs if graph.file not in (SELECT, *_FOR_CPUS)}


def weights_of(folder: Path, card: Card) -> list[Path]:
    """The files that a precision changes."""
    names = [name for file in (*files_of(card).values(), *_FOR_CPUS) for name in (file, f"{file}.data")]
    return [folder / name for name in (*names, SHARED) if (folder / name).is_file()]


def weight_of(folder: Path, card: Card) -> int:
    """Bytes of a bundle's graphs, with the weights beside them."""
    return sum(path.stat().st_size for path in weights_of(folder, card))
