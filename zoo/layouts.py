"""Bundles in the form that another server wants: a model repository of NVIDIA's Triton.

A model of the Python backend takes raw inputs and gives typed results, by the same code as `zoo serve`. Where a bundle
has one graph, that is a second model, `NAME_graph`, for Triton's own ONNX Runtime: on GPUs, in batches across requests,
and to be asked for by itself. Source: `model_config.proto` and `model_repository.md` of triton-inference-server.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from zoo import bundle as folders
from zoo import manifest
from zoo.bundle import Card, TensorSpec
from zoo.errors import BundleError, ConfigError
from zoo.runtime.raw import NAME, RESULT, raw_kind

_ROWS = 32  # of a batch; what `zoo serve` takes, too
_DELAY = 2000  # microseconds that the first request of a batch waits for others
_TYPES = {
    "bool": "BOOL", "uint8": "UINT8", "int8": "INT8", "int32": "INT32", "int64": "INT64", "float16": "FP16",
    "float32": "FP32", "float64": "FP64", "bfloat16": "BF16",
}  # fmt: skip
_MODEL = '''"""Written by `zoo export --layout triton`. What answers is zoo.runtime.triton of the installed polyzoo."""

from pathlib import Path

from zoo.runtime.triton import TritonModel


class TritonPythonModel:
    def initialize(self, args):
        self.model = TritonModel(Path(__file__).resolve().parent / "bundle", args)

    def execute(self, requests):
        return self.model.execute(requests)
'''


def triton(
    bundle: str | Path, repository: str | Path, *, name: str | None = None, device: Literal["cpu", "cuda"] = "cpu"
) -> list[str]:
    """Write a bundle into a model repository of Triton, beside what is there, and return its models' names.

    name: of the model; the bundle's own when None. device: what instances run on. Models of the same name that this
    wrote before are replaced. Raises BundleError and ConfigError.
    """
    source, target = Path(bundle), Path(repository)
    files = manifest.verify(source)
    card = folders.read_card(source)
    if card.kind != "bundle":
        raise BundleError(f"{source} is a saved model, not an exported bundle: `zoo export` makes one.")
    name = name or model_name(source.resolve().name)
    graph = f"{name}_graph" if card.graphs is None else None
    for model in (name, graph):
        check_model(target, model)
    target.mkdir(parents=True, exist_ok=True)
    if graph is not None:
        with _model(target, graph) as folder:
            _copy(source, folder / "1", [file for file in files if _is_graph(file)])
            (folder / "config.pbtxt").write_text(_graph_config(graph, card, device), encoding="utf-8")
    with _model(target, name) as folder:
        _copy(source, folder / "1" / "bundle", [file for file in files if graph is None or not _is_graph(file)])
        manifest.write(folder / "1" / "bundle")
        (folder / "1" / "model.py").write_text(_MODEL, encoding="utf-8")
        (folder / "config.pbtxt").write_text(_config(name, card, graph, device), encoding="utf-8")
    return [name] if graph is None else [name, graph]


def model_name(source: str) -> str:
    """What a model is called in a repository: `flowers` of ./flowers.bundle, `name` of hf:org/name."""
    name = re.split(r"[/\\:]", source.rstrip("/\\"))[-1].removesuffix(".bundle")
    if not NAME.fullmatch(name):
        raise ConfigError(f"{source!r} gives a model the name {name!r}: use letters, digits, '.', '_' and '-'.")
    return name


def check_model(repository: Path, name: str | None) -> None:
    """Raises ConfigError where something else is in the model's place."""
    if repository.exists() and not repository.is_dir():
        raise ConfigError(f"{repository} is a file; give the folder of a model repository.")
    if name is None or not (place := repository / name).exists():
        return
    ours = (place / "config.pbtxt").is_file() and _SIGNED in (place / "config.pbtxt").read_text(encoding="utf-8")
    if not ours:
        raise ConfigError(f"{place} holds a model that the zoo did not write; give another folder, or remove it first.")


@contextmanager
def _model(repository: Path, name: str) -> Iterator[Path]:
    """A folder that becomes the model's when it is whole."""
    # Triton, which may watch the repository, takes no hidden folder for a model.
    temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".tmp", dir=repository))
    try:
        yield temporary
        temporary.chmod(0o755)
        folders.publish(temporary, repository / name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _is_graph(file: str) -> bool:
    """model.onnx and its model.onnx.data."""
    return file.startswith(folders.GRAPH)


def _copy(source: Path, target: Path, files: Sequence[str]) -> None:
    for file in files:
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)


# ---------------------------------------------------------------------------------------------------- config.pbtxt

_SIGNED = "# Written by `zoo export --layout triton`"


def _config(name: str, card: Card, graph: str | None, device: str) -> str:
    # Preparing and decoding are the CPU's; two processes of it keep one graph busy. A whole bundle is one copy each.
    count, kind = (2, "KIND_CPU") if graph else (1, _kind(device))
    asked = f'parameters {{ key: "graph" value {{ string_value: "{graph}" }} }}\n' if graph else ""
    return (
        f"{_SIGNED}: raw inputs of {card.spec.name} to results of {card.task}, as JSON.\n"
        f'name: "{name}"\nbackend: "python"\nmax_batch_size: {_ROWS}\n'
        f'input [ {{ name: "{raw_kind(card.spec)}" data_type: TYPE_STRING dims: [ 1 ] }} ]\n'
        f'output [ {{ name: "{RESULT}" data_type: TYPE_STRING dims: [ 1 ] }} ]\n'
        f"{_common(count, kind)}{asked}"
    )


def _graph_config(name: str, card: Card, device: str) -> str:
    inputs = ",\n".join(_tensor(item) for item in card.inputs)
    outputs = ",\n".join(_tensor(item) for item in card.outputs)
    return (
        f"{_SIGNED}: the graph of {card.spec.name}, {card.export.precision if card.export else 'fp32'}.\n"
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {_ROWS}\n'
        f"input [\n{inputs}\n]\noutput [\n{outputs}\n]\n{_common(1, _kind(device))}"
    )


def _common(count: int, kind: str) -> str:
    return (
        f"dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}\n"
        f"instance_group [ {{ count: {count} kind: {kind} }} ]\n"
    )


def _kind(device: str) -> str:
    if device not in ("cpu", "cuda"):
        raise ConfigError(f'device is {device!r}; it is "cpu" or "cuda".')
    return "KIND_GPU" if device == "cuda" else "KIND_CPU"


def _tensor(item: TensorSpec) -> str:
    """Without the batch, which max_batch_size stands for; an axis of any length is -1."""
    if item.shape[:1] != ("batch",) or item.dtype not in _TYPES:
        raise BundleError(f"{item.name} is {item.dtype} {list(item.shape)}, which Triton can't have in batches.")
    dims = ", ".join(str(axis) if isinstance(axis, int) else "-1" for axis in item.shape[1:])
    if not dims:
        # Triton has no empty dims: a scalar a row is one of one number, reshaped away.
        return f'  {{ name: "{item.name}" data_type: TYPE_{_TYPES[item.dtype]} dims: [ 1 ] reshape {{ shape: [ ] }} }}'
    return f'  {{ name: "{item.name}" data_type: TYPE_{_TYPES[item.dtype]} dims: [ {dims} ] }}'
