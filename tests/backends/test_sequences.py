"""Encoder-decoder modules and their generation, against transformers' own forward and `generate`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers

from zoo.backends.sequences import CachedSequences
from zoo.backends.transformers.seq2seq import Seq2SeqModule
from zoo.spec import ModelSpec, TextInput
from zoo.tasks.sequences import Made, SequenceOptions, generate, settings

BART: dict[str, Any] = {
    "vocab_size": 60, "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 2,
    "decoder_attention_heads": 2, "encoder_ffn_dim": 37, "decoder_ffn_dim": 37, "max_position_embeddings": 64,
}  # fmt: skip
T5: dict[str, Any] = {"vocab_size": 60, "d_model": 32, "d_kv": 16, "d_ff": 37, "num_layers": 2, "num_heads": 2}
KINDS: dict[str, dict[str, Any]] = {
    "t5": {**T5, "decoder_start_token_id": 0},
    "mt5": {**T5, "decoder_start_token_id": 0},
    "bart": BART,
    "marian": {**BART, "pad_token_id": 59, "eos_token_id": 0, "decoder_start_token_id": 59},
    "mbart": {**BART, "decoder_start_token_id": 2},
    "m2m_100": BART,
    "pegasus": {**BART, "decoder_start_token_id": 0, "pad_token_id": 0, "eos_token_id": 1},
}
OPTIONS: list[dict[str, Any]] = [
    {},
    {"num_beams": 3},
    {"num_beams": 4, "length_penalty": 2.0, "early_stopping": True, "no_repeat_ngram_size": 2, "min_new_tokens": 5},
    {"num_beams": 3, "repetition_penalty": 1.7, "early_stopping": "never", "length_penalty": 0.5},
    {"no_repeat_ngram_size": 3, "repetition_penalty": 1.3, "forced_bos_token_id": 7, "forced_eos_token_id": 5},
    {"num_beams": 2, "forced_bos_token_id": 7, "forced_eos_token_id": 5, "bad_words_ids": [[8], [9, 10]],
     "suppress_tokens": [11, 12], "begin_suppress_tokens": [13, 14]},
    {"num_beams": 5, "length_penalty": -1.0},
]  # fmt: skip
LENGTHS = (9, 4, 6)


def make(kind: str, seed: int) -> Seq2SeqModule:
    torch.manual_seed(seed)
    config = transformers.AutoConfig.for_model(kind, **KINDS[kind])
    net = transformers.AutoModelForSeq2SeqLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in net.parameters():
            # Answers of small random weights hardly depend on what was read.
            parameter.mul_(3.0 if parameter.dim() > 1 else 1.0)
    spec = ModelSpec(
        name=kind, modality="text", tasks=("translation",), backend="transformers", architecture=kind,
        input=TextInput(max_length=32),
    )  # fmt: skip
    module: Seq2SeqModule = Seq2SeqModule(net, spec=spec, task="translation").eval()
    return module


def batch(pad: int) -> dict[str, torch.Tensor]:
    ids = torch.full((len(LENGTHS), max(LENGTHS)), pad)
    mask = torch.zeros_like(ids)
    for row, length in enumerate(LENGTHS):
        ids[row, :length] = torch.randint(15, 58, (length,))
        mask[row, :length] = 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("kind", KINDS)
def test_the_halves_are_upstream_s_forward_and_padding_changes_nothing(kind: str) -> None:
    module = make(kind, 0)
    inputs = batch(module.net.config.pad_token_id)
    tokens = torch.randint(15, 58, (3, 5))
    with torch.no_grad():
        together = module(decoder_input_ids=tokens, **inputs)["logits"]
        for row, length in enumerate(LENGTHS):
            alone = {name: tensor[row : row + 1, :length] for name, tensor in inputs.items()}
            expected = module.net(**alone, decoder_input_ids=tokens[row : row + 1], use_cache=False).logits
            scale = float(expected.abs().max())
            torch.testing.assert_close(together[row : row + 1], expected, rtol=0, atol=1e-5 * scale)


# Every option by one family, and two searches by each of the others.
CASES = [("bart", given) for given in OPTIONS] + [
    (kind, OPTIONS[index % len(OPTIONS)]) for i, kind in enumerate(KINDS) if kind != "bart" for index in (i, i + 3)
]


@pytest.mark.parametrize(("kind", "given"), CASES)
def test_tokens_are_those_of_generate_in_a_padded_batch_and_alone(kind: str, given: dict[str, Any]) -> None:
    module = make(kind, 0)
    config = module.net.config
    inputs = batch(config.pad_token_id)
    eos, start = config.eos_token_id, config.decoder_start_token_id
    module.net.generation_config = transformers.GenerationConfig(
        decoder_start_token_id=start, eos_token_id=eos, pad_token_id=config.pad_token_id
    )
    options: dict[str, Any] = {"max_new_tokens": 12, **given}
    theirs = module.net.generate(**inputs, return_dict_in_generate=True, output_scores=True, **options)
    ours = run(module, inputs, options, eos, start)
    for row in range(len(LENGTHS)):
        expected = theirs.sequences[row, 1:].tolist()
        expected = expected[: expected.index(eos)] if eos in expected else expected[:12]
        assert list(ours[row].tokens) == expected
        if "num_beams" in given:
            assert ours[row].score == pytest.approx(theirs.sequences_scores[row].item(), rel=1e-4, abs=1e-4)
    # The shortest one, which has the most padding beside the others.
    row = LENGTHS.index(min(LENGTHS))
    alone = {name: tensor[row : row + 1, : LENGTHS[row]] for name, tensor in inputs.items()}
    assert run(module, alone, options, eos, start)[0].tokens == ours[row].tokens


def run(module: Seq2SeqModule, inputs: Any, options: dict[str, Any], eos: int, start: int) -> list[Made]:
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    prompts = np.full((len(arrays["input_ids"]), 1), start, dtype=np.int64)
    chosen = settings(SequenceOptions(**options), {})
    return generate(CachedSequences(module, "cpu"), arrays, prompts, chosen, eos_id=eos)
