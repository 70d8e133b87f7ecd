"""`python -m benchmarks cpu` and `gpu`: every work's contests, a table as they end, and a file of figures a work.

A full run writes `benchmarks/results/speed_WORK.json` (of the GPU `speed_gpu_WORK.json`, of another CPU
`speed_intel_WORK.json`, by its name) and docs/benchmarks.md; `--quick` writes nothing, and shows that all of it runs.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.quality.common import RESULTS, environment
from benchmarks.speed.contest import hold
from benchmarks.speed.table import shown
from benchmarks.speed.work import Setting

# By the half that runs them; each is a module here, with FACTS and contests().
WORKS = {
    "cpu": (
        "ceilings", "text", "images", "audio", "embed", "generate", "finetune", "finetune_images", "finetune_audio",
        "cold_start", "export_time", "growth", "serving",
    ),
    "gpu": (
        "ceilings", "training", "inference", "text", "images", "audio", "embed", "generate", "finetune",
        "finetune_images", "finetune_audio",
    ),
}  # fmt: skip
SERVED = "serving"
# Other CPUs, by what their files are named by, and what the page calls them.
OTHERS = {"intel": "On an Intel Xeon with AMX", "zen4": "On an AMD EPYC of the fourth generation (Zen 4)"}
_MORE_PACKAGES = ("onnxruntime", "onnxruntime-gpu", "torchvision", "tokenizers", "soundfile")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("half", choices=WORKS, help="which device it is measured on")
    parser.add_argument("--only", type=lambda text: text.split(","), metavar="WORK,...", help="these works alone")
    parser.add_argument("--rounds", type=int, default=5, help="each contestant is timed so many times, in turn")
    parser.add_argument("--quick", action="store_true", help="tiny networks, one round; writes nothing")
    parser.add_argument(
        "--other", choices=OTHERS, help="the half of the CPU, kept beside that of the first CPU, by this name"
    )
    parser.add_argument("--peers", type=Path, help="Python of benchmarks/speed/requirements.txt")
    parser.add_argument(
        "--servers",
        type=Path,
        help=f"Python of benchmarks/serving/requirements.txt: for {SERVED}, which is left out without it",
    )
    options = parser.parse_args(given)
    works = WORKS[options.half]
    unknown = [name for name in options.only or () if name not in works]
    if unknown:
        parser.error(f"--only: there is no work {', '.join(map(repr, unknown))}; there are {', '.join(works)}")
    if options.rounds < 5 and not options.quick:
        parser.error(f"--rounds is {options.rounds}; a median needs 5 or more, and --quick shows that it runs")
    if options.other and options.half != "cpu":
        parser.error("--other: there is another CPU, and no other GPU")
    if SERVED in (options.only or ()) and options.servers is None:
        parser.error(f"--only {SERVED} needs --servers: the Python of benchmarks/serving/requirements.txt")
    options.only = options.only or [name for name in works if name != SERVED or options.servers is not None]
    return options


def file_of(section: str, work: str) -> str:
    """The name of a work's file of results, by half, or by the name of another CPU."""
    return f"speed_{work}.json" if section == "cpu" else f"speed_{section}_{work}.json"


def measure(name: str, setting: Setting, rounds: int) -> dict[str, Any]:
    """All contests of a work, with what they were held on."""
    work = importlib.import_module(f"benchmarks.speed.{name}")
    before, begun = os.getloadavg()[0], time.perf_counter()
    contests = []
    for contest in work.contests(setting):
        contests.append(hold(contest, rounds, tell))
        print(shown(contests[-1]), flush=True)
    return {
        **work.FACTS,
        **surroundings(setting),
        **(work.more(setting) if hasattr(work, "more") else {}),
        # Above one before it began the machine had other work.
        "load_average": {"before": before, "after": os.getloadavg()[0]},
        "rounds": rounds,
        "minutes": (time.perf_counter() - begun) / 60,
        "contests": contests,
    }


def surroundings(setting: Setting) -> dict[str, Any]:
    found = environment()
    more = {name: number for name in _MORE_PACKAGES if (number := _version(name))}
    found["versions"] = {**found["versions"], **more}
    named = processor()
    device = named if setting.device == "cpu" else found["device"]
    return {**found, "device": device, "processor": named, "threads": _threads()}


def _threads() -> int:
    """Of a contestant, whose environment says nothing of threads, so that it takes all cores."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor() -> str:
    """As it names itself."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "cpu")


def _needs_cuda() -> None:
    import torch

    if not torch.cuda.is_available():
        raise SystemExit(
            "There is no CUDA device here, and the GPU half measures nothing else. `zoo doctor` looks why."
        )


def tell(line: str) -> None:
    print(f"  {line}"[:200], file=sys.stderr, flush=True)


def main(given: Sequence[str] | None = None) -> None:
    options = arguments(given)
    if options.half == "gpu":
        _needs_cuda()
    for name in options.only:
        with tempfile.TemporaryDirectory(prefix="zoo-speed-") as folder:
            setting = Setting(
                Path(folder), quick=options.quick, device="cpu" if options.half == "cpu" else "cuda",
                peers=options.peers and options.peers.absolute(),
                servers=options.servers and options.servers.absolute(),
            )  # fmt: skip
            found = measure(name, setting, 1 if options.quick else options.rounds)
        if not options.quick:
            path = RESULTS / file_of(options.other or options.half, name)
            path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if not options.quick:
        from benchmarks.speed import page

        page.write()
