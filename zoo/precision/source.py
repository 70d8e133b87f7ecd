"""An fp32 graph as ONNX Runtime's tools take it, and how what they make of it is written."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from zoo import tracing
from zoo.errors import missing

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto


@final
class Source:
    """A graph in memory whose values have types and whose nodes have names. Each `copy` is free to be changed."""

    def __init__(self, path: Path) -> None:
        onnx = _onnx()
        # Shapes are inferred without the weights, which may be more than one message can hold.
        model = onnx.load(str(path), load_external_data=False)
        # The exporter's own notes contradict what inference finds, which is an error.
        del model.graph.value_info[:]
        model = onnx.shape_inference.infer_shapes(model)
        onnx.external_data_helper.load_external_data_for_model(model, str(path.parent))
        _name_nodes(model)
        # Without this mark the quantizer writes the graph to disk and infers its shapes again, for every conversion.
        onnx.helper.set_model_props(model, {"onnx.infer": "onnxruntime.quant"})
        self._model: ModelProto = model
        self.weights = {tensor.name: size_of(tensor.dims) for tensor in model.graph.initializer}

    @property
    def nodes(self) -> list[NodeProto]:
        return list(self._model.graph.node)

    def copy(self) -> ModelProto:
        import onnx

        found = onnx.ModelProto()
        found.CopyFrom(self._model)
        return found

    def weighty(self, operators: tuple[str, ...]) -> int:
        """How many numbers are the weights of these operators."""
        return sum(self.weights.get(node.input[1], 0) for node in self.nodes if node.op_type in operators)


def write(model: ModelProto, path: Path) -> None:
    """A graph to a file, with its weights in a second one where they are too large for the first."""
    onnx = _onnx()
    # What is only used while converting is no part of a graph that is shipped.
    del model.graph.value_info[:]
    del model.metadata_props[:]
    size = sum(size_of(tensor.dims) * _width(tensor.data_type) for tensor in model.graph.initializer)
    if size > tracing.INLINE_BYTES:
        onnx.save_model(model, str(path), save_as_external_data=True, location=f"{path.name}.data")
    else:
        onnx.save_model(model, str(path))


def opset_of(path: Path) -> int:
    """The version of ONNX's own operators that a graph states."""
    model = _onnx().load(str(path), load_external_data=False)
    return int(next(item.version for item in model.opset_import if item.domain in ("", "ai.onnx")))


def size_of(dims: object) -> int:
    found = 1
    for dim in dims:  # type: ignore[attr-defined]
        found *= dim
    return found


@contextmanager
def as_file(source: Source, folder: Path) -> Iterator[Path]:
    """The graph as a file, for the tools that read one, as long as the block lasts."""
    path = folder / "source.onnx"
    write(source.copy(), path)
    try:
        yield path
    finally:
        for found in folder.glob("source.onnx*"):
            found.unlink()


@contextmanager
def tools() -> Iterator[None]:
    """ONNX Runtime's tools can be imported in this block, and the path is as it was afterwards.

    They put their own folder on it, with modules named `float16` and `models`, and find each other there.
    """
    import onnxruntime

    before = list(sys.path)
    sys.path.append(str(Path(onnxruntime.__file__).parent / "transformers"))
    try:
        yield
    finally:
        sys.path[:] = before


Conversion = Callable[["ModelProto", frozenset[str]], "ModelProto"]


def _name_nodes(model: ModelProto) -> None:
    taken: set[str] = set()
    for place, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{place}"
        taken.add(node.name)


def _width(data_type: int) -> int:
    import onnx

    return int(onnx.helper.tensor_dtype_to_np_dtype(data_type).itemsize)


def _onnx() -> Any:
    try:
        import onnx
        import onnx.external_data_helper
        import onnx.shape_inference
    except ImportError as error:
        raise missing("onnx", "measure", "Reducing a graph's precision") from error
    return onnx
