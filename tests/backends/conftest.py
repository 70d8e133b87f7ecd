"""Tiny specs of every backend, and ragged batches for them."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from zoo.spec import AudioInput, ImageInput, ModelSpec, TextInput

BERT = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "vocab_size": 300,
    "max_position_embeddings": 66,
}
TEXT: dict[str, dict[str, Any]] = {
    "bert": BERT,
    "roberta": BERT,
    "albert": {**BERT, "embedding_size": 16},
    "distilbert": {
        "dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 37, "vocab_size": 300, "max_position_embeddings": 66,
    },
    "gpt2": {
        "n_embd": 32, "n_layer": 2, "n_head": 2, "vocab_size": 300, "n_positions": 66, "bos_token_id": 0,
        "eos_token_id": 0,
    },
}  # fmt: skip
WAV2VEC2 = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 37,
    "conv_dim": [8] * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
TORCHAUDIO = {
    "extractor_mode": "group_norm",
    "extractor_conv_layer_config": [[8, 10, 5], *([8, 3, 2] for _ in range(4)), [8, 2, 2], [8, 2, 2]],
    "extractor_conv_bias": False,
    "encoder_embed_dim": 32,
    "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 16,
    "encoder_pos_conv_groups": 2,
    "encoder_num_layers": 2,
    "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0,
    "encoder_ff_interm_features": 37,
    "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0,
    "encoder_layer_norm_first": False,
    "encoder_layer_drop": 0.0,
}
PIXELS = ImageInput(size=(64, 64), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def text_spec(kind: str, **changes: Any) -> ModelSpec:
    return ModelSpec(
        name=kind,
        modality="text",
        tasks=("text-classification",),
        backend="transformers",
        architecture=kind,
        config={**TEXT[kind], **changes},
        input=TextInput(max_length=64),
    )


def audio_spec(kind: str, norm: str = "group", **changes: Any) -> ModelSpec:
    config = {**WAV2VEC2, "feat_extract_norm": norm, "do_stable_layer_norm": norm == "layer", **changes}
    return ModelSpec(
        name=kind,
        modality="audio",
        tasks=("audio-classification",),
        backend="transformers",
        architecture=kind,
        config=config,
        input=AudioInput(sampling_rate=16_000),
    )


def torchaudio_spec(**changes: Any) -> ModelSpec:
    return ModelSpec(
        name="speech",
        modality="audio",
        tasks=("audio-classification",),
        backend="torchaudio",
        architecture="wav2vec2_model",
        config={**TORCHAUDIO, **changes},
        input=AudioInput(sampling_rate=16_000),
    )


def image_spec(backend: str, architecture: str, **config: Any) -> ModelSpec:
    return ModelSpec(
        name="image",
        modality="vision",
        tasks=("image-classification",),
        backend=backend,  # type: ignore[arg-type]
        architecture=architecture,
        config=config,
        input=PIXELS,
    )


def ragged_tokens(lengths: tuple[int, ...] = (10, 6, 3), *, left: bool = False) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    longest = max(lengths)
    ids = torch.full((len(lengths), longest), 1)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        place = slice(longest - length, longest) if left else slice(0, length)
        ids[row, place] = torch.randint(3, 300, (length,), generator=generator)
        mask[row, place] = 1
    return {"input_ids": ids, "attention_mask": mask}


def ragged_sound(lengths: tuple[int, ...] = (9000, 5000, 2001)) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    values = torch.zeros(len(lengths), max(lengths))
    mask = torch.zeros(values.shape, dtype=torch.long)
    for row, length in enumerate(lengths):
        values[row, :length] = torch.randn(length, generator=generator)
        mask[row, :length] = 1
    return {"input_values": values, "attention_mask": mask}


def pixels(rows: int = 2, size: int = 64) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {"pixel_values": torch.randint(0, 256, (rows, 3, size, size), dtype=torch.uint8, generator=generator)}


def alone(batch: dict[str, torch.Tensor], row: int) -> dict[str, torch.Tensor]:
    """One row of a right-padded batch, without its padding."""
    length = int(batch["attention_mask"][row].sum())
    return {name: tensor[row : row + 1, :length] for name, tensor in batch.items()}


@pytest.fixture(autouse=True)
def _few_threads() -> None:
    torch.set_num_threads(2)
