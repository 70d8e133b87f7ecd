"""`draft.onnx`, written: a language model's graph with its matrices in int8, which guesses what `model.onnx` will say.

It takes and gives what that does, of one text one token at a time, and goes on from the same cache: keys and values
that `model.onnx` made are better than its own. Embeddings and norms are read from the file that has them already; so is
the output layer where `shortlist.onnx` has rounded it.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple

from zoo import bundle, rounding, shortlist
from zoo.tasks import caching

_BLOCKS = (128, 64, 32)  # the larger, the fewer steps to read
LEAST = 32_000_000  # weights of matrices: of less, a step waits for other things than the memory


class _Matrix(NamedTuple):
    """table: the tensor; across: whether it is `[K, N]`, and not the other way round."""

    table: Any
    across: bool

    @property
    def sides(self) -> tuple[int, int]:
        """N and K."""
        first, second = self.table.dims
        return (second, first) if self.across else (first, second)


def write(folder: Path, graph: bundle.Graph) -> bundle.Graph | None:
    """Beside a `model.onnx` with this contract. None, and no file, where guesses could not be checked or are not worth
    their bytes."""
    import onnx

    # What is forgotten leaves a gap, which a model without numbered positions may take for distance.
    if caching.POSITIONS not in {item.name for item in graph.inputs}:
        return None
    model = onnx.load(str(folder / bundle.GRAPH), load_external_data=False)
    found = _matrices(model.graph)
    if sum(matrix.sides[0] * matrix.sides[1] for matrix in found.values()) < LEAST:
        return None
    beside = folder / f"{bundle.DRAFT}.data"
    # By the weights, and which way round they are multiplied by.
    made: dict[tuple[str, bool], tuple[Any, Any]] = {}
    with beside.open("wb") as file:
        for place, node in enumerate(model.graph.node):
            if (matrix := found.get(node.output[0])) is None:
                continue
            name, across = matrix.table.name, matrix.across
            if (name, across) not in made:
                weights = rounding.mapped(matrix.table, folder)
                own = f"{name}{'.across' if across else ''}"
                made[name, across] = (node.output[0] == "logits" and _of_shortlist(folder)) or rounding.tensors(
                    rounding.write(weights.T if across else weights, file, _block(matrix)),
                    (f"{own}.rounded", f"{own}.steps"),
                    beside.name,
                )
            model.graph.node[place].CopyFrom(_product(node, made[name, across]))
    _forget_unused(model.graph, {name for name, _ in made})
    draft = bundle.draft_of(graph)
    _fix(model.graph, draft)
    model.graph.initializer.extend(tensor for pair in made.values() for tensor in pair)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(folder / bundle.DRAFT))
    return draft


def _fix(graph: Any, draft: bundle.Graph) -> None:
    """Say of what size arrays are: what follows from that is worked out before the graph runs, and not each time."""
    del graph.value_info[:]
    shapes = {item.name: item.shape for item in (*draft.inputs, *draft.outputs)}
    for value in (*graph.input, *graph.output):
        for side, size in zip(value.type.tensor_type.shape.dim, shapes[value.name], strict=True):
            if isinstance(size, int):
                side.dim_value = size


def _matrices(graph: Any) -> dict[str, _Matrix]:
    """By the name of the output: of each product with a float32 matrix that lies beside the graph, that."""
    import onnx

    tables = {
        tensor.name: tensor
        for tensor in graph.initializer
        if (len(tensor.dims), tensor.data_type, tensor.data_location)
        == (2, onnx.TensorProto.FLOAT, onnx.TensorProto.EXTERNAL)
    }
    shapes = {tensor.name: list(tensor.dims) for tensor in graph.initializer}
    turned = {node.output[0]: node.input[0] for node in graph.node if node.op_type == "Transpose"}
    found = {}
    for node in graph.node:
        if node.op_type not in ("MatMul", "Gemm"):
            continue
        across = not _attributes(node).get("transB", 0)
        name = node.input[1]
        if name not in tables:
            name, across = turned.get(name, ""), not across
        if name in tables and _plain(node):
            matrix = _Matrix(tables[name], across)
            # What is added must be a number for each output, as the other product wants it.
            if _block(matrix) and all(shapes.get(bias) == [matrix.sides[0]] for bias in node.input[2:]):
                found[node.output[0]] = matrix
    return found


def _block(matrix: _Matrix) -> int:
    """The largest block that its width is a multiple of; 0 for none."""
    return next((block for block in _BLOCKS if matrix.sides[1] % block == 0), 0)


def _plain(node: Any) -> bool:
    """Whether a product is of the two as they are."""
    said = _attributes(node)
    return said.get("alpha", 1.0) == said.get("beta", 1.0) == 1.0 and not said.get("transA", 0)


def _attributes(node: Any) -> dict[str, Any]:
    import onnx

    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def _of_shortlist(folder: Path) -> tuple[Any, Any] | None:
    """The rounded output layer that is there already."""
    import onnx

    if not (folder / bundle.SHORTLIST).is_file():
        return None
    there = onnx.load(str(folder / bundle.SHORTLIST), load_external_data=False).graph.initializer
    named = {tensor.name: tensor for tensor in there}
    rounded, steps = (named[name] for name in shortlist.ROUNDED)
    return rounded, steps


def _product(node: Any, tensors: tuple[Any, Any]) -> Any:
    from onnx import helper

    inputs = [node.input[0], *(tensor.name for tensor in tensors)]
    if len(node.input) > 2:
        inputs += ["", "", node.input[2]]
    return helper.make_node(
        "MatMulNBits", inputs, list(node.output), domain="com.microsoft", **rounding.attributes(tensors[0])
    )


def _forget_unused(graph: Any, replaced: Collection[str]) -> None:
    """Take out the float32 matrices that nothing reads any more."""
    while True:
        used = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
        idle = [node for node in graph.node if node.op_type == "Transpose" and node.output[0] not in used]
        if not idle:
            break
        for node in idle:
            graph.node.remove(node)
    for tensor in [tensor for tensor in graph.initializer if tensor.name in replaced and tensor.name not in used]:
        graph.initializer.remove(tensor)
