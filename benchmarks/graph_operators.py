"""What whole operators in a graph are worth: opset 23 and onnxscript's fusions for ONNX Runtime, beside opset 18.

    python benchmarks/graph_operators.py            # some ten minutes on two cores; writes results
    python benchmarks/graph_operators.py --quick    # one small model, shows that it runs, writes nothing

Weights are random and of full size. Opset 18 writes an attention as products and a softmax, opset 23 as one
`Attention`; `optimize_for_ort` writes ONNX Runtime's contributed operators. All answer the same batches in turn, each
in one thread; times are of the processor, so that other work on the machine counts little.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime
from onnxscript.rewriter.ort_fusions import optimize_for_ort

sys.path.insert(0, str(Path(__file__).parent / "quality"))
from common import RESULTS, environment

import zoo
from zoo import tracing
from zoo.modalities.base import Array

RESULT = RESULTS / "graph_operators.json"
MODELS = ("bert-base-uncased", "vit-base-patch16-224", "wav2vec2-base", "gpt2")
# Rows, and tokens in each; of recordings tenths of a second, and of images nothing.
SIZES = ((1, 16), (8, 40), (4, 128))


def write(name: str, opset: int, folder: Path) -> Path:
    tracing.OPSET = opset
    bundle = zoo.load(name, weights=None, device="cpu", seed=0).export(folder / f"{opset}.bundle")
    return bundle.folder / "model.onnx"


def fused(path: Path) -> Path:
    with tracing.quiet("onnxscript", "onnx_ir"):
        model, _ = optimize_for_ort(ir.load(path))
    ir.save(model, path.with_name("fused.onnx"))
    return path.with_name("fused.onnx")


def opened(path: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def inputs(session: Any, rows: int, length: int) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    made: dict[str, Array] = {}
    for item in session.get_inputs():
        shape = [side if isinstance(side, int) else rows if i == 0 else length for i, side in enumerate(item.shape)]
        if item.name.startswith("past_key_values"):
            made[item.name] = np.zeros([rows, shape[1], 0, shape[3]], dtype=np.float32)
        elif item.name == "attention_mask" and "input_values" in made:
            made[item.name] = np.ones_like(made["input_values"], dtype=np.int64)
        elif item.name == "attention_mask":
            made[item.name] = np.tile(np.arange(length) < length * 3 // 4, (rows, 1)).astype(np.int64)
            made[item.name][0] = 1
        elif item.name == "position_ids":
            made[item.name] = np.tile(np.arange(length), (rows, 1))
        elif item.name == "logits_to_keep":
            made[item.name] = np.array([length - 1])
        elif item.name == "input_values":
            made[item.name] = rng.normal(0, 0.1, (rows, length * 1600)).astype(np.float32)
        else:
            most = {"pixel_values": 256, "token_type_ids": 1}.get(item.name, 1000)
            made[item.name] = rng.integers(0, most, shape).astype(np.uint8 if most == 256 else np.int64)
    return made


def compare(sessions: dict[str, Any], rows: int, length: int, rounds: int) -> dict[str, Any]:
    """sessions: by name, the reference first. Those that can't be run are said to fail, with the reason."""
    feed = inputs(next(iter(sessions.values())), rows, length)
    outputs, failed = {}, {}
    for name, session in sessions.items():
        try:
            outputs[name] = session.run(None, feed)
        except Exception as error:
            failed[name] = str(error).split("Status Message:")[-1].strip()[:160]
    seconds: dict[str, list[float]] = {name: [] for name in outputs}
    for turn in range(rounds):
        for name in sorted(outputs, reverse=bool(turn % 2)):
            start = time.process_time()
            sessions[name].run(None, feed)
            seconds[name].append(time.process_time() - start)
    first, *others = outputs
    return {
        "rows": rows,
        "length": length,
        "seconds": seconds,
        "failed": failed,
        "times_as_fast": {
            name: statistics.median(a / b for a, b in zip(seconds[first], seconds[name], strict=True))
            for name in others
        },
        "largest_difference": {
            name: max(float(np.abs(a - b).max()) for a, b in zip(outputs[first], outputs[name], strict=True) if a.size)
            for name in others
        },
    }


def measure(name: str, folder: Path, *, sizes: tuple[tuple[int, int], ...], rounds: int) -> dict[str, Any]:
    graphs = {"opset 18": write(name, 18, folder), "opset 23": write(name, 23, folder)}
    graphs["optimize_for_ort"] = fused(graphs["opset 18"])
    sessions = {each: opened(path) for each, path in graphs.items()}
    return {
        "model": name,
        "operators": {each: sum(1 for _ in ir.load(path).graph) for each, path in graphs.items()},
        "most": {
            each: dict(Counter(n.op_type for n in ir.load(path).graph).most_common(8)) for each, path in graphs.items()
        },
        "batches": [compare(sessions, rows, length, rounds) for rows, length in sizes],
    }


def table(result: dict[str, Any]) -> str:
    """For a page: times as fast as opset 18, from the least of the batches to the most."""
    lines = ["| model | opset 23 | `optimize_for_ort` |", "|---|---|---|"]
    for model in result["models"]:
        cells = []
        for name in ("opset 23", "optimize_for_ort"):
            found = [batch["times_as_fast"].get(name) for batch in model["batches"]]
            cells.append("fails" if None in found else f"{min(found):.2f} to {max(found):.2f}")
        lines.append(f"| {model['model']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="one small model; writes nothing")
    quick = parser.parse_args().quick
    models = ("distilbert-base-uncased",) if quick else MODELS
    found = []
    for name in models:
        with tempfile.TemporaryDirectory() as folder:
            found.append(measure(name, Path(folder), sizes=SIZES[:1] if quick else SIZES, rounds=3 if quick else 7))
    result = {
        **environment(),
        "onnxruntime": version("onnxruntime-gpu"),
        "onnxscript": version("onnxscript"),
        "load_average": os.getloadavg()[0],
        "models": found,
    }
    print(table(result))
    if not quick:
        RESULT.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
