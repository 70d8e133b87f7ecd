"""What a served model needs: memory by rows, and its rates by threads, of two full-size models of random weights.

python benchmarks/serving_sizing.py            # some four minutes on two cores; writes results
python benchmarks/serving_sizing.py --quick    # two tiny models, shows that it runs, writes nothing
"""

from __future__ import annotations

import argparse
import base64
import io
import json
import os
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent / "quality"))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from common import RESULTS, environment

import zoo
from benchmarks.serving import tiny_bundles
from benchmarks.serving.asking import wrk
from benchmarks.serving.process import Server

RESULT = RESULTS / "serving_sizing.json"
MODELS = {"bert-base-uncased": "text-classification", "resnet50": "image-classification"}
TINY = {"bert-base-uncased": "mood", "resnet50": "animals"}
ROWS = (1, 8, 32)
CONNECTIONS = (1, 4, 16)
TOKENS = 128


def question(model: str) -> Any:
    if MODELS[model] == "text-classification":
        # A byte is a token here, and two more stand around the text.
        return "a" * (TOKENS - 2)
    file = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((256, 256)).save(file, "JPEG")
    return {"base64": base64.b64encode(file.getvalue()).decode()}


def bundle(model: str, folder: Path, quick: bool) -> Path:
    path = folder / f"{model}.bundle"
    if quick:
        tiny_bundles.export(TINY[model], path)
    else:
        made = zoo.load(model, task=MODELS[model], labels=["a", "b"], weights=None, device="cpu", seed=0)
        made.export(path)
    return path


def ask(server: Server, path: str, content: Any) -> None:
    asked = urllib.request.Request(
        f"http://127.0.0.1:{server.port}{path}", json.dumps(content).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=300) as answer:
        answer.read()


def most(server: Server, path: str, content: Any) -> int:
    """Bytes that the server held at most, while it answered twice."""
    sizes, over = [server.resident], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            sizes.append(server.resident)

    watching = threading.Thread(target=watch)
    watching.start()
    for _ in range(2):
        ask(server, path, content)
    over.set()
    watching.join()
    return max(sizes)


def memory(path: Path, folder: Path, model: str) -> dict[str, Any]:
    server = Server([path], folder / "server.log", "--max-body-mb", "100", "--batch-rows", "64")
    try:
        ready = server.resident
        predict = f"/predict/{path.stem}"
        rows = {n: most(server, predict, {"inputs": [question(model)] * n}) for n in ROWS}
        again = most(server, f"/v2/repository/models/{path.stem}/load", {})
        time.sleep(1)
        after = server.resident
    finally:
        server.kill()
    return {"ready": ready, "most by rows": rows, "most while it is loaded again": again, "after that": after}


def rates(path: Path, folder: Path, model: str, seconds: int) -> list[dict[str, Any]]:
    bodies = folder / "bodies.txt"
    bodies.write_text(json.dumps({"inputs": question(model)}) + "\n", encoding="utf-8")
    found = []
    for threads in (1, 2):
        server = Server([path], folder / "server.log", "--threads", str(threads))
        try:
            for connections in CONNECTIONS:
                address = f"http://127.0.0.1:{server.port}/predict/{path.stem}"
                wrk(address, bodies, connections, 1)
                found.append(
                    {"threads": threads, "connections": connections, **wrk(address, bodies, connections, seconds)}
                )
        finally:
            server.kill()
    return found


def base(folder: Path) -> int:
    """Bytes of a server whose model is next to nothing."""
    tiny_bundles.export("mood", folder / "tiny.bundle")
    server = Server([folder / "tiny.bundle"], folder / "server.log")
    try:
        return server.resident
    finally:
        server.kill()


def memory_table(result: dict[str, Any]) -> str:
    lines = [
        "| | graph | ready | 1 row | 8 rows | 32 rows | while it is loaded again | after that |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in result["models"].items():
        held = found["memory"]
        rows = [held["most by rows"][str(n)] for n in ROWS]
        sizes = [found["graph_bytes"], held["ready"], *rows, held["most while it is loaded again"], held["after that"]]
        lines.append(f"| {name} | " + " | ".join(f"{size / 1e6:.0f}" for size in sizes) + " |")
    return "\n".join(lines)


def rate_table(result: dict[str, Any]) -> str:
    lines = ["| | threads | connections | requests/s | p50 ms | p99 ms |", "|---|---|---|---|---|---|"]
    for name, found in result["models"].items():
        for x in found["rates"]:
            rate = x["requests"] / x["seconds"]
            facts = f"{x['threads']} | {x['connections']} | {rate:.1f} | {x['p50_ms']:.0f} | {x['p99_ms']:.0f}"
            lines.append(f"| {name} | {facts} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny models; writes nothing")
    quick = parser.parse_args().quick
    models = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        empty = base(folder)
        for model in MODELS:
            path = bundle(model, folder, quick)
            size = sum(file.stat().st_size for file in path.glob("model.onnx*"))
            models[model] = {
                "graph_bytes": size,
                "memory": memory(path, folder, model),
                "rates": rates(path, folder, model, 1 if quick else 15),
            }
    result = {
        **environment(),
        "load_average": os.getloadavg()[0],
        "tokens": TOKENS,
        "base_bytes": empty,
        "models": models,
    }
    # As a reader of the file will see it: names of rows are text.
    result = json.loads(json.dumps(result))
    print(json.dumps(result, indent=1), memory_table(result), rate_table(result), sep="\n")
    if not quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
