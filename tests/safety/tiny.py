"""Bundles of a few numbers, written by hand: no torch, no export. Whatever is written has a manifest that fits."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from zoo import bundle, manifest
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.tokenizing import save_tokenizer

FLOAT, INT64, UINT8 = TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8
SAMPLES: dict[str, Any] = {
    "text": "some words",
    "image": np.full((8, 8, 3), 7, dtype=np.uint8),
    "audio": np.zeros(1600, dtype=np.float32),
}
LABELS = ["no", "yes"]


def value(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def ints(name: str, numbers: Any) -> TensorProto:
    return numpy_helper.from_array(np.array(numbers, dtype=np.int64), name)


def model_of(nodes: list[Any], constants: list[TensorProto], inputs: list[Any], outputs: list[Any]) -> ModelProto:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def text_graph() -> ModelProto:
    """The sum of a vector a token."""
    weights = numpy_helper.from_array(np.linspace(-1, 1, 600, dtype=np.float32).reshape(300, 2), "words")
    nodes = [
        helper.make_node("Gather", ["words", "input_ids"], ["each"]),
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=FLOAT),
        helper.make_node("Unsqueeze", ["seen", "last"], ["mask"]),
        helper.make_node("Mul", ["each", "mask"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "tokens"], ["logits"], keepdims=0),
    ]
    inputs = [value("input_ids", INT64, "b", "t"), value("attention_mask", INT64, "b", "t")]
    constants = [weights, ints("last", [-1]), ints("tokens", [1])]
    return model_of(nodes, constants, inputs, [value("logits", FLOAT, "b", 2)])


def image_graph() -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["pixel_values"], ["floats"], to=FLOAT),
        helper.make_node("ReduceMean", ["floats", "axes"], ["means"], keepdims=0),
        helper.make_node("Slice", ["means", "zero", "two", "one"], ["logits"]),
    ]
    constants = [ints("axes", [2, 3]), ints("zero", [0]), ints("two", [2]), ints("one", [1])]
    return model_of(
        nodes, constants, [value("pixel_values", UINT8, "b", 3, 8, 8)], [value("logits", FLOAT, "b", "classes")]
    )


def audio_graph() -> ModelProto:
    nodes = [
        helper.make_node("Cast", ["attention_mask"], ["seen"], to=FLOAT),
        helper.make_node("Mul", ["input_values", "seen"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "axes"], ["sum"], keepdims=1),
        helper.make_node("Concat", ["sum", "sum"], ["logits"], axis=1),
    ]
    inputs = [value("input_values", FLOAT, "b", "s"), value("attention_mask", INT64, "b", "s")]
    return model_of(nodes, [ints("axes", [1])], inputs, [value("logits", FLOAT, "b", 2)])


GRAPHS: dict[str, Callable[[], ModelProto]] = {"text": text_graph, "image": image_graph, "audio": audio_graph}
_PARTS: dict[str, dict[str, Any]] = {
    "text": {
        "modality": "text", "backend": "transformers", "architecture": "bert", "task": "text-classification",
        "input": {"kind": "text", "max_length": 32},
        "inputs": [["input_ids", "int64", ["batch", "length"]], ["attention_mask", "int64", ["batch", "length"]]],
    },
    "image": {
        "modality": "vision", "backend": "timm", "architecture": "resnet18", "task": "image-classification",
        "input": {"kind": "image", "size": [8, 8], "mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "inputs": [["pixel_values", "uint8", ["batch", 3, 8, 8]]],
    },
    "audio": {
        "modality": "audio", "backend": "transformers", "architecture": "wav2vec2", "task": "audio-classification",
        "input": {"kind": "audio", "sampling_rate": 16000},
        "inputs": [["input_values", "float32", ["batch", "length"]], ["attention_mask", "int64", ["batch", "length"]]],
    },
}  # fmt: skip


def card_of(kind: str) -> dict[str, Any]:
    """`zoo.yaml` as data."""
    part = _PARTS[kind]
    return {
        "format": 1,
        "kind": "bundle",
        "zoo": "0.1.0",
        "task": part["task"],
        "spec": {
            "name": "tiny", "modality": part["modality"], "tasks": [part["task"]], "backend": part["backend"],
            "architecture": part["architecture"], "input": part["input"], "labels": LABELS,
        },
        "inputs": [{"name": n, "dtype": d, "shape": s} for n, d, s in part["inputs"]],
        "outputs": [{"name": "logits", "dtype": "float32", "shape": ["batch", 2]}],
        "export": {"opset": 18},
    }  # fmt: skip


def write(folder: Path, kind: str) -> Path:
    """A whole bundle that answers."""
    from zoo.plain import dump_yaml

    folder.mkdir(parents=True)
    (folder / bundle.CARD).write_text(dump_yaml(card_of(kind)), encoding="utf-8")
    (folder / bundle.GRAPH).write_bytes(GRAPHS[kind]().SerializeToString())
    if kind == "text":
        save_tokenizer(byte_tokenizer(style="bert"), folder)
    seal(folder)
    return folder


def seal(folder: Path) -> None:
    """A manifest of what is there now, as whoever changed a file can write it too."""
    (folder / manifest.MANIFEST).unlink(missing_ok=True)
    manifest.write(folder)


def copy(folder: Path, target: Path) -> Path:
    shutil.copytree(folder, target)
    return target
