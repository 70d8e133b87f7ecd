"""Texts of several clients from one server: written together, or one at a time (`--batch-rows 1`).

GPT-2 124M of random weights. Clients ask one stream after another; prompts and lengths are ragged.

python benchmarks/serving_streams.py            # some six minutes on two cores; writes results
python benchmarks/serving_streams.py --quick    # a tiny model, one round, writes nothing
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, environment

import zoo
from benchmarks.serving.process import Server
from benchmarks.speed import checkpoints
from benchmarks.speed.command import processor

RESULT = RESULTS / "serving_streams.json"
ALONE, TOGETHER = "one at a time", "together"
ARMS = {ALONE: ("--batch-rows", "1"), TOGETHER: ()}
CLIENTS = (1, 4, 16)
TEXTS = 16  # of one round
ROUNDS = 5


def questions(quick: bool) -> list[dict[str, Any]]:
    rng = np.random.default_rng(0)
    longest = 8 if quick else 48
    return [
        {
            "inputs": "a" * int(rng.integers(4, 64)),
            "options": {"max_new_tokens": int(rng.integers(4, longest)), "do_sample": True, "seed": place},
        }
        for place in range(TEXTS)
    ]


def stream(port: int, name: str, asked: dict[str, Any]) -> dict[str, Any]:
    """The tokens of one text, and the seconds until its first piece and its end."""
    began = time.perf_counter()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", f"/predict/{name}/stream", json.dumps(asked), {"content-type": "application/json"})
    answer = connection.getresponse()
    first, last = 0.0, b""
    for line in answer:
        if line.startswith(b"data: "):
            first, last = first or time.perf_counter() - began, line
    connection.close()
    result = json.loads(last.removeprefix(b"data: "))["result"]
    return {"tokens": result["tokens"], "first": first, "seconds": time.perf_counter() - began}


def held(server: Server, name: str, asked: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    """All texts by so many clients, and what of it took how long."""
    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        found = list(threads.map(lambda one: stream(server.port, name, one), asked))
    took = time.perf_counter() - began
    return {
        "texts": [one["tokens"] for one in found],
        "tokens_per_second": sum(len(one["tokens"]) for one in found) / took,
        "first_ms": 1000 * statistics.median(one["first"] for one in found),
        "text_ms": 1000 * statistics.median(one["seconds"] for one in found),
    }


def measure(folder: Path, quick: bool) -> list[dict[str, Any]]:
    path = folder / "writer.bundle"
    zoo.load(checkpoints.gpt2(folder / "gpt2", tiny=quick), device="cpu").export(path)
    asked = questions(quick)
    servers = {arm: Server([path], folder / f"{arm}.log", *options) for arm, options in ARMS.items()}
    try:
        # The first round is nobody's: weights are laid out, memory is taken.
        rounds = [
            {arm: held(server, "writer", asked, clients) for arm, server in servers.items()} | {"clients": clients}
            for _ in range(1 if quick else ROUNDS + 1)
            for clients in CLIENTS
        ]
    finally:
        for server in servers.values():
            server.kill()
    if not quick:
        rounds = rounds[len(CLIENTS) :]
    return [summary([one for one in rounds if one["clients"] == clients], clients) for clients in CLIENTS]


def summary(rounds: list[dict[str, Any]], clients: int) -> dict[str, Any]:
    def middle(arm: str, figure: str) -> float:
        return statistics.median(one[arm][figure] for one in rounds)

    figures = ("tokens_per_second", "first_ms", "text_ms")
    ratios = sorted(one[TOGETHER]["tokens_per_second"] / one[ALONE]["tokens_per_second"] for one in rounds)
    pairs = [pair for one in rounds for pair in zip(one[TOGETHER]["texts"], one[ALONE]["texts"], strict=True)]
    return {
        "clients": clients,
        "times": {"median": statistics.median(ratios), "min": ratios[0], "max": ratios[-1]},
        "texts the same": sum(a == b for a, b in pairs) / len(pairs),
        **{arm: {figure: middle(arm, figure) for figure in figures} for arm in ARMS},
    }


def table(result: dict[str, Any]) -> str:
    """Markdown: a line for each number of clients."""
    lines = [
        "| clients | tokens/s, one at a time | together | times | first token, ms | together | text, ms | together |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for found in result["contests"]:
        cells = [str(found["clients"])]
        for figure in ("tokens_per_second", "first_ms", "text_ms"):
            cells += [f"{found[arm][figure]:.0f}" for arm in (ALONE, TOGETHER)]
        times = found["times"]
        cells.insert(3, f"{times['median']:.2f} ({times['min']:.2f} to {times['max']:.2f})")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a tiny model, one round; writes nothing")
    quick = parser.parse_args().quick
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        contests = measure(Path(name), quick)
    result = {
        **environment(),
        "processor": processor(),
        "load_average": before,
        "model": "GPT-2 124M, random weights",
        "rounds": 1 if quick else ROUNDS,
        "contests": contests,
    }
    print(json.dumps(result, indent=1), table(result), sep="\n")
    if not quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
