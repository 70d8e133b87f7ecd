"""A bundle behind HTTP: the same one, the same bodies, asked by wrk on the same cores. One server runs at a time."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.asking import wrk
from benchmarks.serving.questions import sentences
from benchmarks.serving.servers import OURS, serving
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, read

FACTS = {
    "title": "Serving",
    "model": "a tiny classifier of texts of a few words, and BERT-base, random weights",
    "data": "64 texts in turn, as JSON, over loopback; the memory is that of all of a server's processes",
}
_HERE = "benchmarks.speed.serving"
_PACKAGES = ("onnxruntime", "litserve", "fastapi", "starlette", "uvicorn", "uvloop", "httptools")
_BATCHES = {"max_batch_size": 32, "batch_timeout": 0.002}
# Each at its defaults, and with what its own pages advise: batches, a process a core.
_SERVERS: dict[str, tuple[str, ...]] = {
    "LitServe, its defaults": ("litserve",),
    "LitServe, batches": ("litserve", json.dumps(_BATCHES)),
    "LitServe, batches and its fast queue": ("litserve", json.dumps({**_BATCHES, "fast_queue": True})),
    "LitServe, batches, 2 workers": ("litserve", json.dumps({**_BATCHES, "workers_per_device": 2})),
    "FastAPI, def": ("fastapi-def",),
    "FastAPI, async def": ("fastapi-async",),
    "FastAPI, async def, 2 workers": ("fastapi-async", "2"),
    "zoo serve": (OURS,),
    "zoo serve, 2 workers": (OURS, "--workers", "2"),
}  # fmt: skip


def contests(setting: Setting) -> Iterator[Contest]:
    from benchmarks.serving import tiny_bundles

    light = setting.folder / "light.bundle"
    tiny_bundles.export("mood", light)
    # Few tokens: of a light model the server is most of the work.
    texts = setting.kept("few", sentences(setting.size(64, 4), seed=0, longest=4))
    for connections in (16,) if setting.quick else (16, 64):
        yield _contest(setting, "light", light, texts, connections, setting.size(4, 1))
    if not setting.quick:
        texts = setting.kept("texts", sentences(64, seed=0))
        yield _contest(setting, "BERT-base", _bert(setting), texts, 16, 8)


def more(setting: Setting) -> dict[str, Any]:
    """The versions that the servers had."""
    if setting.servers is None:
        return {}
    code = f"import json, importlib.metadata as m; print(json.dumps({{n: m.version(n) for n in {_PACKAGES!r}}}))"
    done = subprocess.run([setting.servers, "-c", code], capture_output=True, check=True)
    return {"servers": json.loads(done.stdout)}


def _bert(setting: Setting) -> Path:
    import zoo

    path = setting.folder / "bert-base.bundle"
    labels = ["bad", "good"]
    model = zoo.load("bert-base-uncased", task="text-classification", labels=labels, weights=None, device="cpu", seed=0)
    model.export(path)
    return path


def _contest(setting: Setting, name: str, bundle: Path, texts: str, connections: int, seconds: int) -> Contest:
    given = {"bundle": str(bundle), "texts": texts, "connections": connections, "seconds": seconds}
    return Contest(
        f"{name}, {connections} connections", 1, "requests",
        [
            Contestant(
                server, f"{_HERE}:served", {**given, "python": str(setting.servers), "kind": kind, "options": options},
                ours=kind == OURS, tolerance=1e-4, left_out=_missing(setting),
            )
            for server, (kind, *options) in _SERVERS.items()
        ],
    )  # fmt: skip


def _missing(setting: Setting) -> str:
    if setting.servers is None:
        return "--servers names no Python of benchmarks/serving/requirements.txt"
    return "" if shutil.which("wrk") else "needs wrk: apt install wrk"


def served(
    bundle: str, texts: str, connections: int, seconds: int, python: str, kind: str, options: Sequence[str]
) -> Ready:
    """A server that is started for each run, and asked for some seconds. What it answers is compared before."""
    asked: list[str] = read(texts)
    bodies = Path(texts).with_suffix(".lines")
    bodies.write_text("".join(json.dumps({"inputs": text}) + "\n" for text in asked), encoding="utf-8")

    def proof() -> Answer:
        with serving(python, kind, bundle, options) as server:
            return _answer([server.answer(text) for text in asked])

    def run() -> Answer:
        with serving(python, kind, bundle, options) as server:
            answers = [server.answer(text) for text in asked]
            wrk(server.address, bodies, connections, 1 if seconds < 8 else 3)
            found = wrk(server.address, bodies, connections, seconds)
            return _answer(answers, {
                "seconds": found["seconds"] / found["requests"], "p50_ms": found["p50_ms"],
                "p99_ms": found["p99_ms"], "peak_mb": server.megabytes,
            })  # fmt: skip

    return Ready(run, proof=proof)


def _answer(results: Sequence[Any], figures: dict[str, float] | None = None) -> Answer:
    scores = [{item["label"]: item["score"] for item in result["top"]} for result in results]
    return Answer(
        [result["label"] for result in results], [[found[name] for name in sorted(found)] for found in scores],
        figures or {},
    )  # fmt: skip
