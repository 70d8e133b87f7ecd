"""Each text family: upstream's own answers on one row, and the same beside padding on either side."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoo
from tests.tiny import FAMILIES, tiny
from zoo.backends import build
from zoo.inference import make_batch
from zoo.modalities import make_encoder
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.tasks import make

# Those of an encoder and a decoder have a file of their own, and a voice pads nothing.
OTHERS = {"summarization", "translation", "text-to-speech"}
TEXT_FAMILIES = [
    name for name in FAMILIES if zoo.info(name).modality == "text" and not OTHERS & set(zoo.info(name).tasks)
]
TEXTS = [
    "once upon a time in Zürich",
    "the end",
    "x",
    "a rather longer text than all of the others, so that it is not padded",
]


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", TEXT_FAMILIES)
def test_answers_are_upstreams_on_either_side_of_padding(name: str, side: str) -> None:
    spec = tiny(zoo.info(name))
    spec = spec.evolve(input={**spec.input.to_dict(), "padding_side": side})
    name_of_task = next(
        (task for task in ("fill-mask", "text-generation") if task in spec.tasks), "text-classification"
    )
    labels = ("a", "b") if name_of_task == "text-classification" else ()
    task = make(name_of_task, spec, labels)
    encoder = make_encoder(spec, tokenizer=byte_tokenizer(style="gpt" if name_of_task == "text-generation" else "bert"))
    module = build(spec, task=name_of_task, labels=labels, seed=0)
    windows = [encoder.encode(text)[0].at(row) for row, text in enumerate(TEXTS)]
    batch = make_batch(encoder, task, windows)
    with torch.inference_mode():
        logits = module(**{key: torch.from_numpy(value) for key, value in batch.inputs.items()})["logits"]
        for row, window in enumerate(windows):
            inputs: dict[str, Any] = {"input_ids": torch.from_numpy(window.inputs["input_ids"])[None]}
            if getattr(module, "positions", False):
                # Upstream counts RoBERTa's positions by the padding's id, which is not that of the tokenizer of bytes.
                inputs["position_ids"] = torch.arange(window.length)[None] + getattr(module, "first_position", 0)
            alone = module.net(**inputs).logits[0]
            ours = (
                logits[row]
                if logits.dim() == 2
                else logits[row][-window.length :]
                if side == "left"
                else logits[row][: window.length]
            )
            torch.testing.assert_close(ours, alone, rtol=0, atol=1e-5)
