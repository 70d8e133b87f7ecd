"""Pairs of texts through the network: the second text's types reach it, and padding changes nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import tiny
from zoo.inference import make_batch


@pytest.mark.parametrize("name", ["bert-base-cased", "albert-base-v2", "roberta-base", "distilbert-base-uncased"])
def test_pairs_of_texts_answer_as_upstream_does(name: str) -> None:
    """Upstream's own forward on one pair at a time, against ours on a padded batch of pairs and of a single text."""
    model = zoo.load(tiny(zoo.info(name)), task="text-classification", labels=["a", "b"], weights=None, seed=0)
    for weights in model.module.net.parameters():
        weights.data *= 3  # random weights are so small that little depends on anything
    raws = [
        {"text": "who met whom", "text_pair": "Ada met Charles in the garden"},
        "alone",
        {"text": "a", "text_pair": "b"},
    ]
    windows = [model.task.encode(model.encoder, raw)[0] for raw in raws]
    ours = model.forward(make_batch(model.encoder, model.task, windows))["logits"]
    typed = name.startswith(("bert", "albert"))
    for window, logits in zip(windows, ours, strict=True):
        assert ("token_type_ids" in window.inputs) is typed
        inputs = {key: torch.from_numpy(array)[None] for key, array in window.inputs.items()}
        with torch.inference_mode():
            expected = model.module.net(**inputs).logits[0].numpy()
            if typed and window.source.pair:
                untyped = model.module.net(**{**inputs, "token_type_ids": torch.zeros_like(inputs["input_ids"])}).logits
                assert abs(untyped[0].numpy() - expected).max() > 1e-4, "the types change nothing"
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
