"""`zoo serve` beside LitServe and a plain FastAPI handler: the same bundle, the same bodies, in turn, by wrk.

    python benchmarks/serving_peers.py --peers peers/bin/python          # some twenty-five minutes; writes results
    python benchmarks/serving_peers.py --peers peers/bin/python --works light   # some ten; the others stay as they were
    python benchmarks/serving_peers.py --peers peers/bin/python --quick  # shows that it runs, writes nothing

All servers run in the environment of benchmarks/serving/requirements.txt, with the bundle's own encoder, graph and
decoding. First each must give the same answers. Then they are asked in turn, one server running at a time.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, ROOT, environment

import zoo
from benchmarks.serving import tiny_bundles
from benchmarks.serving.asking import wrk
from benchmarks.serving.questions import same, sentences
from benchmarks.speed.command import processor

RESULT = RESULTS / "serving_peers.json"
PACKAGES = ("onnxruntime", "litserve", "fastapi", "starlette", "uvicorn", "uvloop", "httptools")
# Arguments of `zoo serve` and of benchmarks.serving.peers: each at its defaults, and with a process a core.
OURS: dict[str, list[str]] = {"zoo serve": [], "zoo serve, 2 workers": ["--workers", "2"]}
PEERS: dict[str, list[str]] = {
    "LitServe, its defaults": ["litserve"],
    "LitServe, batches": ["litserve", '{"max_batch_size": 32, "batch_timeout": 0.002}'],
    "LitServe, batches and its fast queue": [
        "litserve", '{"max_batch_size": 32, "batch_timeout": 0.002, "fast_queue": true}',
    ],
    "LitServe, batches, 2 workers": [
        "litserve", '{"max_batch_size": 32, "batch_timeout": 0.002, "workers_per_device": 2}',
    ],
    "FastAPI, def": ["fastapi-def"],
    "FastAPI, async def": ["fastapi-async"],
    "FastAPI, async def, 2 workers": ["fastapi-async", "2"],
}  # fmt: skip
ZOO = "from zoo.cli import main; main()"
WORKS = ("light", "BERT-base")


@dataclass(frozen=True, slots=True)
class Work:
    """texts: what is asked in turn. seconds: of one round of one server."""

    name: str
    bundle: Path
    texts: Sequence[str]
    connections: tuple[int, ...]
    seconds: int


@contextmanager
def serving(python: Path, server: str, bundle: Path) -> Iterator[str]:
    """The address that answers questions."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    if server in OURS:
        command = [str(python), "-c", ZOO, "serve", str(bundle), "--port", str(port), *OURS[server]]
    else:
        kind, *options = PEERS[server]
        command = [str(python), "-m", "benchmarks.serving.peers", kind, str(bundle), str(port), *options]
    path = f"/predict/{bundle.stem}" if server in OURS else "/predict"
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{port}{path}"
        _await(address, process)
        yield address
    finally:
        # Several have processes of their own.
        family = [process.pid, *(child.pid for child in psutil.Process(process.pid).children(recursive=True))]
        for pid in family:
            with suppress(ProcessLookupError):
                os.kill(pid, 9)
        process.wait(20)


def _await(address: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 120
    while True:
        try:
            answer(address, "a")
            return
        except (urllib.error.URLError, ConnectionError):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{' '.join(map(str, process.args))} does not answer") from None  # type: ignore[arg-type]
            time.sleep(0.1)


def answer(address: str, text: str) -> Any:
    asked = urllib.request.Request(address, json.dumps({"inputs": text}).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(asked, timeout=60) as found:
        return json.loads(found.read())["result"]


def measure(work: Work, python: Path, folder: Path, rounds: int, servers: Sequence[str]) -> dict[str, Any]:
    bodies = folder / f"{work.name}.txt"
    bodies.write_text("".join(json.dumps({"inputs": text}) + "\n" for text in work.texts), encoding="utf-8")
    right: list[Any] = []
    found: dict[str, dict[int, list[dict[str, float]]]] = {s: {c: [] for c in work.connections} for s in servers}
    for turn in range(rounds):
        for server in servers if turn % 2 == 0 else servers[::-1]:
            with serving(python, server, work.bundle) as address:
                answers = [answer(address, text) for text in work.texts]
                right = right or answers
                if not same(answers, right):
                    raise RuntimeError(f"{server} gives other answers than {servers[0]}")
                wrk(address, bodies, max(work.connections), 1 if work.seconds < 8 else 3)
                for connections in work.connections:
                    found[server][connections].append(wrk(address, bodies, connections, work.seconds))
                    print(work.name, turn, server, connections, found[server][connections][-1], flush=True)
    return {
        "work": work.name,
        "texts": len(work.texts),
        "seconds a round": work.seconds,
        "rows": [
            row(server, c, found[server][c], found[servers[0]][c]) for c in work.connections for server in servers
        ],
    }


def row(server: str, connections: int, rounds: Sequence[dict[str, float]], ours: Sequence[dict[str, float]]) -> Any:
    """ours_times: how many times as many requests a second zoo serve answers, by round."""
    rates = [x["requests"] / x["seconds"] for x in rounds]
    ours_rates = [x["requests"] / x["seconds"] for x in ours]
    return {
        "server": server,
        "connections": connections,
        "requests_per_second": {"median": statistics.median(rates), "lowest": min(rates), "highest": max(rates)},
        "p50_ms": statistics.median(x["p50_ms"] for x in rounds),
        "p99_ms": statistics.median(x["p99_ms"] for x in rounds),
        "ours_times": statistics.median(o / r for o, r in zip(ours_rates, rates, strict=True)),
    }


def works(folder: Path, names: Sequence[str], quick: bool) -> Iterator[Work]:
    if "light" in names:
        tiny_bundles.export("mood", folder / "light.bundle")
        # Few tokens: of a light model the server is most of the work.
        yield Work("light", folder / "light.bundle", sentences(64, seed=0, longest=4), (16, 64), 1 if quick else 4)
    if "BERT-base" not in names:
        return
    labels = ["bad", "good"]
    model = zoo.load("bert-base-uncased", task="text-classification", labels=labels, weights=None, device="cpu", seed=0)
    model.export(folder / "bert-base.bundle")
    yield Work("BERT-base", folder / "bert-base.bundle", sentences(64, seed=0), (16,), 8)


def versions(python: Path) -> dict[str, str]:
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {PACKAGES!r}}}))"
    found: dict[str, str] = json.loads(subprocess.run([python, "-c", code], capture_output=True, check=True).stdout)
    return found


def table(result: dict[str, Any]) -> str:
    lines = [
        "| model, connections | server | requests/s (lowest to highest) | p50 ms | p99 ms |",
        "|---|---|---|---|---|",
    ]
    for work in result["works"]:
        for x in work["rows"]:
            rate = {
                name: f"{value:.1f}" if value < 100 else f"{value:.0f}"
                for name, value in x["requests_per_second"].items()
            }
            lines.append(
                f"| {work['work']}, {x['connections']} | {x['server']} | {rate['median']} ({rate['lowest']} to "
                f"{rate['highest']}) | {x['p50_ms']:.1f} | {x['p99_ms']:.1f} |"
            )
    return "\n".join(lines)


def _others(result: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """What an earlier run in the same surroundings has measured, of the works that this one left out."""
    before = json.loads(RESULT.read_text(encoding="utf-8")) if RESULT.is_file() else {}
    if any(before.get(name) != value for name, value in result.items() if name not in ("load_average", "works")):
        return []
    return [work for work in before["works"] if work["work"] not in names]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", type=Path, required=True, help="Python of benchmarks/serving/requirements.txt")
    parser.add_argument("--quick", action="store_true", help="the light model, one short round; writes nothing")
    parser.add_argument("--works", nargs="+", choices=WORKS, default=WORKS, help="all when left out")
    options = parser.parse_args()
    python, names = options.peers.absolute(), ("light",) if options.quick else options.works
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rounds = 1 if options.quick else 5
        found = [measure(work, python, folder, rounds, [*OURS, *PEERS]) for work in works(folder, names, options.quick)]
    result = {
        **environment(), "processor": processor(), "servers": versions(python), "load_average": os.getloadavg()[0],
        "works": found,
    }  # fmt: skip
    print(table(result))
    if not options.quick:
        result["works"] = [*_others(result, names), *result["works"]]
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
