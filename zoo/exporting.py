"""A torch module to a verified bundle: the graph, the card, and the proof that it answers the same."""

from __future__ import annotations

import importlib.metadata
import logging
import warnings
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import __version__, bundle, parity
from zoo.errors import ConfigError, missing
from zoo.modalities.base import Array
from zoo.predictor import Predictor
from zoo.runtime import BundleModel
from zoo.runtime import load as load_bundle
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import torch

    from zoo.backends.module import ZooModule

# A protobuf file ends at 2 GB; what is larger keeps its weights beside the graph.
_INLINE_BYTES = 1_800_000_000
_OPSET = 18


def export(
    reference: Predictor,
    module: ZooModule,
    target: str | Path,
    *,
    precision: str = "fp32",
    samples: Sequence[Any] | None = None,
    tolerance: float = 1e-4,
) -> BundleModel:
    """Write a bundle and return it, opened on the CPU.

    reference: the predictor over `module`, on the CPU in float32, whose answers the bundle must give.
    samples: raw inputs to compare on, at least one; built-in ones when None.
    Raises ParityError, leaving no bundle behind, when the answers differ.
    """
    if precision != "fp32":
        raise ConfigError(f'precision is {precision!r}; this version exports "fp32".')
    if samples is not None and len(samples) == 0:
        raise ConfigError("samples is empty; give some raw inputs, or leave it out for the built-in ones.")
    spec = reference.spec
    raws = list(samples) if samples is not None else None
    with bundle.writing(target) as folder:
        example = _example(reference)
        outputs = write_graph(module, example, folder / bundle.GRAPH, ragged=reference.encoder.ragged)
        reference.encoder.save(folder)
        card = _card(reference, spec, example, outputs)
        bundle.write_card(folder, card)
        found = parity.compare(reference, load_bundle(folder, verify=False), raws, tolerance=tolerance)
        bundle.write_card(folder, card.model_copy(update={"parity": found}))
    return load_bundle(target)


def write_graph(
    module: ZooModule, example: dict[str, Array], path: Path, *, ragged: Collection[str]
) -> dict[str, Array]:
    """Export the module's forward to ONNX, batch and length dynamic. Returns the example's outputs.

    ragged: names of the inputs whose second axis is of any length.

    example: a ragged batch, so that padding and its mask are part of what is traced: an exporter that sees no
    padding may drop the mask.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise missing(str(error.name), "train", "Exporting") from error
    names = list(example)
    tensors = tuple(torch.from_numpy(example[name]) for name in names)
    with torch.inference_mode():
        outputs = {name: tensor.numpy() for name, tensor in module(**dict(zip(names, tensors, strict=True))).items()}
    wrapper = _flat(module, names)
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    with warnings.catch_warnings(), _quiet("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            wrapper,
            tensors,
            input_names=names,
            output_names=list(outputs),
            dynamic_shapes=(tuple(_dynamic(name in ragged, torch) for name in names),),
            opset_version=_OPSET,
            dynamo=True,
            verbose=False,
        )
        assert program is not None
        _free_names(program.model.graph, set(outputs))
        program.save(str(path), external_data=size > _INLINE_BYTES)
    return outputs


def _free_names(graph: Any, names: set[str]) -> None:
    """The exporter names inner values after their operators, and `embedding` is one: two of a name are no graph."""
    ends = {id(value) for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name in names and id(value) not in ends:
                value.name = f"{value.name}_inner"


def _flat(module: ZooModule, names: list[str]) -> torch.nn.Module:
    import torch

    class Flat(torch.nn.Module):
        """Positional tensors in, a tuple of tensors out: what a graph's signature is."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(self.module(**dict(zip(names, tensors, strict=True))).values())

    return Flat().eval()


def _dynamic(ragged: bool, torch: Any) -> dict[int, Any]:
    axes = {0: torch.export.Dim.DYNAMIC}
    if ragged:
        axes[1] = torch.export.Dim.DYNAMIC
    return axes


def _example(reference: Predictor) -> dict[str, Array]:
    """Built-in samples as one batch, whatever the user's are: they are ragged for certain."""
    options = reference.task.parse_options(reference.task.sample_options)
    windows = [reference.task.encode(reference.encoder, raw, options)[0] for raw in reference.task.samples()]
    return reference.encoder.collate(windows)


def _card(reference: Predictor, spec: ModelSpec, example: dict[str, Array], outputs: dict[str, Array]) -> bundle.Card:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "onnx", "onnxscript")}
    return bundle.Card(
        kind="bundle",
        zoo=__version__,
        task=reference.task.name,  # type: ignore[arg-type]
        spec=spec,
        inputs=tuple(_tensor(name, array, example) for name, array in example.items()),
        outputs=tuple(_tensor(name, array, example) for name, array in outputs.items()),
        export=bundle.Export(opset=_OPSET, versions=versions),
    )


def _tensor(name: str, array: Array, example: dict[str, Array]) -> bundle.TensorSpec:
    first = next(iter(example.values()))
    # A table's row is of fixed width.
    length = first.shape[1] if first.ndim == 2 and next(iter(example)) not in ("categories", "numbers") else None
    shape: list[int | str] = ["batch", *array.shape[1:]]
    if array.ndim > 1 and length is not None and array.shape[1] == length:
        shape[1] = "length"
    elif name == "logits" and array.ndim == 3:
        shape[1] = "frames"
    return bundle.TensorSpec(name=name, dtype=str(array.dtype), shape=tuple(shape))


class _quiet:
    """Loggers held at ERROR: the exporter reports every operator it passes."""

    def __init__(self, *names: str) -> None:
        self._loggers = [logging.getLogger(name) for name in names]
        self._levels = [logger.level for logger in self._loggers]

    def __enter__(self) -> None:
        for logger in self._loggers:
            logger.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        for logger, level in zip(self._loggers, self._levels, strict=True):
            logger.setLevel(level)
