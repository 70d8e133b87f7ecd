"""Forwards with masks and lengths of their own as ONNX graphs, run on other shapes than they were traced with.

Every model of the catalogue is exported in tests/conformance; these are what can go wrong in a backend.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tests.backends.conftest import (
    audio_spec,
    ragged_sound,
    ragged_tokens,
    text_spec,
    torchaudio_spec,
)
from zoo.backends import build
from zoo.spec import ModelSpec

LABELS = ("<pad>", "|", "a", "b")
CASES = [
    (text_spec("gpt2", n_layer=1), "text-generation"),
    (audio_spec("wav2vec2", "group", num_hidden_layers=1), "automatic-speech-recognition"),
    (audio_spec("hubert", "layer", num_hidden_layers=1), "audio-classification"),
    (torchaudio_spec(encoder_num_layers=1), "automatic-speech-recognition"),
]


def batches(spec: ModelSpec) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """What is traced, and what is run: more rows, another length, padding in both."""
    if spec.modality == "text":
        return ragged_tokens((10, 6)), ragged_tokens((17, 4, 9))
    return ragged_sound((6000, 4000)), ragged_sound((9000, 5000, 2001))


@pytest.mark.parametrize(("spec", "task"), CASES, ids=[f"{s.name}-{t}" for s, t in CASES])
def test_onnx_answers_as_torch_does_on_a_padded_batch(spec: ModelSpec, task: str, tmp_path: Path) -> None:
    module = build(spec, task=task, labels=LABELS, seed=0)
    traced, other = batches(spec)
    length = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    shapes = dict.fromkeys(traced, length)
    # Not the bare names: the exporter calls inner values after their operators, and "embedding" is one.
    names = [f"output_{name}" for name in module(**traced)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            kwargs=traced,
            f=str(tmp_path / "model.onnx"),
            dynamic_shapes=shapes,
            input_names=list(traced),
            output_names=names,
            dynamo=True,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    for batch in (traced, other):
        with torch.inference_mode():
            expected = {f"output_{name}": tensor.numpy() for name, tensor in module(**batch).items()}
        found = session.run(names, {name: tensor.numpy() for name, tensor in batch.items()})
        for name, array in zip(names, found, strict=True):
            np.testing.assert_allclose(array, expected[name], atol=1e-5, rtol=1e-5, err_msg=name)
