"""Sound in every form, against transformers' feature extractor, and everything that can be wrong with a recording."""

from __future__ import annotations

import io
import pickle
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from zoo.errors import ConfigError, InputError, SpecError
from zoo.modalities import recordings
from zoo.modalities.audio import AudioEncoder, AudioSource
from zoo.modalities.base import Array, Example
from zoo.spec import AudioInput

RATE = 16_000
PLAIN = AudioInput(sampling_rate=RATE, normalize=False)


def tone(seconds: float = 1.0, rate: int = RATE, hertz: float = 440.0, loud: float = 0.3) -> Array:
    time = np.arange(round(seconds * rate)) / rate
    return np.asarray(loud * np.sin(2 * np.pi * hertz * time), dtype=np.float32)


def saved(wave: Array, rate: int = RATE, format: str = "WAV", **options: Any) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=format, **options)
    return buffer.getvalue()


def wave_of(raw: Any, spec: AudioInput = PLAIN) -> Array:
    (example,) = AudioEncoder(spec).encode(raw)
    wave = example.inputs["input_values"]
    assert wave.dtype == np.float32
    assert wave.flags.c_contiguous
    assert wave.shape == (example.length,)
    mask = example.inputs["attention_mask"]
    assert mask.dtype == np.int64
    assert mask.shape == wave.shape
    assert mask.all()
    return wave


def refusal(raw: Any, spec: AudioInput = PLAIN) -> str:
    with pytest.raises(InputError) as caught:
        AudioEncoder(spec).encode(raw)
    return str(caught.value)


def test_every_form_gives_the_same_samples(tmp_path: Path) -> None:
    wave = tone()
    data = saved(wave, subtype="FLOAT")
    path = tmp_path / "ünïcode name.wav"
    path.write_bytes(data)
    consumed = io.BytesIO(data)
    consumed.read()
    with path.open("rb") as file:
        forms: list[Any] = [wave, wave.astype(np.float64), (wave, RATE), (wave.tolist(), float(RATE)), str(path), path]
        forms += [data, bytearray(data), memoryview(data), consumed, file, {"array": wave, "sampling_rate": RATE}]
        forms += [{"bytes": data, "path": None}, {"bytes": None, "path": str(path)}, {"path": path}]
        forms += [(wave[:, None], RATE), (wave[None, :], np.int64(RATE)), (np.stack([wave, wave]), RATE)]
        for form in forms:
            assert (wave_of(form) == wave).all(), type(form)


def test_takes_a_tensor_with_its_rate() -> None:
    torch = pytest.importorskip("torch")
    wave = tone()
    assert (wave_of((torch.from_numpy(wave)[None], RATE)) == wave).all()


@pytest.mark.parametrize(
    ("dtype", "scale", "tolerance"),
    [("int16", 2**15, 2e-5), (">i2", 2**15, 2e-5), ("int32", 2**31, 1e-7), ("int8", 2**7, 5e-3), ("float16", 1, 2e-4)],
)
def test_dtypes(dtype: str, scale: int, tolerance: float) -> None:
    wave = tone()
    given = (wave * scale).astype(dtype) if scale > 1 else wave.astype(dtype)
    assert np.abs(wave_of(given) - wave).max() <= 2 * tolerance


def test_eight_unsigned_bits_are_around_128() -> None:
    wave = tone()
    assert np.abs(wave_of(np.rint(wave * 128 + 128).astype(np.uint8)) - wave).max() < 5e-3


def test_an_array_is_not_changed() -> None:
    wave = tone()
    before = wave.copy()
    first = AudioEncoder(AudioInput(sampling_rate=RATE)).encode(wave)[0]
    first.inputs["input_values"][:] = 0
    AudioEncoder(PLAIN).encode(wave)[0].inputs["input_values"][:] = 0
    assert (wave == before).all()


def test_channels_are_averaged() -> None:
    left, right = tone(hertz=300), tone(hertz=700)
    data = saved(np.stack([left, right], axis=1), subtype="FLOAT")
    assert np.allclose(wave_of(data), (left + right) / 2, atol=1e-7)
    assert np.allclose(wave_of((np.stack([left, right]), RATE)), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_rates(rate: int, channels: int) -> None:
    """A tone below every Nyquist frequency is the same tone at the model's rate."""
    given = np.repeat(tone(rate=rate)[:, None], channels, axis=1)
    for raw in (saved(given, rate, subtype="FLOAT"), (given, rate)):
        found = wave_of(raw)
        assert len(found) == RATE
        inner = slice(1000, -1000)
        assert np.abs(found[inner] - tone()[inner]).max() < 1e-3


def test_resampling_keeps_out_what_the_rate_cant_hold() -> None:
    loud = np.abs(wave_of((tone(rate=48_000, hertz=10_000), 48_000))[1000:-1000]).max()
    assert loud < 1e-3


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "MP3", "AIFF", "AU"])
def test_formats(format: str) -> None:
    data = saved(tone(), format=format)
    assert AudioEncoder(PLAIN).seconds(data) == pytest.approx(1.0, abs=0.01)
    found = wave_of(data)
    assert abs(len(found) - RATE) < 0.01 * RATE
    assert found.std() == pytest.approx(tone().std(), rel=0.05)


@pytest.mark.parametrize("seconds", [0.05, 1.0, 3.3])
def test_normalizes_as_transformers(seconds: float) -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=True, return_attention_mask=True
    )
    random = np.random.default_rng(0)
    rows = [(random.normal(0.1, 0.2, round(part * seconds * RATE))).astype(np.float32) for part in (1.0, 0.7)]
    expected = extractor(rows, sampling_rate=RATE, padding=True, return_tensors="np")
    encoder = AudioEncoder(AudioInput(sampling_rate=RATE))
    batch = encoder.collate([window for row in rows for window in encoder.encode(row)])
    assert batch["input_values"].dtype == np.float32
    assert np.abs(batch["input_values"] - expected["input_values"]).max() < 1e-5
    assert (batch["attention_mask"] == expected["attention_mask"]).all()


def test_without_normalizing_equals_transformers() -> None:
    transformers = pytest.importorskip("transformers")
    extractor = transformers.Wav2Vec2FeatureExtractor(
        feature_size=1, sampling_rate=RATE, padding_value=0.0, do_normalize=False, return_attention_mask=True
    )
    rows = [tone(0.5), tone(0.3)]
    expected = extractor(rows, sampling_rate=RATE, padding=True, return_tensors="np")
    encoder = AudioEncoder(PLAIN)
    batch = encoder.collate([window for row in rows for window in encoder.encode(row)])
    assert (batch["input_values"] == expected["input_values"]).all()


def test_silence_stays_silence() -> None:
    assert not wave_of(np.zeros(RATE), AudioInput(sampling_rate=RATE)).any()


def covered(windows: list[Example], samples: int) -> None:
    """Windows are in order, of one size, and leave nothing out."""
    reached = 0
    for index, window in enumerate(windows):
        assert (window.window, window.windows) == (index, len(windows))
        assert window.source.samples == samples
        assert window.source.start <= reached
        reached = window.source.start + window.length
    assert reached == samples
    assert len({window.length for window in windows}) <= 2


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("seconds", [1.0, 2.0, 2.001, 4.0, 5.5, 61.7])
def test_long_recordings_are_cut_into_equal_windows(seconds: float, overlap: float) -> None:
    wave = tone(seconds)
    spec = AudioInput(sampling_rate=RATE, normalize=False, max_seconds=2.0)
    windows = AudioEncoder(spec).encode(wave, overlap=overlap)
    covered(windows, len(wave))
    for window in windows:
        assert window.length <= 2 * RATE
        assert window.length >= min(len(wave), RATE)
        start = window.source.start
        assert (window.inputs["input_values"] == wave[start : start + window.length]).all()
    if not overlap:
        assert sum(window.length for window in windows) - len(wave) < len(windows)
    for one, two in pairwise(windows):
        shared = one.source.start + one.length - two.source.start
        assert shared == pytest.approx(overlap * one.length, abs=0.2 * one.length)


def test_the_whole_recording_is_normalized_not_each_window() -> None:
    wave = np.concatenate([tone(2.0, loud=0.9), tone(2.0, loud=0.01)])
    loud, quiet = AudioEncoder(AudioInput(sampling_rate=RATE, max_seconds=2.0)).encode(wave)
    assert loud.inputs["input_values"].std() > 50 * quiet.inputs["input_values"].std()


@pytest.mark.parametrize("overlap", [-0.1, 0.91, float("nan")])
def test_overlap_out_of_range(overlap: float) -> None:
    with pytest.raises(ConfigError, match=r"from 0 to 0\.9"):
        AudioEncoder(PLAIN).encode(tone(), overlap=overlap)


def test_windows_that_no_model_could_take() -> None:
    with pytest.raises(SpecError, match="max_seconds"):
        AudioEncoder(AudioInput(sampling_rate=RATE, max_seconds=0.03))


def test_the_source_of_a_window() -> None:
    (window,) = AudioEncoder(PLAIN).encode((tone(rate=8000), 8000))
    assert window.source == AudioSource(samples=RATE, sampling_rate=RATE, start=0)


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_too_short(samples: int) -> None:
    assert "At least 25 ms" in refusal(tone()[:samples])
    assert "At least 25 ms" in refusal(saved(tone()[:samples]))
    assert ("it is empty" in refusal(tone()[:samples])) == (samples == 0)
    assert len(wave_of(tone()[:400])) == 400


@pytest.mark.parametrize("shape", [(0, 2), (2, 0), (0, 1)])
def test_no_samples_in_channels(shape: tuple[int, int]) -> None:
    assert "it is empty" in refusal((np.zeros(shape), RATE))


@pytest.mark.parametrize(
    ("format", "share"),
    # The half of an OGG stream is a stream: nothing in it states a length.
    [("WAV", 0.02), ("WAV", 0.5), ("FLAC", 0.02), ("FLAC", 0.5), ("MP3", 0.02), ("MP3", 0.5), ("OGG", 0.02)],
)
def test_a_file_that_was_cut_off_is_refused_by_its_path(format: str, share: float, tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)
    data = saved(noisy, format=format)
    path = tmp_path / f"cut.{format.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    assert str(path) in refusal(path)
    assert "bytes" in refusal(path.read_bytes())


def test_a_wav_written_to_a_pipe_states_no_size() -> None:
    data = bytearray(saved(tone()))
    for size in (0xFFFF_FFFF, 0x7FFF_FFFF):
        data[4:8] = data[40:44] = size.to_bytes(4, "little")
        assert len(wave_of(bytes(data))) == RATE


@pytest.mark.parametrize("format", ["WAV", "FLAC", "OGG", "AIFF", "CAF", "W64"])
def test_damage_anywhere_is_an_input_error_or_a_sound(format: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = saved(tone(0.2), format=format)
    encoder = AudioEncoder(PLAIN)
    for seed in range(60):
        damaged, random = bytearray(data), np.random.default_rng(seed)
        for place in random.integers(min(len(data), 300) if seed % 2 else len(data), size=6):
            damaged[place] = random.integers(256)
        try:
            encoder.encode(bytes(damaged))
        except InputError:
            continue
    assert "Traceback" not in capfd.readouterr().err


def test_a_header_that_promises_days(monkeypatch: pytest.MonkeyPatch) -> None:
    data = bytearray(saved(tone(), format="FLAC"))
    place = data.index(b"fLaC") + 8 + 13
    data[place] |= 0x0F
    data[place + 1 : place + 5] = b"\xff" * 4
    assert "longer than 4 hours" in refusal(bytes(data))


def test_a_recording_that_is_too_long_is_not_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recordings, "MAX_HOURS", 1 / 3600)
    assert len(wave_of(saved(tone(1.0)))) == RATE
    assert "Cut it" in refusal(saved(tone(1.1)))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value: float) -> None:
    wave = tone()
    wave[123] = value
    assert "sample 123" in refusal(wave)
    assert "sample 123" in refusal(saved(wave, subtype="FLOAT"))


@pytest.mark.parametrize("rate", [0, -1, 999, 10**7, float("nan"), float("inf"), 8000.5, "x", None, True])
def test_other_rates(rate: Any) -> None:
    assert "sampling rate" in refusal((tone(), rate))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (np.zeros((1000, 2)), "(array, sampling_rate)"),
        ((np.zeros((60, 60)), RATE), "[samples, channels] or"),
        ((np.zeros((600, 500)), RATE), "[samples, channels] or"),
        ((np.zeros((6, 6, 6)), RATE), "no recording"),
        (np.full(1000, 32_000.0), "int16"),
        (np.zeros(1000, dtype=np.int64), "int64"),
        (np.zeros(1000, dtype=np.uint16), "uint16"),
        (np.zeros(1000, dtype=bool), "bool"),
        (np.zeros(1000, dtype=complex), "complex128"),
        ((["a", "b"], RATE), "no sound"),
        (([[1.0, 2.0], [3.0]], RATE), "no array of numbers"),
        (None, "NoneType"),
        (3.5, "float"),
        (("a.wav", RATE), "a.wav"),
        ({}, '"path"'),
        ({"array": np.zeros(1000)}, '"sampling_rate" too'),
        ({"bytes": None, "path": None}, '"path"'),
        (b"", "can't be decoded"),
        (b"hello" * 100, "WAV, FLAC, OGG and MP3"),
        ("missing.wav", "no file"),
        ("a\0b", "no file"),
        ("x" * 10_000, "name too long"),
        ("/dev/zero", "not a regular file"),
        ("https://x.org/a.wav", "network"),
        (io.StringIO("text"), "'rb'"),
    ],
)
def test_what_is_no_sound(raw: Any, reason: str) -> None:
    message = refusal(raw)
    assert reason in message
    assert len(message) < 400
    assert "BytesIO object" not in message


def test_headerless_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "x.raw").write_bytes(tone().tobytes())
    assert "samplerate must be specified" in refusal(tmp_path / "x.raw")
    assert "a folder" in refusal(tmp_path)


def test_seconds_reads_no_more_than_it_must(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.flac"
    path.write_bytes(saved(tone(2.5, rate=44_100), 44_100, "FLAC"))
    encoder = AudioEncoder(PLAIN)
    monkeypatch.setattr(soundfile.SoundFile, "read", None)
    assert encoder.seconds(path) == pytest.approx(2.5)
    assert encoder.seconds({"path": str(path), "bytes": None}) == pytest.approx(2.5)
    assert encoder.seconds(tone(1.5)) == pytest.approx(1.5)
    assert encoder.seconds((tone(1.5, rate=8000), 8000)) == pytest.approx(1.5)
    with pytest.raises(InputError, match="no file"):
        encoder.seconds("missing.wav")


def test_collate_describe_and_save(tmp_path: Path) -> None:
    encoder = AudioEncoder(PLAIN)
    batch = encoder.collate([*encoder.encode(tone(0.5)), *encoder.encode(tone(0.25))])
    assert batch["input_values"].shape == batch["attention_mask"].shape == (2, 8000)
    assert batch["attention_mask"].dtype == np.int64
    assert batch["attention_mask"].sum(axis=1).tolist() == [8000, 4000]
    assert not batch["input_values"][1, 4000:].any()
    assert encoder.describe("a/b.wav") == "a/b.wav"
    assert encoder.describe(b"123") == "a recording of 3 bytes"
    assert encoder.describe((tone(), RATE)) == "an array [16000] of float32 at 16000 Hz"
    assert encoder.describe({"path": "x.wav"}) == "x.wav"
    assert encoder.describe(None) == "a NoneType"
    encoder.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_threads_and_pickle() -> None:
    encoder = pickle.loads(pickle.dumps(AudioEncoder(PLAIN)))
    data = saved(tone(rate=44_100), 44_100, "FLAC")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: encoder.encode(data)[0].inputs["input_values"], range(32)))
    assert all((one == found[0]).all() for one in found)


def test_real_recordings(shared_data: Path) -> None:
    files = sorted((shared_data / "free-spoken-digit" / "recordings").glob("*.wav"))[:20]
    assert files
    encoder = AudioEncoder(AudioInput(sampling_rate=RATE))
    for path in files:
        (window,) = encoder.encode(path)
        wave = window.inputs["input_values"]
        assert len(wave) == pytest.approx(encoder.seconds(path) * RATE, abs=2)
        assert abs(wave.mean()) < 1e-4
        assert wave.std() == pytest.approx(1, abs=1e-2)


def test_a_file_name_that_is_not_utf8_is_read_and_its_message_can_be_printed(tmp_path: Path) -> None:
    import os

    name = os.path.join(os.fsencode(tmp_path), b"caf\xe9.wav")
    soundfile.write(name, np.zeros(8000, dtype=np.float32) + 0.1, 16000, format="WAV")
    encoder = AudioEncoder(AudioInput(sampling_rate=16000))
    assert encoder.encode(os.fsdecode(name))[0].length == 8000
    with pytest.raises(InputError) as caught:
        encoder.encode(os.fsdecode(name) + "x")
    str(caught.value).encode("utf-8")
