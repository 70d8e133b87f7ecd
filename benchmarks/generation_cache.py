"""What the cache of a language model's bundle is worth: GPT-2 at its full size, with it and without, side by side.

    python benchmarks/generation_cache.py            # some three minutes on two cores; writes results
    python benchmarks/generation_cache.py --quick    # distilgpt2, shows that it runs, writes nothing

Weights are random, which changes no time. Both ways run the same graph by the same loop and take turns: with its cache,
token by token; and without, where the whole text is read again for each token, as bundles did before they had one.
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
from common import RESULTS, environment

import zoo
from zoo.modalities.base import Array
from zoo.tasks.generation import Generated, GenerateOptions, generate
from zoo.tasks.rerunning import RerunStepper

RESULT = RESULTS / "generation_cache.json"
PROMPTS = (1, 8)


def prompts(count: int, longest: int) -> list[Array]:
    """Ragged ones: of the longest length down to a fourth of it."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(longest, longest // 4, count).astype(int)
    return [rng.integers(300, 50_000, length) for length in lengths]


def written(bundle: Any, texts: list[Array], tokens: int, *, cached: bool) -> tuple[float, list[Generated]]:
    """Seconds, and what was generated. No token ends a text, so that all are of one length."""
    ways = bundle.stepping() if cached else nullcontext(RerunStepper(bundle.session.run, pad_id=0))
    options = GenerateOptions(max_new_tokens=tokens, prompt_lookup_num_tokens=0)
    with ways as stepper:
        start = time.perf_counter()
        made = generate(texts, stepper, options, eos_id=None, pad_id=0, decode=str)
        return time.perf_counter() - start, made


def measure(bundle: Any, count: int, *, longest: int, tokens: int, rounds: int) -> dict[str, Any]:
    texts = prompts(count, longest)
    written(bundle, texts, 2, cached=True)
    written(bundle, texts, 1, cached=False)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    texts_of: dict[bool, list[Generated]] = {}
    for turn in range(rounds):
        for cached in (True, False) if turn % 2 else (False, True):
            took, texts_of[cached] = written(bundle, texts, tokens, cached=cached)
            seconds[cached].append(took)
    return {
        "prompts": count,
        "prompt_tokens": [len(text) for text in texts],
        "new_tokens": tokens,
        "texts_the_same": sum(a == b for a, b in zip(texts_of[True], texts_of[False], strict=True)),
        "seconds_with_cache": seconds[True],
        "seconds_without_cache": seconds[False],
        "tokens_per_second_with_cache": count * tokens / statistics.median(seconds[True]),
        "tokens_per_second_without_cache": count * tokens / statistics.median(seconds[False]),
        "speed_up": statistics.median(w / c for c, w in zip(seconds[True], seconds[False], strict=True)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer tokens; writes nothing")
    quick = parser.parse_args().quick
    name = "distilgpt2" if quick else "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        bundle = zoo.load(name, weights=None, device="cpu", seed=0).export(Path(folder) / "a.bundle")
        sizes = {"longest": 16, "tokens": 4, "rounds": 1} if quick else {"longest": 32, "tokens": 16, "rounds": 5}
        rows = [measure(bundle, count, **sizes) for count in PROMPTS]
        size = (bundle.folder / "model.onnx").stat().st_size
    result = {
        **environment(),
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
