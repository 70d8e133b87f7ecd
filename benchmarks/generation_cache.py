"""What the cache of a language model's bundle, its shortlists and its drafts are worth: GPT-2 at its full size.

    python benchmarks/generation_cache.py            # some seven minutes on two cores; writes results
    python benchmarks/generation_cache.py --quick    # distilgpt2, shows that it runs, writes nothing

Weights are random: their next tokens are closer to each other than a trained model's, so that more drafts are wrong.
All ways run the same graph by the same loop and take turns: with its cache, shortlists of what may be the most
probable, and drafts, where one text is written at a time; without drafts, token by token; with the cache, and all
logits of each token; and without, where the whole text is read again for each token. Drawn text takes turns with and
without drafts.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

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
WAYS = ("draft", "shortlist", "cache", "neither")


class Work(NamedTuple):
    """ways: each is compared with the next. options: of generation, beyond the defaults."""

    prompts: int
    at_once: int
    ways: tuple[str, ...]
    options: Mapping[str, Any]


# Drawn text has no shortlists. At a low temperature random weights are as sure as trained ones are of many tokens.
WORKS = (
    Work(4, 1, WAYS, {}),
    Work(8, 8, WAYS[1:], {}),
    Work(4, 1, ("draft", "cache"), {"do_sample": True, "temperature": 0.1}),
    Work(4, 1, ("draft", "cache"), {"do_sample": True, "temperature": 1.0}),
)


def prompts(count: int, longest: int) -> list[Array]:
    """Ragged ones: of the longest length down to a fourth of it."""
    rng = np.random.default_rng(0)
    lengths = np.linspace(longest, longest // 4, count).astype(int)
    return [rng.integers(300, 50_000, length) for length in lengths]


def written(
    bundle: Any, texts: list[Array], at_once: int, tokens: int, way: str, **drawn: Any
) -> tuple[float, list[Generated]]:
    """Seconds, and what was generated. No token ends a text, so that all are of one length."""
    bundle.session.shortlist.refuted = way not in ("draft", "shortlist")
    drafted = GenerateOptions().num_assistant_tokens if way == "draft" else 0
    options = GenerateOptions(max_new_tokens=tokens, prompt_lookup_num_tokens=0, num_assistant_tokens=drafted, **drawn)
    made: list[Generated] = []
    start = time.perf_counter()
    for place in range(0, len(texts), at_once):
        ways = nullcontext(RerunStepper(bundle.session.run, pad_id=0)) if way == "neither" else bundle.stepping()
        with ways as stepper:
            batch = texts[place : place + at_once]
            made += generate(batch, stepper, options, eos_id=None, pad_id=0, decode=str)
    return time.perf_counter() - start, made


def opened(folder: Path) -> Any:
    """A bundle of which all is laid out."""
    bundle = zoo.runtime.load(folder, packed=True)
    draft = bundle.session.draft  # type: ignore[union-attr]
    while draft.session() is None:
        written(bundle, prompts(1, 16), 1, 8, "shortlist")
    return bundle


def measure(bundle: Any, work: Work, *, longest: int, tokens: int, rounds: int) -> dict[str, Any]:
    count, at_once, ways, options = work
    texts = prompts(count, longest)
    for way in ways:
        written(bundle, texts[:at_once], at_once, 12, way, **options)
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    texts_of: dict[str, list[Generated]] = {}
    for turn in range(rounds):
        for way in ways if turn % 2 else reversed(ways):
            took, texts_of[way] = written(bundle, texts, at_once, tokens, way, **options)
            seconds[way].append(took)

    def times(quicker: str, slower: str) -> list[float]:
        return sorted(s / q for q, s in zip(seconds[quicker], seconds[slower], strict=True))

    return {
        "prompts": count,
        "at_once": at_once,
        "options": options,
        "prompt_tokens": [len(text) for text in texts],
        "new_tokens": tokens,
        "texts_the_same": sum(len(set(each)) == 1 for each in zip(*texts_of.values(), strict=True)),
        "seconds": seconds,
        "tokens_per_second": {way: count * tokens / statistics.median(took) for way, took in seconds.items()},
        "times_as_quick": {
            way: {"median": statistics.median(found), "min": found[0], "max": found[-1]}
            for way, found in ((way, times(way, slower)) for way, slower in itertools.pairwise(ways))
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a smaller model and fewer tokens; writes nothing")
    quick = parser.parse_args().quick
    name = "distilgpt2" if quick else "gpt2"
    with tempfile.TemporaryDirectory() as folder:
        zoo.load(name, weights=None, device="cpu", seed=0).export(Path(folder) / "a.bundle")
        bundle = opened(Path(folder) / "a.bundle")
        sizes = {"longest": 16, "tokens": 4, "rounds": 1} if quick else {"longest": 32, "tokens": 24, "rounds": 11}
        rows = [measure(bundle, work, **sizes) for work in WORKS]
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
