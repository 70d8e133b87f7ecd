"""A method of a torch module to an ONNX file, and the files of several graphs put together."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from zoo import bundle
from zoo.errors import ConfigError, missing
from zoo.modalities.base import Array

if TYPE_CHECKING:
    import torch

    from zoo.backends.module import ZooModule

# Larger weights stand beside the graph: ONNX Runtime maps them instead of copying them, and protobuf ends at 2 GB.
INLINE_BYTES = 16_000_000
# The first with whole attentions, RMS norms and rotary embeddings as ONNX's own operators: ONNX Runtime's fused kernels
# run them, on CPU and CUDA, and other readers of the graph can, too. ONNX Runtime 1.23 knows it, and gives NaN for a
# row of an attention in which everything is masked; 1.24 does not.
OPSET = 23
_SMALL = 1024  # bytes of a weight that stays in its graph


def write_graph(
    module: ZooModule,
    example: dict[str, Array],
    path: Path,
    *,
    ragged: Collection[str] = (),
    axes: Mapping[str, Sequence[int | str]] | None = None,
    method: str = "forward",
) -> dict[str, Array]:
    """Export one of the module's methods to ONNX, batch and length dynamic. Returns the example's outputs.

    ragged: names of the inputs whose second axis is of any length; or axes: of every input, a name where an axis is of
    any length. method: arrays by name in, tensors by name out.

    example: a ragged batch, so that padding and its mask are part of what is traced: an exporter that sees no
    padding may drop the mask.
    Raises ConfigError for a network that has no graph: of an operator that ONNX has none for, say.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
        import torch
    except ImportError as error:
        raise missing(str(error.name), "train", "Exporting") from error
    from zoo.capturing import capture

    names = list(example)
    tensors = tuple(torch.from_numpy(example[name]) for name in names)
    with torch.inference_mode():
        given = getattr(module, method)(**dict(zip(names, tensors, strict=True)))
        outputs = {name: tensor.numpy() for name, tensor in given.items()}
    wrapper = _flat(module, names, method)
    named = [axes[name] if axes else ("batch", *["length"] * (name in ragged)) for name in names]
    shapes = (tuple(_dynamic(sides, torch) for sides in named),)
    size = sum(p.numel() * p.element_size() for p in module.parameters())
    with warnings.catch_warnings(), quiet("torch.onnx", "onnxscript", "onnx_ir"), torch.no_grad(), _unparsed():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                capture(wrapper, tensors, shapes),
                tensors,
                input_names=names,
                output_names=list(outputs),
                dynamic_shapes=shapes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ConfigError(
                f"This network can't be exported to ONNX by torch {torch.__version__}: {_why(error)}"
            ) from error
        assert program is not None
        _free_names(program.model.graph, set(outputs))
        _rotate_every_row(program.model.graph)
        _forget_traces(program.model.graph)
        _lay_out_rows(program.model.graph)
        program.save(str(path), external_data=size > INLINE_BYTES)
    return outputs


@contextmanager
def _unparsed() -> Iterator[None]:
    """The exporter lists its 500 operators anew for each graph, and onnxscript reads the source of each of them for a
    domain that nobody asks for: some tenths of a second. Here it is told by what it would be read from."""
    kind, parsing = _parsing()
    if parsing is None:
        yield
        return
    kind.function_ir = property(lambda operator: SimpleNamespace(domain=operator.opset.domain))
    try:
        yield
    finally:
        kind.function_ir = parsing


@cache
def _parsing() -> tuple[Any, Any]:
    """onnxscript's class of an operator, and its own way to read one; asked once, as threads may export side by side.
    None in place of that where there is another onnxscript."""
    try:
        from onnxscript._internal import values
    except ImportError:
        return object, None
    kind = getattr(values, "TracedOnnxFunction", object)
    return kind, vars(kind).get("function_ir")


def _why(error: BaseException) -> str:
    """The reason behind what the exporter says, whose own first lines are advice."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _free_names(graph: Any, names: set[str]) -> None:
    """The exporter names inner values after their operators, and `embedding` is one: two of a name are no graph."""
    ends = {id(value) for value in graph.outputs}
    for node in graph:
        for value in node.outputs:
            if value.name in names and id(value) not in ends:
                value.name = f"{value.name}_inner"


def _rotate_every_row(graph: Any) -> None:
    """Angles of one row for all of a batch, made as many as there are rows: the operator wants them so.

    onnxscript's rule puts `RotaryEmbedding` in place of products that broadcast (ModernBERT's), and does not look.
    """
    import numpy as np
    import onnx_ir as ir

    sides = ir.Value(name="one_row", const_value=ir.tensor(np.ones(2, dtype=np.int64)))
    for node in [node for node in graph if node.op_type == "RotaryEmbedding"]:
        angles = node.inputs[1].producer().inputs[0].shape
        if angles is None or angles[0] != 1:
            continue
        graph.initializers.setdefault(sides.name, sides)
        rows = ir.node("Shape", [node.inputs[0]], {"start": 0, "end": 1})
        shape = ir.node("Concat", [rows.outputs[0], sides], {"axis": 0})
        wide = [ir.node("Expand", [value, shape.outputs[0]]) for value in node.inputs[1:3]]
        graph.insert_before(node, [rows, shape, *wide])
        for place, made in enumerate(wide, start=1):
            node.replace_input_with(place, made.outputs[0])


def _forget_traces(graph: Any) -> None:
    """The exporter writes the traceback of every operator into the graph, with the paths of this machine."""
    for node in graph:
        node.metadata_props.clear()
        for value in node.outputs:
            value.metadata_props.clear()


def _lay_out_rows(graph: Any) -> None:
    """Weights that were transposed are views, which NumPy writes to a file number by number: a sixth of an export.

    Each is copied when it is written, so that only one is in memory twice.
    """
    import numpy as np
    import onnx_ir as ir

    for value in graph.initializers.values():
        tensor = value.const_value
        array = tensor.raw if isinstance(tensor, ir.Tensor) else None
        if isinstance(array, np.ndarray) and not array.flags.c_contiguous:
            value.const_value = ir.LazyTensor(
                partial(_rows, array, tensor.dtype), dtype=tensor.dtype, shape=tensor.shape, name=tensor.name
            )


def _rows(array: Array, dtype: Any) -> Any:
    import numpy as np
    import onnx_ir as ir

    return ir.Tensor(np.ascontiguousarray(array), dtype=dtype)


def _flat(module: ZooModule, names: list[str], method: str) -> torch.nn.Module:
    import torch

    class Flat(torch.nn.Module):
        """Positional tensors in, a tuple of tensors out: what a graph's signature is."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, *tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return tuple(getattr(self.module, method)(**dict(zip(names, tensors, strict=True))).values())

    return Flat().eval()


def _dynamic(axes: Sequence[int | str], torch: Any) -> dict[int, Any]:
    return {i: torch.export.Dim.DYNAMIC for i, axis in enumerate(axes) if isinstance(axis, str)}


def share_weights(graphs: Sequence[Path], target: Path) -> None:
    """Move the weights of several graphs into one file, each once: a tied embedding is in both halves of a model."""
    import onnx
    from onnx.external_data_helper import set_external_data

    places: dict[bytes, tuple[int, int]] = {}
    with target.open("wb") as file:
        for path in graphs:
            model = onnx.load(str(path))
            for tensor in model.graph.initializer:
                data = onnx.numpy_helper.to_array(tensor).tobytes()
                if len(data) < _SMALL:
                    continue
                key = hashlib.sha256(data).digest()
                if key not in places:
                    # On a page's border, so that it can be mapped.
                    file.write(b"\0" * (-file.tell() % 4096))
                    places[key] = (file.tell(), len(data))
                    file.write(data)
                tensor.ClearField("raw_data")
                for field in ("float_data", "int32_data", "int64_data", "double_data", "uint64_data"):
                    tensor.ClearField(field)
                # The helper looks for inline data, which would double what is in the file.
                tensor.raw_data = b""
                set_external_data(tensor, target.name, *places[key])
                tensor.ClearField("raw_data")
            for old in path.parent.glob(f"{path.name}.data"):
                old.unlink()
            onnx.save(model, str(path))


_WIDE = ("heads", "length", "width")  # of a cache, behind its rows


def write_select(folder: Path, dtype: str = "float32") -> bundle.Graph:
    """The graph that takes rows out of one tensor of a cache, where the cache is: on a GPU it must not leave it."""
    import numpy as np
    from onnx import TensorProto, helper, save

    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    made = helper.make_graph(
        [helper.make_node("Gather", ["cache", "rows"], ["selected"], axis=0)],
        "select",
        [
            helper.make_tensor_value_info("cache", kind, ["batch", *_WIDE]),
            helper.make_tensor_value_info("rows", TensorProto.INT64, ["kept"]),
        ],
        [helper.make_tensor_value_info("selected", kind, ["kept", *_WIDE])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    save(model, str(folder / bundle.SELECT))
    return select_of(dtype)


def select_of(dtype: str) -> bundle.Graph:
    """The contract of `write_select`."""
    return bundle.Graph(
        name="select",
        file=bundle.SELECT,
        inputs=(
            bundle.TensorSpec(name="cache", dtype=dtype, shape=("batch", *_WIDE)),
            bundle.TensorSpec(name="rows", dtype="int64", shape=("kept",)),
        ),
        outputs=(bundle.TensorSpec(name="selected", dtype=dtype, shape=("kept", *_WIDE)),),
    )


class quiet:
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
