"""What a process does about the memory of a batch, in processes of their own: it is decided once, and for good."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from zoo.memory import _OWN

# Pages asked for by the last ten of thirty rounds, each of which takes 32 MB twice, writes it and gives it back.
FAULTS = """
import resource
import torch
from zoo import memory

def round():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    one = torch.ones(8_000_000)
    other = one * 2
    del one, other
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

kept = memory.keep()
print(kept, sum([round() for _ in range(30)][20:]))
"""


def told(**environment: str) -> tuple[str, int]:
    others = {name: value for name, value in os.environ.items() if name not in _OWN}
    found = subprocess.run(
        [sys.executable, "-c", FAULTS], env={**others, **environment}, capture_output=True, text=True, check=True
    )
    kept, faults = found.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc, whose option it is")
def test_a_second_batch_takes_the_memory_of_the_first() -> None:
    kept, faults = told()
    assert kept == "True"
    assert faults < 10_000
    # A choice of the user's own stays: both give large pieces back at once.
    for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
        kept, faults = told(**{name: "131072"})
        assert kept == "False"
        assert faults > 100_000


def test_another_allocator_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from zoo import memory

    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert memory.keep.__wrapped__() is False
