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
    "data": "square bf16 matrices; a copy within the device's memory, read and write counted",
}
_HERE = "benchmarks.speed.ceilings"
_TIMES = 20  # in a run, so that the start of the first is little of it


def contests(setting: Setting) -> Iterator[Contest]:
    side, numbers = (64, 1_000) if setting.quick else (8192, 2**30)
    for name, function, size, items, unit in (
        ("bf16 matrix product", "product", side, 2 * side**3 * _TIMES / 1e12, "TFLOP"),
        ("copy", "copy", numbers, 2 * 4 * numbers * _TIMES / 1e12, "TB"),
    ):
        given = {"size": size, "device": setting.device}
        yield Contest(name, items, unit, [Contestant("torch", f"{_HERE}:{function}", given)], told=False)


def product(size: int, device: str) -> Ready:
    import torch

    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    found = torch.empty_like(left)

    def run() -> Answer:
        for _ in range(_TIMES):
            torch.mm(left, right, out=found)
        return _waited(found)

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
