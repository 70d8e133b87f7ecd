"""Speech by VITS: upstream's waveform from the same noise, alone and in company, saved, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

import zoo
from tests.tiny import tiny
from zoo.cli.app import app
from zoo.errors import ConfigError, InputError, SpecError
from zoo.inference import make_batch
from zoo.results import Speech

VOCAB = {letter: index for index, letter in enumerate("k'z-_ abcdefghijlmnopqrstuvwxyß])^\\")}


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    found = zoo.load(tiny(zoo.info("mms-tts-eng")), weights=None, device="cpu", seed=0)
    import torch

    torch.manual_seed(0)
    for parameter in found.module.net.parameters():
        # Splines of zeros would be straight lines, and a comparison would find nothing.
        parameter.data += 0.05 * torch.randn_like(parameter)
    return found


def upstream(model: zoo.Model, text: str, monkeypatch: pytest.MonkeyPatch, **options: Any) -> np.ndarray:
    """What transformers' own forward says when it draws our noise."""
    import torch

    task: Any = model.task
    [example] = task.encode(model.encoder, text, task.parse_options(options))
    inputs = {
        name: torch.from_numpy(array) for name, array in make_batch(model.encoder, task, [example]).inputs.items()
    }
    net: Any = model.module.net
    drawn = inputs["noise"].reshape(1, -1, net.config.flow_size)
    # Upstream scales what it draws; ours is scaled already.
    net.noise_scale = net.noise_scale_duration = 1.0
    monkeypatch.setattr(torch, "randn", lambda *_, **__: inputs["duration_noise"].transpose(1, 2))
    monkeypatch.setattr(
        torch, "randn_like", lambda x: drawn[:, torch.arange(x.shape[2]) % drawn.shape[1]].transpose(1, 2)
    )
    with torch.inference_mode():
        found = net(inputs["input_ids"], inputs["attention_mask"], speaking_rate=float(inputs["speaking_rate"][0]))
    monkeypatch.undo()
    return np.asarray(found.waveform[0])


@pytest.mark.parametrize(
    ("text", "options"), [("hello", {}), ("a longer sentence to speak", {"seed": 5, "speaking_rate": 0.3}), ("y", {})]
)
def test_the_waveform_is_upstreams(
    model: zoo.Model, text: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = upstream(model, text, monkeypatch, **options)
    found = model.predict(text, **options)
    assert isinstance(found, Speech)
    assert found.waveform.dtype == np.float32
    assert found.waveform.shape == expected.shape
    np.testing.assert_allclose(found.waveform, expected, atol=1e-4)
    assert np.abs(found.waveform).max() > 0.01


def test_a_speech_that_outlasts_its_noise_begins_with_it_again(
    model: zoo.Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = model.predict("ab", speaking_rate=0.1)
    frames = len(slow.waveform) // 8
    assert frames > 5 * 16
    np.testing.assert_allclose(slow.waveform, upstream(model, "ab", monkeypatch, speaking_rate=0.1), atol=1e-4)


def test_a_row_sounds_the_same_alone_and_beside_a_longer_one(model: zoo.Model) -> None:
    texts = ["yes", "a much longer sentence than that", "no no"]
    for together, text in zip(model.predict(texts, batch_size=3), texts, strict=True):
        alone = model.predict(text)
        assert together.waveform.shape == alone.waveform.shape
        np.testing.assert_allclose(together.waveform, alone.waveform, atol=1e-4)


def test_the_seed_alone_decides(model: zoo.Model) -> None:
    first = model.predict("hello", seed=1)
    assert first == model.predict("hello", seed=1)
    assert first != model.predict("hello", seed=2)
    assert len(model.predict("hello", speaking_rate=0.2).waveform) > len(first.waveform)
    still = {"noise_scale": 0.0, "noise_scale_duration": 0.0}
    assert model.predict("hello", seed=1, **still) == model.predict("hello", seed=2, **still)


def test_a_speech_is_saved_and_shown(model: zoo.Model, tmp_path: Path) -> None:
    found = model.predict("hello")
    assert repr(found).startswith("Speech('hello', 0.0")
    wave, rate = soundfile.read(found.save(tmp_path / "x.wav"), dtype="float32")
    assert rate == found.sampling_rate == 16_000
    np.testing.assert_allclose(wave, found.waveform, atol=1e-4)
    plain = json.loads(json.dumps(found.to_dict()))
    assert set(plain) == {"text", "sampling_rate", "seconds", "audio"}
    with pytest.raises(ConfigError, match=r"name it x\.wav"):
        found.save(tmp_path / "x.txt")


def test_what_can_not_be_done_is_said(model: zoo.Model) -> None:
    with pytest.raises(ConfigError, match="is for prediction"):
        model.finetune([{"text": "a"}] * 4, val=None)
    with pytest.raises(ConfigError, match="is for prediction"):
        model.evaluate([{"text": "a"}])
    with pytest.raises(ConfigError, match="speaking_rate"):
        model.predict("a", speaking_rate=0)
    with pytest.raises(InputError, match="longer than the model can see"):
        model.predict("word " * 40)


def test_the_command_writes_sound_files(model: zoo.Model, tmp_path: Path) -> None:
    model.save(tmp_path / "voice")
    done = CliRunner().invoke(app, ["predict", str(tmp_path / "voice"), "hello", "--output", str(tmp_path / "h.wav")])
    assert done.exit_code == 0, done.output
    assert "s of speech, 16000 Hz" in done.output
    command = ["predict", str(tmp_path / "voice"), "你好 world/x", "你好 world/x", "--output", str(tmp_path / "all")]
    assert CliRunner().invoke(app, command).exit_code == 0
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["你好-world-x-2.wav", "你好-world-x.wav"]
    assert soundfile.info(tmp_path / "h.wav").samplerate == 16_000


@pytest.mark.parametrize("language", ["eng", "ron"])
def test_the_tokenizer_is_upstreams(language: str, tmp_path: Path) -> None:
    from transformers import VitsTokenizer

    from zoo.backends.transformers.vits_tokenizer import blank_of, characters, is_vits
    from zoo.modalities.text import TextEncoder
    from zoo.spec import TextInput
    from zoo.tasks.text_to_speech import _interspersed

    vocab = {**VOCAB, **({"ţ": len(VOCAB)} if language == "ron" else {}), "<unk>": len(VOCAB) + 1}
    (tmp_path / "vocab.json").write_text(json.dumps(vocab))
    said = {"add_blank": True, "normalize": True, "phonemize": False, "is_uroman": False, "language": language,
            "tokenizer_class": "VitsTokenizer"}  # fmt: skip
    theirs = VitsTokenizer(str(tmp_path / "vocab.json"), **said)
    assert is_vits(said)
    ours = TextEncoder(TextInput(max_length=600), characters(tmp_path, said))
    for text in ("Hello, World!", "  It's  a-b_c ]^\\) 1 Straße ț ", "KKK", "x\ny"):
        found = ours.tokenizer.encode(text, add_special_tokens=False).ids
        assert _interspersed(np.array(found, dtype=np.int64), blank_of(said)).tolist() == theirs(text)["input_ids"], (
            text
        )
    for change, message in (({"phonemize": True}, "phonemes"), ({"is_uroman": True}, "uroman")):
        with pytest.raises(SpecError, match=message):
            characters(tmp_path, {**said, **change})


def test_a_checkpoint_of_transformers_speaks(model: zoo.Model, tmp_path: Path) -> None:
    net: Any = model.module.net
    net.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(json.dumps(VOCAB))
    said = {"add_blank": True, "phonemize": False, "tokenizer_class": "VitsTokenizer"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(said))
    again = zoo.load(tmp_path, device="cpu")
    assert again.spec.tasks == ("text-to-speech",)
    assert again.predict("hello").seconds > 0
    with pytest.raises(InputError, match="no character"):
        again.predict("123")
