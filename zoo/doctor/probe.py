"""Run as a script in a process of its own: imports packages and tries CUDA, and writes what happened, a JSON a line.

Arguments: the file to write to, "cuda" or "cpu" (whether to try CUDA), then the modules. A module whose import ends
the process leaves no line.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# An ONNX graph of one Neg node, float32 [1] to float32 [1].
_GRAPH = bytes.fromhex(
    "080812003a320a0b0a017812017922034e65671201675a0f0a0178120a0a0808011204"
    "0a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


def main(target: Path, cuda: bool, modules: list[str]) -> None:
    with target.open("w", encoding="utf-8") as file:

        def write(line: dict[str, Any]) -> None:
            file.write(json.dumps(line) + "\n")
            file.flush()

        for name in modules:
            write({"import": name, "error": error_of(lambda name=name: importlib.import_module(name))})  # type: ignore[misc]
        if "torch" in sys.modules:
            write({"torch": torch_cuda(sys.modules["torch"], cuda)})
        if cuda and "onnxruntime" in sys.modules:
            ort = sys.modules["onnxruntime"]
            write({"provider": provider_error(ort)})


def error_of(action: Callable[[], Any]) -> str:
    """What an action raises, in one line; empty when it works."""
    try:
        action()
    except BaseException as error:
        lines = str(error).strip().splitlines()
        return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
    return ""


def torch_cuda(torch: Any, cuda: bool) -> dict[str, Any]:
    error = error_of(lambda: torch.zeros(1, device="cuda")) if cuda else ""
    return {"built": torch.version.cuda, "available": torch.cuda.is_available(), "error": error}


def provider_error(ort: Any) -> str:
    """Why a graph does not run on CUDA; empty when it does."""
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this build of ONNX Runtime has no CUDA provider"
    options = ort.SessionOptions()
    options.log_severity_level = 4
    providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    sessions: list[Any] = []
    # Finds the libraries of the nvidia packages, and says on stdout what it does not find.
    error = error_of(ort.preload_dlls) or error_of(
        lambda: sessions.append(ort.InferenceSession(_GRAPH, options, providers=providers))
    )
    if error or sessions[0].get_providers()[0] == "CUDAExecutionProvider":
        return error
    return "its CUDA provider does not load, and it would go on with the CPU without a word"


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] == "cuda", sys.argv[3:])
