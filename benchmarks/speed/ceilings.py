"""What the device can do at most: matrix products and copies, to hold everything else against."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting

FACTS = {
    "title": "Ceilings of the device",
    "model": "none",
    "data": "square matrices, of bf16 on a GPU and of fp32 on a CPU; a copy within the device's memory, read and write "
    "counted",
}
_HERE = "benchmarks.speed.ceilings"
_TIMES = 20  # in a run, so that the start of the first is little of it


def contests(setting: Setting) -> Iterator[Contest]:
    gpu = setting.device == "cuda"
    side, numbers = (64, 1_000) if setting.quick else (8192, 2**30) if gpu else (1536, 2**26)
    # What torch makes of a processor is not always all that it has.
    others = [] if gpu else [Contestant("ONNX Runtime", f"{_HERE}:product_of_onnxruntime", {"size": side})]
    for name, function, size, items, unit, more in (
        (f"{'bf16' if gpu else 'fp32'} matrix product", "product", side, 2 * side**3 * _TIMES / 1e12, "TFLOP", others),
        ("copy", "copy", numbers, 2 * 4 * numbers * _TIMES / 1e12, "TB", []),
    ):
        given = {"size": size, "device": setting.device}
        yield Contest(name, items, unit, [Contestant("torch", f"{_HERE}:{function}", given), *more], told=False)


def product(size: int, device: str) -> Ready:
    import torch

    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    found = torch.empty_like(left)

    def run() -> Answer:
        for _ in range(_TIMES):
            torch.mm(left, right, out=found)
        return _waited(found)

    return Ready(run)


def product_of_onnxruntime(size: int) -> Ready:
    """With the right one laid out beforehand, as the weights of a graph are."""
    import numpy as np
    import onnx
    import onnxruntime
    from onnx import helper

    left, right = np.random.default_rng(0).standard_normal((2, size, size), dtype=np.float32)
    given, found = (helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, (size, size)) for name in ("x", "y"))
    node, weights = helper.make_node("MatMul", ["x", "w"], ["y"]), onnx.numpy_helper.from_array(right, "w")
    model = helper.make_model(
        helper.make_graph([node], "product", [given], [found], [weights]),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=8,
    )  # fmt: skip
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])

    def run() -> Answer:
        for _ in range(_TIMES):
            (made,) = session.run(None, {"x": left})
        assert np.isfinite(made[0, 0])
        return Answer()

    return Ready(run)


def copy(size: int, device: str) -> Ready:
    """size: float32 numbers."""
    import torch

    source = torch.ones(size, device=device)
    target = torch.empty_like(source)

    def run() -> Answer:
        for _ in range(_TIMES):
            target.copy_(source)
        return _waited(target)

    return Ready(run)


def _waited(found: object) -> Answer:
    """Reading a number waits for all that was begun."""
    assert found.flatten()[0].isfinite().item()  # type: ignore[attr-defined]
    return Answer()
