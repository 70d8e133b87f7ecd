"""A torch module to a verified bundle: the graph, the card, and the proof that it answers the same."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec import structs

from zoo import __version__, bundle, drafting, parity, report_card, shortlist, tracing
from zoo.errors import ConfigError
from zoo.modalities.base import Array
from zoo.predictor import Predictor
from zoo.runtime import BundleModel
from zoo.runtime import load as load_bundle
from zoo.runtime.model import Sessions, open_graphs
from zoo.spec import ModelSpec
from zoo.tasks import caching

if TYPE_CHECKING:
    from zoo.backends.module import ZooModule

_FOR_CPUS = (bundle.SHORTLIST, bundle.DRAFT)


def export(
    reference: Predictor,
    module: ZooModule,
    target: str | Path,
    *,
    samples: Sequence[Any] | None = None,
    tolerance: float = 1e-4,
    draft: bool = True,
) -> BundleModel:
    """Write a bundle in fp32 and return it, opened on the CPU.

    reference: the predictor over `module`, on the CPU in float32, whose answers the bundle must give.
    samples: raw inputs to compare on, at least one; built-in ones when None. draft: of a large language model, whether
    there is `draft.onnx`, too.
    Raises ParityError, leaving no bundle behind, when the answers differ.
    """
    with bundle.writing(target) as folder:
        fill(reference, module, folder, samples=samples, tolerance=tolerance, draft=draft)
    # Hashed a moment ago, when its manifest was written.
    return load_bundle(target, verify=False)


def fill(
    reference: Predictor,
    module: ZooModule,
    folder: Path,
    *,
    samples: Sequence[Any] | None,
    tolerance: float,
    draft: bool = False,
) -> bundle.Card:
    """Write everything of a bundle but its manifest into a folder, and compare it. Returns its card."""
    if samples is not None and len(samples) == 0:
        raise ConfigError("samples is empty; give some raw inputs, or leave it out for the built-in ones.")
    spec = reference.spec
    raws = list(samples) if samples is not None else None
    example = _example(reference)
    ragged = {*reference.encoder.ragged, *reference.task.ragged}
    stems: dict[str, str] = getattr(module, "graphs", {})
    caches = getattr(module, "caches", False)
    if stems and caches:
        outputs, graphs = _write_cached_halves(module, example, folder)
    elif stems:
        outputs, graphs = _write_graphs(module, stems, example, folder, ragged=ragged)
    elif caches:
        outputs, graphs = _write_cached(module, example, folder, draft=draft)
    else:
        outputs = tracing.write_graph(module, example, folder / bundle.GRAPH, ragged=ragged)
        graphs = None
    reference.encoder.save(folder)
    card = structs.replace(_card(reference, spec, example, outputs), graphs=graphs)
    if graphs and any(graph.file == bundle.SELECT for graph in graphs):
        more = any(graph.file in _FOR_CPUS for graph in graphs)
        card = structs.replace(card, format=bundle.CPU_FORMAT if more else bundle.CACHED_FORMAT)
    bundle.write_card(folder, card)
    made = load_bundle(folder, packed=True, verify=False)
    found = parity.compare(reference, made, raws, tolerance=tolerance)
    if (folder / bundle.SHORTLIST).is_file():
        # What was compared is the one for CPUs.
        parity.compare_graphs(made.session.run(example), _portable(folder, card).run(example), tolerance=tolerance)
    card = structs.replace(card, parity=found, history=getattr(reference, "history", ()))
    bundle.write_card(folder, card)
    report_card.write(folder)
    return card


def _portable(folder: Path, card: bundle.Card) -> Sessions:
    """The graphs that run anywhere."""
    graphs = tuple(graph for graph in card.graphs or () if graph.file not in _FOR_CPUS)
    return open_graphs(folder, structs.replace(card, graphs=graphs), packed=False)


def _write_graphs(
    module: ZooModule, stems: dict[str, str], example: dict[str, Array], folder: Path, *, ragged: Collection[str]
) -> tuple[dict[str, Array], tuple[bundle.Graph, ...]]:
    """The graphs of a module in parts, one after the other: what one gives is there for the next.

    Their weights stand once, in one file beside them. Returns the outputs as `forward` gives them.
    """
    known, made = dict(example), {}
    # Hidden states are as long as the input; a spectrogram's have one length.
    ragged = {*ragged, "decoder_input_ids", *({"encoder_hidden"} if "attention_mask" in ragged else set())}
    graphs = []
    for stem, method in stems.items():
        taken = {name: known[name] for name in module.takes(stem, known)}  # type: ignore[operator]
        given = tracing.write_graph(module, taken, folder / f"{stem}.onnx", ragged=ragged, method=method)
        graphs.append(
            bundle.Graph(
                name=stem,
                file=f"{stem}.onnx",
                inputs=tuple(_tensor(name, array, taken) for name, array in taken.items()),
                outputs=tuple(_tensor(name, array, taken) for name, array in given.items()),
            )
        )
        known.update(given)
        made.update(given)
    tracing.share_weights([folder / graph.file for graph in graphs], folder / bundle.SHARED)
    return made, tuple(graphs)


def _write_cached(
    module: ZooModule, example: dict[str, Array], folder: Path, *, draft: bool
) -> tuple[dict[str, Array], tuple[bundle.Graph, ...]]:
    """One graph of a language model, for a whole text and for each further token. Returns the outputs of `forward`."""
    ids, mask = example["input_ids"], example["attention_mask"]
    half = ids.shape[1] // 2
    taken = {*example, caching.KEEP, *((caching.POSITIONS,) if module.positions else ())}

    def step(ids: Array, mask: Array, past: dict[str, Array]) -> dict[str, Array]:
        # Not all places, or the exporter would take their number for the text's.
        inputs = caching.step(ids, mask, np.arange(1, ids.shape[1]), past)
        return {name: array for name, array in inputs.items() if name in taken or caching.is_past(name)}

    past = caching.past(_run(module, "cached", step(ids[:, :half], mask[:, :half], {})))
    inputs = step(ids[:, half:], mask, past)
    head = module.head_weights() or 0  # type: ignore[operator]
    short = shortlist.worth(head, sum(p.numel() for p in module.parameters()))
    method = "cached_hidden" if short else "cached"
    graph, _ = _write_axes(module, inputs, folder / bundle.GRAPH, method, caching.LANGUAGE)
    graph = structs.replace(graph, outputs=tuple(item for item in graph.outputs if item.name != "hidden"))
    more = (shortlist.write(folder) if short else None, drafting.write(folder, graph) if draft else None)
    graphs = (graph, tracing.write_select(folder), *(made for made in more if made is not None))
    return _run(module, "forward", example), graphs


def _write_cached_halves(
    module: ZooModule, example: dict[str, Array], folder: Path
) -> tuple[dict[str, Array], tuple[bundle.Graph, ...]]:
    """An encoder, which also makes the keys and values that the decoder sees of it, and a decoder with a cache."""
    named = caching.TEXTS if "attention_mask" in example else caching.SPEECH
    tokens = example[caching.TOKENS]
    # Two tokens at least on either side of the cache: of a single one the exporter makes a constant.
    tokens = np.tile(tokens, (1, -(-4 // tokens.shape[1])))
    half = tokens.shape[1] // 2
    inputs = {name: array for name, array in example.items() if name != caching.TOKENS}
    encoder, made = _write_axes(module, inputs, folder / "encoder.onnx", "begin", named)
    memory = {name: array for name, array in inputs.items() if name in module.memory}  # type: ignore[operator]
    crossing = {name: array for name, array in made.items() if name != caching.HIDDEN}
    past = caching.past(_run(module, "go_on", {caching.TOKENS: tokens[:, :half], **memory, **crossing}))
    arrays = {caching.TOKENS: tokens[:, half:], **memory, **crossing, **past}
    decoder, _ = _write_axes(module, arrays, folder / "decoder.onnx", "go_on", named)
    tracing.share_weights([folder / graph.file for graph in (encoder, decoder)], folder / bundle.SHARED)
    return _run(module, "forward", example), (encoder, decoder, tracing.write_select(folder))


def _run(module: ZooModule, method: str, arrays: dict[str, Array]) -> dict[str, Array]:
    import torch

    with torch.inference_mode():
        given = getattr(module, method)(**{name: torch.from_numpy(array) for name, array in arrays.items()})
    return {name: tensor.numpy() for name, tensor in given.items()}


def _write_axes(
    module: ZooModule, inputs: dict[str, Array], path: Path, method: str, named: caching.Axes
) -> tuple[bundle.Graph, dict[str, Array]]:
    """A graph whose axes are named, with its contract; and its outputs."""
    axes = {name: caching.axes(name, array, named) for name, array in inputs.items()}
    given = tracing.write_graph(module, inputs, path, method=method, axes=axes)
    graph = bundle.Graph(
        name=path.stem,
        file=path.name,
        inputs=tuple(_spec(name, array, axes[name]) for name, array in inputs.items()),
        outputs=tuple(_spec(name, array, caching.axes(name, array, named)) for name, array in given.items()),
    )
    return graph, given


def _example(reference: Predictor) -> dict[str, Array]:
    """Built-in samples as one batch, whatever the user's are: they are ragged for certain."""
    options = reference.task.parse_options(reference.task.sample_options)
    windows = [reference.task.probe(reference.encoder, raw, options)[0] for raw in reference.task.traced()]
    return reference.task.collate(reference.encoder, windows)


def _card(reference: Predictor, spec: ModelSpec, example: dict[str, Array], outputs: dict[str, Array]) -> bundle.Card:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    return bundle.Card(
        kind="bundle",
        zoo=__version__,
        task=reference.task.name,  # type: ignore[arg-type]
        spec=spec,
        inputs=tuple(_tensor(name, array, example) for name, array in example.items()),
        outputs=tuple(_tensor(name, array, example) for name, array in outputs.items()),
        export=bundle.Export(opset=tracing.OPSET, versions=versions),
    )


def _tensor(name: str, array: Array, example: dict[str, Array]) -> bundle.TensorSpec:
    first = next(iter(example.values()))
    # A table's row is of fixed width.
    length = first.shape[1] if first.ndim == 2 and next(iter(example)) not in ("categories", "numbers") else None
    shape: list[int | str] = ["batch", *array.shape[1:]]
    if "decoder_input_ids" in example and name in ("decoder_input_ids", "logits"):
        shape[1] = "target"
        return bundle.TensorSpec(name=name, dtype=str(array.dtype), shape=tuple(shape))
    if name in ("attention_mask", "encoder_hidden") and "decoder_input_ids" in example:
        length = example["attention_mask"].shape[1] if "attention_mask" in example else None
    # A vector may have as many numbers as the sample has tokens.
    if array.ndim > 1 and length is not None and array.shape[1] == length and not name.endswith("_embeds"):
        shape[1] = "length"
    elif name == "logits" and array.ndim == 3:
        shape[1] = "frames"
    elif name == "waveform":
        shape[1] = "samples"
    return bundle.TensorSpec(name=name, dtype=str(array.dtype), shape=tuple(shape))


def _spec(name: str, array: Array, shape: Sequence[int | str]) -> bundle.TensorSpec:
    return bundle.TensorSpec(name=name, dtype=str(array.dtype), shape=tuple(shape))
