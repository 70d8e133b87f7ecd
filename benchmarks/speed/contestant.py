"""One contestant in a process of its own: `python -m benchmarks.speed.contestant MODULE:FUNCTION ARGUMENTS`.

It loads, answers once, and then runs once for every line on standard input. What it has to say goes as lines of JSON to
what was standard output; whatever libraries print there goes to standard error.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.speed.answers import Answer


@dataclass(frozen=True, slots=True)
class Ready:
    """What a contestant's function gives back. before: what each run needs, outside of its time. proof: what it answers
    at first instead, where no two runs are alike."""

    run: Callable[..., Answer]
    before: Callable[[], Any] | None = None
    proof: Callable[[], Answer] | None = None


def main() -> None:
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def say(**message: Any) -> None:
        channel.write(json.dumps(message) + "\n")
        channel.flush()

    module, _, function = sys.argv[1].partition(":")
    ready: Ready = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
    say(**measured(first(ready)))
    for _ in sys.stdin:
        say(**measured(ready))


def first(ready: Ready) -> Ready:
    """What is compared before anything is timed."""
    return ready if ready.proof is None else Ready(ready.proof)


def measured(ready: Ready) -> dict[str, Any]:
    """The answer of one run, its seconds, and the megabytes that the process held at most during it."""
    given = () if ready.before is None else (ready.before(),)
    gc.collect()
    reset_peak()
    start = time.perf_counter()
    answer = ready.run(*given)
    seconds = time.perf_counter() - start
    return {**answer.to_dict(), "figures": {"seconds": seconds, "peak_mb": peak(), **answer.figures}}


def reset_peak() -> None:
    """Of resident memory, as Linux counts it; elsewhere the peak stays that of the whole process."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def peak() -> float:
    """Megabytes."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    # The functions that it calls make this module's classes, not those of __main__.
    from benchmarks.speed import contestant

    contestant.main()
