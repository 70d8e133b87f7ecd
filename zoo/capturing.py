"""A torch module as the program that the ONNX exporter translates, traced once.

`torch.onnx.export` traces a module, and then traces the outcome twice more, to write in other operators what ONNX has
none for, and to take out what writes into its own input. Most models need little of either. So here those few
operators are replaced where they stand, and the further traces are left to programs that need them for something else:
the method that makes them, `ExportedProgram.run_decompositions`, is the one that is put in place of here.
"""

from __future__ import annotations

import operator
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import torch
from torch.fx.experimental import _config as shapes_config

if TYPE_CHECKING:
    from collections.abc import Container

_aten = torch.ops.aten
# Outputs that share memory with an input, and are as good as a copy where nothing is written into either.
_VIEWS = frozenset(
    {
        _aten.alias.default, _aten.broadcast_to.default, _aten.chunk.default, _aten.contiguous.default,
        _aten.detach.default, _aten.expand.default, _aten.expand_as.default, _aten.flatten.using_ints,
        _aten.narrow.default, _aten.permute.default, _aten.reshape.default, _aten.select.int, _aten.slice.Tensor,
        _aten.split.Tensor, _aten.split_with_sizes.default, _aten.squeeze.default, _aten.squeeze.dim, _aten.t.default,
        _aten.transpose.int, _aten.unbind.int, _aten.unflatten.int, _aten.unsqueeze.default, _aten.view.default,
        _aten.view_as.default,
    }
)  # fmt: skip
# What is made of other operators may give its own input without saying so; these do not.
_FRESH = frozenset(
    {
        _aten.batch_norm.default, _aten.conv1d.default, _aten.conv2d.default, _aten.group_norm.default,
        _aten.layer_norm.default, _aten.linear.default, _aten.matmul.default,
    }
)  # fmt: skip
# The exporter takes them out by itself.
_ASSERTIONS = frozenset(
    {
        _aten.sym_constrain_range_for_size.default, _aten._assert_async.default, _aten._assert_async.msg,
        _aten._assert_scalar.default, _aten._assert_tensor_metadata.default,
    }
)  # fmt: skip
_CASTS = frozenset({_aten.to.dtype, _aten.to.dtype_layout, _aten.to.device, _aten.to.other})
_SHAPES = frozenset({_aten.reshape.default, _aten.view.default, _aten.expand.default})
_SAME = {
    _aten.__and__.Tensor: _aten.bitwise_and.Tensor,
    _aten.__or__.Tensor: _aten.bitwise_or.Tensor,
    _aten.max.other: _aten.maximum.default,
    _aten.min.other: _aten.minimum.default,
}
# How many of the last sides they pool.
_POOLS = {_aten.adaptive_avg_pool1d.default: 1, _aten.adaptive_avg_pool2d.default: 2}


def capture(
    module: torch.nn.Module, inputs: tuple[torch.Tensor, ...], dynamic_shapes: Any
) -> torch.export.ExportedProgram | torch.nn.Module:
    """The program of a module, for `torch.onnx.export`; or the module itself, where the exporter has to find another
    way into it."""
    try:
        # As the exporter does it: nothing is taken for granted of a side that may be 1 another time.
        with shapes_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
            program = torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes, strict=False)
    # Of many kinds. Where there is no other way either, the exporter says so.
    except Exception:
        return module
    program.run_decompositions = partial(_decomposed, program)
    return program


def _decomposed(program: torch.export.ExportedProgram, table: dict[Any, Any]) -> torch.export.ExportedProgram:
    """table: the operators that ONNX has none for, as `run_decompositions` takes it."""
    graph = program.graph
    # In this order: `relu_` of what a dropout gave writes into what it was given.
    for change in (_pass_on, _write_elsewhere, _replace):
        for node in [node for node in graph.nodes if node.op == "call_function"]:
            change(node)
    graph.eliminate_dead_code()
    for spec, given in zip(program.graph_signature.output_specs, graph.output_node().args[0], strict=True):
        if isinstance(given, torch.fx.Node):
            spec.arg.name = given.name
    program.graph_module.recompile()
    if all(_is_translatable(node, table) for node in graph.nodes):
        return program
    again: torch.export.ExportedProgram = torch.export.ExportedProgram.run_decompositions(program, table)
    return again


def _is_translatable(node: Any, table: Container[Any]) -> bool:
    """Whether the exporter takes an operator as it is."""
    target = node.target
    if node.op != "call_function":
        return node.op in ("placeholder", "output")
    if not isinstance(target, torch._ops.OpOverload):
        # Python's own, of sizes. Another of torch's holds graphs of its own.
        return not isinstance(target, torch._ops.OperatorBase)
    if target in _VIEWS or target in _ASSERTIONS:
        return True
    # What is made of others is in the table, too, if it can be had whole; of what can't be it says nothing.
    whole = not _is_composite(target) or target in _wholes()
    return whole and target not in table and not target._schema.is_mutable and not _shares(target)


@cache
def _wholes() -> frozenset[Any]:
    return frozenset(torch.export.default_decompositions())


def _is_composite(target: torch._ops.OpOverload) -> bool:
    return bool(target.has_kernel_for_dispatch_key(torch._C.DispatchKey.CompositeImplicitAutograd))


def _shares(target: torch._ops.OpOverload) -> bool:
    """Whether an output may share memory with an input, by what the operator says of itself."""
    return any(argument.alias_info is not None for argument in target._schema.arguments)


# ------------------------------------------------------------------------------------------------------- the changes


def _pass_on(node: Any) -> None:
    """What gives its input as it is goes."""
    given = node.args[0] if node.args else None
    before = given.meta.get("val") if isinstance(given, torch.fx.Node) else None
    if isinstance(before, torch.Tensor) and _gives_its_input(node, before, node.meta.get("val")):
        node.replace_all_uses_with(given)
        node.graph.erase_node(node)


def _gives_its_input(node: Any, before: torch.Tensor, after: Any) -> bool:
    if node.target in _CASTS:
        told_to_copy = any(item is True for item in (*node.args, *node.kwargs.values()))
        return before.dtype == after.dtype and before.device == after.device and not told_to_copy
    if node.target in _SHAPES:
        return _sides(before) == _sides(after)
    return node.target is _aten.detach_.default or (node.target is _aten.dropout.default and not node.args[2])


def _sides(value: torch.Tensor) -> list[str]:
    """Those of any length by their names: to compare such numbers would bind them."""
    return [str(side) for side in value.shape]


def _write_elsewhere(node: Any) -> None:
    """`relu_(x)` as `relu(x)`, which stands for `x` from there on: where no view of `x` could tell."""
    other = _elsewhere(node.target)
    if other is None or not _is_fresh(given := node.args[0]):
        return
    places = {user: place for place, user in enumerate(node.graph.nodes)}
    earlier = [user for user in given.users if places[user] < places[node]]
    if all(_is_fresh(user) for user in earlier):
        node.target = other
        given.replace_all_uses_with(node, lambda user: places[user] > places[node])


def _elsewhere(target: Any) -> torch._ops.OpOverload | None:
    """`relu` for `relu_`: what gives what the other writes."""
    if not isinstance(target, torch._ops.OpOverload):
        return None
    space, _, name = target._schema.name.partition("::")
    arguments = target._schema.arguments
    if space != "aten" or not name.endswith("_") or name.endswith("__") or arguments[0].alias_info is None:
        return None
    found = getattr(getattr(_aten, name.removesuffix("_"), None), target._overloadname, None)
    same = found is not None and [item.name for item in found._schema.arguments] == [item.name for item in arguments]
    return found if same and sum(item.alias_info is not None for item in arguments) == 1 else None


def _is_fresh(node: Any) -> bool:
    """Whether a value is one tensor, in memory of its own."""
    target = node.target if isinstance(node, torch.fx.Node) and node.op == "call_function" else None
    return (
        isinstance(target, torch._ops.OpOverload)
        and not _shares(target)
        and (target in _FRESH or not _is_composite(target))
        and isinstance(node.meta.get("val"), torch.Tensor)
    )


def _replace(node: Any) -> None:
    """An operator of the same answer that ONNX has one for, where there is one."""
    target = node.target
    if target in _SAME:
        node.target = _SAME[target]
    elif target in _CASTS:
        given = node.args[0]
        if isinstance(given, torch.fx.Node) and given.meta["val"].device == node.meta["val"].device:
            node.target, node.args, node.kwargs = _aten._to_copy.default, (given,), {"dtype": node.meta["val"].dtype}
    elif target in _POOLS and all(side == 1 for side in node.args[1]):
        sides = [-1 - place for place in range(_POOLS[target])]
        node.target, node.args = _aten.mean.dim, (node.args[0], sides, True)
    elif target is _aten.batch_norm.default and not node.args[5]:
        with node.graph.inserting_before(node):
            made = node.graph.call_function(
                _aten._native_batch_norm_legit_no_training.default, (*node.args[:5], *node.args[6:8])
            )
        value = node.meta["val"]
        made.meta = {**node.meta, "val": (value, value.new_empty(0), value.new_empty(0))}
        node.target, node.args = operator.getitem, (made, 0)
    elif target is _aten._weight_norm.default:
        _weigh(node)
    elif target is _aten.scaled_dot_product_attention.default:
        _attend_in_rows(node)


def _put(node: Any, target: torch._ops.OpOverload, *args: Any) -> Any:
    """A further operator, before a node and with its origin."""
    with node.graph.inserting_before(node):
        made = node.graph.call_function(target, args)
    known = [item.meta["val"] if isinstance(item, torch.fx.Node) else item for item in args]
    made.meta = {**node.meta, "val": target(*known)}
    return made


def _weigh(node: Any) -> None:
    """A weight of its direction and its length, by operators of one step each."""
    direction, length = node.args[:2]
    kept = node.args[2] if len(node.args) > 2 else 0
    sides = [side for side in range(direction.meta["val"].dim()) if side != kept]
    squares = _put(node, _aten.sum.dim_IntList, _put(node, _aten.mul.Tensor, direction, direction), sides, True)
    scale = _put(node, _aten.div.Tensor, length, _put(node, _aten.sqrt.default, squares))
    node.target, node.args = _aten.mul.Tensor, (direction, scale)


def _attend_in_rows(node: Any) -> None:
    """Attention within windows, `[B, windows, heads, T, D]`: ONNX's has four sides, so windows become rows."""
    parts, masked = node.args[:3], len(node.args) > 3 and node.args[3] is not None
    shapes = [tuple(part.meta["val"].shape) for part in parts]
    known = all(isinstance(side, int) for shape in shapes for side in shape[1:])
    if masked or not known or any(len(shape) < 5 for shape in shapes):
        return
    rows = [
        _put(node, _aten.reshape.default, part, [-1, *shape[-3:]]) for part, shape in zip(parts, shapes, strict=True)
    ]
    with node.graph.inserting_before(node):
        made = node.graph.call_function(node.target, (*rows, *node.args[3:]), node.kwargs)
    value = node.meta["val"]
    made.meta = {**node.meta, "val": value.reshape(-1, *value.shape[-3:])}
    node.target, node.args, node.kwargs = _aten.reshape.default, (made, [-1, *value.shape[1:]]), {}
