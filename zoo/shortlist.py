"""`shortlist.onnx`, written: a language model's graph that can find the most probable token without all logits.

It does all that `model.onnx` does, by the same operators on the same weights, and this besides.

The weights of the output layer, int8 in blocks of 32, multiply the hidden state x, which the kernel rounds to int8 by
blocks, too. A logit is off by no more than the sum over blocks of

    s / 2 * |x|_1  +  |w|_1 * max |x| / 254

s: what a step of the weight's int8 stands for; w: the rounded weights of that token and block. The largest by the logit
and what it may be short of are candidates; the next one's sum is what no other logit is above. Those of the candidates
are computed in float32, with rows of the weights that the model's own graph has.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from zoo import bundle, rounding
from zoo.rounding import STEPS
from zoo.tasks import caching

if TYPE_CHECKING:
    from zoo.modalities.base import Array

BLOCK = 32
LENGTH = 128  # of a shortlist; of random weights, whose logits are close to each other, 64 were enough
# Weights of an output layer, and the share of its model's, from which on a shortlist is worth its bytes.
LEAST, _SHARE = 8_000_000, 0.05
_SLACK = 1.01  # for float32 in the sums themselves
_OURS = "shortlist."  # names within the graph, among those of the exporter
ROUNDED = (_OURS + "rounded", _OURS + "steps")


def worth(head: int, parameters: int) -> bool:
    """Whether an output layer of so many weights is so large a part of its model that this one is quicker with it."""
    return head >= max(LEAST, _SHARE * parameters)


def write(folder: Path) -> bundle.Graph | None:
    """From a `model.onnx` with the output `hidden [B, T, H]`, which is taken from it. Returns what the graph takes and
    gives besides. None, and no file, where logits are not the product of that and a matrix `[V, H]` outside the graph.
    """
    import onnx

    model = onnx.load(str(folder / bundle.GRAPH), load_external_data=False)
    shown = next(value for value in model.graph.output if value.name == "hidden")
    model.graph.output.remove(shown)
    head = _head_of(model.graph, folder)
    onnx.save(model, str(folder / bundle.GRAPH))
    if head is None:
        return None
    beside = folder / f"{bundle.SHORTLIST}.data"
    with beside.open("wb") as file:
        found = rounding.write(rounding.mapped(head, folder), file, BLOCK)
    tensors = rounding.tensors(found, ROUNDED, beside.name)
    _extend(model.graph, head.name, rounding.attributes(tensors[0]), found.spread)
    model.graph.initializer.extend(tensors)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(model, str(folder / bundle.SHORTLIST))
    return bundle.Graph(
        name="shortlist",
        file=bundle.SHORTLIST,
        inputs=bundle.SHORTLIST_INPUTS,
        outputs=bundle.SHORTLIST_OUTPUTS,
    )


def _head_of(graph: Any, folder: Path) -> Any:
    """The float32 matrix `[V, H]`, outside the graph, whose transpose makes its logits; None where there is none."""
    import onnx

    made = {name: node for node in graph.node for name in node.output}
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    last = made.get("logits")
    if last is None or last.op_type != "MatMul":
        return None
    turned = made.get(last.input[1])
    head = tensors.get(last.input[1] if turned is None or turned.op_type != "Transpose" else turned.input[0])
    if head is None or head.data_type != onnx.TensorProto.FLOAT or head.data_location != onnx.TensorProto.EXTERNAL:
        return None
    if head.dims[turned is not None] % BLOCK:
        return None
    if turned is None:
        if sum(head.name in node.input for node in graph.node) > 1:
            return None
        _turn(graph, last, head, folder)
    return head


def _turn(graph: Any, last: Any, head: Any, folder: Path) -> None:
    """Weights `[H, V]`, as the exporter writes those that nothing else uses, token by token: their rows are read."""
    import onnx

    there = rounding.mapped(head, folder, mode="r+")
    there.reshape(-1)[:] = np.ascontiguousarray(there.T).reshape(-1)
    there.flush()
    head.dims.reverse()
    last.input[1] = f"{head.name}.T"
    turned = onnx.helper.make_node("Transpose", [head.name], [last.input[1]], perm=[1, 0])
    graph.node.insert(list(graph.node).index(last), turned)


def _extend(graph: Any, weights: str, product: dict[str, Any], spread: Array) -> None:
    """Put shortlists of the places that are asked for into a graph; where that is none they cost nothing."""
    from onnx import helper, numpy_helper

    rows, width = product["N"], product["K"]
    count = min(LENGTH, rows - 1)
    constants = {
        "flat": np.array([-1, width], dtype=np.int64),
        "blocks": np.array([-1, width // BLOCK, BLOCK], dtype=np.int64),
        "last": np.array([-1], dtype=np.int64),
        "none": np.int64(0),
        "one_more": np.array([count + 1], dtype=np.int64),
        "parts": np.array([count, 1], dtype=np.int64),
        "half": np.float32(_SLACK / 2),
        "spread": (spread * np.float32(_SLACK / (2 * STEPS))).astype(np.float32),
        "no_tokens": np.zeros((0, 0), dtype=np.int64),
        "no_logits": np.zeros((0, 0), dtype=np.float32),
        "no_rest": np.zeros(0, dtype=np.float32),
    }

    def node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> Any:
        taken, given = ([name if name in theirs else _OURS + name for name in names] for names in (inputs, outputs))
        return helper.make_node(operator, taken, given, **attributes)

    theirs = {"hidden", weights, caching.LISTED, *caching.LISTS}
    listing = [
        node("Gather", ["hidden", caching.LISTED], ["wanted"], axis=1),
        node("Reshape", ["wanted", "flat"], ["states"]),
        node("MatMulNBits", ["states", "rounded", "steps"], ["about"], domain="com.microsoft", **product),
        node("Reshape", ["states", "blocks"], ["blockwise"]),
        node("Abs", ["blockwise"], ["absolute"]),
        node("ReduceSum", ["absolute", "last"], ["sums"], keepdims=0),
        node("ReduceMax", ["absolute", "last"], ["largest"], keepdims=0),
        node("Mul", ["sums", "half"], ["by_weights"]),
        node("Mul", ["largest", "spread"], ["by_states"]),
        node("Add", ["by_weights", "by_states"], ["by_step"]),
        node("Gemm", ["by_step", "steps", "about"], ["highest"], transB=1),
        node("TopK", ["highest", "one_more"], ["reach", "order"], axis=-1),
        node("Split", ["reach", "parts"], ["theirs_at_most", "next"], axis=-1),
        node("Squeeze", ["next", "last"], ["least"]),
        node("Split", ["order", "parts"], ["tokens", "next_token"], axis=-1),
        node("Gather", [weights, "tokens"], ["matrices"]),
        node("Unsqueeze", ["states", "last"], ["column"]),
        node("MatMul", ["matrices", "column"], ["products"]),
        node("Squeeze", ["products", "last"], ["logits"]),
    ]  # fmt: skip
    value = helper.make_tensor_value_info
    given = [(item.name, _kind(item.dtype), item.shape) for item in bundle.SHORTLIST_OUTPUTS]
    branches = []
    for name, nodes, ends in (
        ("listing", listing, ("tokens", "logits", "least")),
        ("nothing", [node("Identity", [f"no_{end}"], [f"no_{end}_at_all"]) for end in ("tokens", "logits", "rest")],
         ("no_tokens_at_all", "no_logits_at_all", "no_rest_at_all")),
    ):  # fmt: skip
        outputs = [value(_OURS + end, kind, None) for end, (_, kind, _) in zip(ends, given, strict=True)]
        branches.append(helper.make_graph(nodes, name, [], outputs))
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), _OURS + name) for name, array in constants.items()
    )
    graph.node.extend(
        [
            node("Size", [caching.LISTED], ["size"]),
            node("Greater", ["size", "none"], ["any"]),
            node("If", ["any"], caching.LISTS, then_branch=branches[0], else_branch=branches[1]),
        ]
    )
    graph.input.extend(value(item.name, _kind(item.dtype), item.shape) for item in bundle.SHORTLIST_INPUTS)
    graph.output.extend(value(*each) for each in given)


def _kind(dtype: str) -> int:
    from onnx import helper

    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
