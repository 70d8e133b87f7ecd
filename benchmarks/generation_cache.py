"""What the cache of a language model's bundle is worth, and its shortlists: GPT-2 at its full size, side by side.

    python benchmarks/generation_cache.py            # some two minutes on two cores; writes results
    python benchmarks/generation_cache.py --quick    # distilgpt2, shows that it runs, writes nothing

Weights are random, which changes no time. All ways run the same graph by the same loop and take turns: with its cache,
token by token, and shortlists of what may be the most probable; with the cache, and all logits of each token; and
without, where the whole text is read again for each token, as bundles did before they had one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, environment

import zoo
from benchmarks.speed.command import processor
from zoo.modalities.base import Array
from zoo.tasks.generation import Generated, GenerateOptions, generate
from zoo.tasks.rerunning import RerunStepper

RESULT = RESULTS / "generation_cache.json"
PROMPTS = (1, 8)
WAYS = ("shortlist", "cache", "neither")


def prompts(count: int, longest: int) -> list[Array]:
    """Ragged ones: of the longest length down to a fourth of it."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(longest, longest // 4, count).astype(int)
    return [rng.integers(300, 50_000, length) for length in lengths]


def written(bundle: Any, texts: list[Array], tokens: int, way: str) -> tuple[float, list[Generated]]:
    """Seconds, and what was generated. No token ends a text, so that all are of one length."""
    ways = nullcontext(RerunStepper(bundle.session.run, pad_id=0)) if way == "neither" else bundle.stepping()
    bundle.session.shortlist.refuted = way != "shortlist"
    options = GenerateOptions(max_new_tokens=tokens, prompt_lookup_num_tokens=0)
    with ways as stepper:
        start = time.perf_counter()
        made = generate(texts, stepper, options, eos_id=None, pad_id=0, decode=str)
        return time.perf_counter() - start, made


def measure(bundle: Any, count: int, *, longest: int, tokens: int, rounds: int) -> dict[str, Any]:
    texts = prompts(count, longest)
    for way in WAYS:
        written(bundle, texts, 3, way)
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    texts_of: dict[str, list[Generated]] = {}
    for turn in range(rounds):
        for way in WAYS if turn % 2 else reversed(WAYS):
            took, texts_of[way] = written(bundle, texts, tokens, way)
            seconds[way].append(took)

    def times(quicker: str, slower: str) -> list[float]:
        return sorted(s / q for q, s in zip(seconds[quicker], seconds[slower], strict=True))

    pairs = {"cache": ("cache", "neither"), "shortlist": ("shortlist", "cache")}
    return {
        "prompts": count,
        "prompt_tokens": [len(text) for text in texts],
        "new_tokens": tokens,
        "texts_the_same": sum(len(set(each)) == 1 for each in zip(*texts_of.values(), strict=True)),
        "seconds": seconds,
        "tokens_per_second": {way: count * tokens / statistics.median(took) for way, took in seconds.items()},
        "times_as_quick": {
            name: {"median": statistics.median(found), "min": found[0], "max": found[-1]}
            for name, found in ((name, times(*pair)) for name, pair in pairs.items())
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer tokens; writes nothing")
    quick = parser.parse_args().quick
    name = "distilgpt2" if quick else "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        bundle = zoo.load(name, weights=None, device="cpu", seed=0).export(Path(folder) / "a.bundle")
        sizes = {"longest": 16, "tokens": 4, "rounds": 1} if quick else {"longest": 32, "tokens": 16, "rounds": 11}
        rows = [measure(bundle, count, **sizes) for count in PROMPTS]
        size = (bundle.folder / "model.onnx").stat().st_size
    result = {
        **environment(),
        "processor": processor(),
        "onnxruntime": version("onnxruntime-gpu"),
        # Above the number of cores the machine had other work, and the rounds differ.
        "load_average": os.getloadavg()[0],
        "model": name,
        "graph_bytes": size,
        "rows": rows,
    }
    print(json.dumps(result, indent=1))
    if not quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
