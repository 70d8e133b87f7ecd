"""Log-mel features against transformers' feature extractors and torchaudio, on synthetic and on real sound."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from msgspec import structs

from zoo.errors import InputError, SpecError
from zoo.modalities import make_encoder, mel
from zoo.modalities.audio import AudioSource
from zoo.modalities.base import Array
from zoo.modalities.spectrogram import MelEncoder, samples_seen
from zoo.spec import MelInput, ModelSpec

RATE = 16_000
WHISPER = MelInput(sampling_rate=RATE, layout="whisper", bins=80, frames=3000)
AST = MelInput(sampling_rate=RATE, layout="kaldi", bins=128, frames=1024, mean=-4.2677393, std=4.5689974)


def sounds() -> dict[str, Array]:
    rng = np.random.default_rng(0)
    time = np.arange(int(3.3 * RATE)) / RATE
    chirp = 0.4 * np.sin(2 * np.pi * (100 + 900 * time) * time) + rng.normal(0, 0.01, time.shape)
    return {
        "chirp": chirp.astype(np.float32),
        "noise": rng.uniform(-1, 1, 30 * RATE).astype(np.float32),
        "short": rng.normal(0, 0.1, 400).astype(np.float32),
        "click": np.eye(1, 5000, 2500, dtype=np.float32)[0],
        "ten seconds": rng.normal(0, 1e-3, 10 * RATE).astype(np.float32),
    }


def features(input: MelInput, wave: Any) -> Array:
    (example,) = MelEncoder(input).encode(wave)
    found = example.inputs["input_features"]
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    return found


def upstream_whisper(wave: Array, bins: int) -> Array:
    from transformers import WhisperFeatureExtractor

    made = WhisperFeatureExtractor(feature_size=bins)(wave, sampling_rate=RATE, return_tensors="np")
    return np.asarray(made["input_features"][0])


def upstream_ast(wave: Array) -> Array:
    from transformers import ASTFeatureExtractor

    return np.asarray(ASTFeatureExtractor()(wave, sampling_rate=RATE, return_tensors="np")["input_values"][0])


@pytest.mark.parametrize("kind", sounds())
def test_equals_whispers_feature_extractor(kind: str) -> None:
    for bins in (80, 128):
        found = features(structs.replace(WHISPER, bins=bins), sounds()[kind])
        np.testing.assert_allclose(found, upstream_whisper(sounds()[kind], bins), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", [kind for kind in sounds() if kind != "noise"])
def test_equals_asts_feature_extractor(kind: str) -> None:
    """Upstream computes in float32: beside a loud tone its weak bins are up to 4e-4 from its own float64 answer."""
    import torch
    from torchaudio.compliance import kaldi

    wave = sounds()[kind]
    found = features(AST, wave)
    np.testing.assert_allclose(found, upstream_ast(wave), rtol=0, atol=5e-4 if kind == "chirp" else 1e-4)
    exact = kaldi.fbank(torch.from_numpy(wave).double()[None], window_type="hanning", num_mel_bins=128).numpy()
    np.testing.assert_allclose(found[: len(exact)], (exact - AST.mean) / (2 * AST.std), rtol=0, atol=1e-4)


def test_real_speech_gives_upstreams_features(shared_data: Path) -> None:
    files = sorted((shared_data / "librivox-pocketsphinx").rglob("*.wav"))[:4]
    assert files
    for file in files:
        wave, rate = soundfile.read(file, dtype="float32")
        assert rate == RATE
        wave = wave[: 10 * RATE]
        np.testing.assert_allclose(features(WHISPER, wave), upstream_whisper(wave, 80), rtol=0, atol=1e-4)
        np.testing.assert_allclose(features(AST, wave), upstream_ast(wave), rtol=0, atol=1e-4)


@pytest.mark.parametrize("layout", ["whisper", "kaldi"])
def test_silence_is_finite(layout: Any) -> None:
    found = features(MelInput(sampling_rate=RATE, layout=layout, bins=40, frames=100), np.zeros(8000))
    assert np.isfinite(found).all()
    assert len(np.unique(found[:40, :10])) == 1


@pytest.mark.parametrize("scale", ["slaney", "htk", "kaldi"])
@pytest.mark.parametrize("in_mels", [False, True])
def test_filters_are_transformers(scale: Any, in_mels: bool) -> None:
    from transformers.audio_utils import mel_filter_bank

    found = mel.mel_filters(
        513, 64, rate=48_000, low=50.0, high=14_000.0, scale=scale, slaney_norm=not in_mels, in_mels=in_mels
    )
    expected = mel_filter_bank(513, 64, 50.0, 14_000.0, 48_000, None if in_mels else "slaney", scale, in_mels)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    hertz = np.array([0.0, 300.0, 1000.0, 9000.0])
    np.testing.assert_allclose(mel.to_hertz(mel.to_mel(hertz, scale), scale), hertz, atol=1e-9)


def test_power_of_a_tone_is_at_its_frequency() -> None:
    wave = np.sin(2 * np.pi * 1000 * np.arange(4000) / RATE)
    power = mel.power_frames(wave, mel.hann(400), 160)
    assert power.shape == (4000 // 160 + 1, 201)
    assert set(power[5:20].argmax(axis=1)) == {1000 * 400 // RATE}


def test_long_recordings_are_cut_into_equal_windows() -> None:
    encoder = MelEncoder(WHISPER)
    windows = encoder.encode(np.zeros(70 * RATE, dtype=np.float32), overlap=1 / 6)
    assert [window.windows for window in windows] == [3, 3, 3]
    assert len({window.length for window in windows}) == 1
    assert windows[0].length <= samples_seen(WHISPER) == 30 * RATE
    sources = [window.source for window in windows]
    assert all(isinstance(source, AudioSource) and source.samples == 70 * RATE for source in sources)
    assert sources[-1].start + windows[-1].length == 70 * RATE
    assert encoder.collate(windows)["input_features"].shape == (3, 80, 3000)
    assert samples_seen(AST) == 1023 * 160 + 400
    assert len(MelEncoder(AST).encode(np.zeros(samples_seen(AST), dtype=np.float32))) == 1


def test_what_is_no_sound_is_refused() -> None:
    encoder = MelEncoder(WHISPER)
    with pytest.raises(InputError, match="At least 25 ms"):
        encoder.encode(np.zeros(10))
    with pytest.raises(InputError, match="not all finite"):
        encoder.encode(np.full(9000, np.nan))
    with pytest.raises(InputError, match="nothing is fetched"):
        encoder.encode("https://example.org/a.wav")


def test_is_made_by_its_spec_and_travels() -> None:
    facts: dict[str, Any] = {"name": "x", "tasks": ("feature-extraction",), "backend": "transformers"}
    spec = ModelSpec(**facts, modality="audio", architecture="whisper", input=WHISPER)
    encoder = make_encoder(spec)
    again = pickle.loads(pickle.dumps(encoder))
    wave = sounds()["chirp"]
    np.testing.assert_array_equal(
        again.encode(wave)[0].inputs["input_features"], encoder.encode(wave)[0].inputs["input_features"]
    )
    assert ModelSpec.parse(spec.to_yaml()) == spec
    with pytest.raises(SpecError, match="takes input of kind 'image'"):
        spec.evolve(modality="vision")


@pytest.mark.parametrize("frames", [0, 1, 15, 16, 3000])
def test_no_product_of_filters_is_large_enough_for_threads(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    filters = mel.mel_filters(201, 80, rate=RATE, low=0.0, high=RATE / 2, scale="slaney")
    power = np.random.default_rng(0).random((frames, 201))
    asked: list[int] = []
    product = np.matmul

    def counted(left: Array, right: Array, **given: Any) -> Array:
        asked.append(left.shape[-2] * right.size)
        return np.asarray(product(left, right, **given))

    monkeypatch.setattr(mel.np, "matmul", counted)
    found = mel.through(power, filters)
    assert max(asked) <= 1 << 18
    np.testing.assert_allclose(found, power @ filters, rtol=1e-12)
