"""Contestants that need nothing, for the contest itself."""

from __future__ import annotations

from itertools import count

from benchmarks.speed.answers import Answer
from benchmarks.speed.contestant import Ready

NUMBERS = ((0.1, 0.9), (0.7, 0.3), (0.4, 0.6))


def right(seconds: float = 0.002, shift: float = 0.0) -> Ready:
    """It says itself how long it took, and prints what libraries print."""

    def run() -> Answer:
        print('{"a": "line on standard output"}')
        return Answer(["b", "a", "b"], [[a + shift, b] for a, b in NUMBERS], {"seconds": seconds, "loss": 0.5})

    return Ready(run)


def another_label() -> Ready:
    return Ready(lambda: Answer(["b", "b", "b"], NUMBERS))


def turns_wrong() -> Ready:
    runs = count()
    return Ready(lambda: Answer(["b", "a", "b"], [[a, b + 0.1 * (next(runs) > 5)] for a, b in NUMBERS]))


def alike() -> Ready:
    return Ready(lambda: Answer(numbers=[(0.5, 0.5)] * 3))


def fails() -> Ready:
    raise ValueError("no such model")


def dies() -> Ready:
    runs = count()

    def run() -> Answer:
        if next(runs):
            raise MemoryError("no memory is left")
        return Answer(["b", "a", "b"], NUMBERS)

    return Ready(run)


def holds(megabytes: int, first: int) -> Ready:
    """Takes memory in its first run, of which a later one's peak must know nothing, and other memory in each."""
    runs = count()

    def run(given: int) -> Answer:
        taken = bytearray((first if next(runs) == 0 else megabytes) * 1_000_000)
        taken[::4096] = b"\1" * len(taken[::4096])
        return Answer([given, len(taken) // len(taken), 3])

    return Ready(run, before=lambda: 2)


def learns(proof: float = 0.0) -> Ready:
    """Proves itself first, by numbers that far off; its runs differ."""
    runs = count()
    return Ready(
        lambda: Answer(numbers=[[0.1 * next(runs)] * 2] * 3, figures={"seconds": 0.1}),
        proof=lambda: Answer(["a", "b", "b"], [[a + proof, b] for a, b in NUMBERS]),
    )
