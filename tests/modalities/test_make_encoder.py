"""Which encoder a spec gets, and that none of them brings torch along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import SpecError
from zoo.modalities import make_encoder
from zoo.modalities.audio import AudioEncoder
from zoo.modalities.byte_tokenizers import byte_tokenizer
from zoo.modalities.image import ImageEncoder
from zoo.modalities.text import TextEncoder
from zoo.spec import AudioInput, ImageInput, ModelSpec, TextInput


def spec(modality: Any, input: Any, **config: Any) -> ModelSpec:
    return ModelSpec(
        name="x",
        modality=modality,
        tasks=("feature-extraction",),
        backend="transformers",
        architecture="x",
        input=input,
        config=config,
    )


TEXT = TextInput(max_length=8)


def test_by_kind() -> None:
    image = ImageInput(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert isinstance(make_encoder(spec("vision", image)), ImageEncoder)
    assert isinstance(make_encoder(spec("audio", AudioInput(sampling_rate=16_000))), AudioEncoder)
    assert isinstance(make_encoder(spec("text", TEXT), tokenizer=byte_tokenizer(style="bert")), TextEncoder)


def test_text_from_a_folder(tmp_path: Path) -> None:
    make_encoder(spec("text", TEXT), tokenizer=byte_tokenizer(style="gpt")).save(tmp_path)
    again = make_encoder(spec("text", TEXT), folder=tmp_path)
    assert isinstance(again, TextEncoder)
    assert again.vocab_size == 257


def test_the_files_own_truncation_and_padding_are_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a copy, which takes longer than reading: nobody else has what was read from the folder."""
    tokenizer = byte_tokenizer(style="bert")
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=8, pad_id=3)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    whole = spec("text", TextInput(max_length=64))
    with monkeypatch.context() as patch:
        patch.setattr("zoo.modalities.tokenizing.Tokenizer.from_str", None)
        read = make_encoder(whole, folder=tmp_path)
    given = make_encoder(whole, tokenizer=tokenizer)
    assert (tokenizer.truncation["max_length"], tokenizer.padding["length"]) == (4, 8)
    for encoder in (read, given):
        assert isinstance(encoder, TextEncoder)
        assert encoder.pad_id == 3
        assert [encoder.encode(text)[0].length for text in ("a", "abcdefgh")] == [3, 10]


def test_text_without_a_tokenizer(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="needs a tokenizer"):
        make_encoder(spec("text", TEXT))
    with pytest.raises(SpecError, match=r"holds no tokenizer\.json"):
        make_encoder(spec("text", TEXT), folder=tmp_path)


@pytest.mark.parametrize(
    ("config", "pad", "eos"),
    [
        ({}, 256, 256),
        ({"pad_token_id": 7, "eos_token_id": [9, 10]}, 7, 9),
        ({"pad_token_id": None, "eos_token_id": []}, 256, 256),
    ],
)
def test_the_configurations_tokens(config: dict[str, Any], pad: int, eos: int) -> None:
    found = make_encoder(spec("text", TEXT, **config), tokenizer=byte_tokenizer(style="gpt"))
    assert isinstance(found, TextEncoder)
    assert (found.pad_id, found.eos_id) == (pad, eos)


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, zoo.modalities, zoo.modalities.text, zoo.modalities.image, zoo.modalities.audio\n"
        "heavy = {'torch', 'transformers', 'timm', 'torchvision', 'torchaudio', 'soundfile', 'soxr', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
