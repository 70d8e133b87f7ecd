"""Images, recordings and JSON that are damaged, or larger than their file: one InputError, in little time."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from zoo.errors import InputError
from zoo.modalities import recordings
from zoo.modalities.audio import AudioEncoder
from zoo.modalities.image import ImageEncoder
from zoo.spec import AudioInput, ImageInput

IMAGE = ImageEncoder(ImageInput(size=(8, 8), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)))
AUDIO = AudioEncoder(AudioInput(sampling_rate=16_000))


# ----------------------------------------------------------------------------------------------------------- images


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, data: bytes = b"", before: bytes = b"") -> bytes:
    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def written(format: str, **options: Any) -> bytes:
    picture = Image.fromarray(np.arange(48 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(32, 48, 3))
    file = io.BytesIO()
    picture.save(file, format, **options)
    return file.getvalue()


def bmp(width: int, height: int, bits: int = 24) -> bytes:
    return b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, width, height, 1, bits, 0, 0, 0, 0, 0, 0)


def gif(width: int, height: int) -> bytes:
    frame = b"," + struct.pack("<HHHHB", 0, 0, width, height, 0) + b"\x02\x02\x44\x01\x00;"
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00" + frame


def tiff(*entries: tuple[int, int, int, int]) -> bytes:
    body = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\x00\x08\x00\x00\x00" + struct.pack("<H", len(entries)) + body + bytes(4)


def ico(inner: bytes, size: int = 16) -> bytes:
    return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", size, size, 0, 0, 1, 32, len(inner), 22) + inner


def text_bomb() -> bytes:
    packed = zlib.compress(bytes(70_000_000), 9)
    return chunk(b"zTXt", b"Comment\x00\x00" + packed)


def profile_bomb() -> bytes:
    return chunk(b"iCCP", b"x\x00\x00" + zlib.compress(bytes(70_000_000), 9))


ROWS = zlib.compress(bytes(33 * 25), 9)
IMAGES: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\x89",
    "text": lambda: b"<svg onload='evil()'>",
    "an SVG that names a file": lambda: b"<svg><image href='file:///etc/passwd'/></svg>",
    "PostScript": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) (r) file\n",
    "a PDF": lambda: b"%PDF-1.4\n1 0 obj\n<< /JS (evil) >>",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch /tmp/hacked'\ntR.",
    "ImageMagick's own language": lambda: b"push graphic-context\nfill 'url(https://x/|touch /tmp/hacked)'\n",
    "FlashPix": lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000),
    "a TGA": lambda: bytes([0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 8, 0, 24, 0]) + bytes(192),
    "a PNG of four billion pixels a side": lambda: png(0xFFFF_FFFF, 0xFFFF_FFFF),
    "a PNG of two billion pixels a side": lambda: png(0x7FFF_FFFF, 0x7FFF_FFFF),
    "a PNG of 100,000 a side": lambda: png(100_000, 100_000),
    "a PNG of one line": lambda: png(0x7FFF_FFFF, 1),
    "a PNG of no side": lambda: png(0, 8),
    "a PNG of no data": lambda: png(8, 8),
    "a PNG of too little data": lambda: png(8, 8, data=ROWS[:4]),
    "a PNG of noise": lambda: png(8, 8, data=b"\xff" * 100),
    "a PNG of an unknown depth": lambda: png(8, 8, depth=99, data=ROWS),
    "a PNG of an unknown colour": lambda: png(8, 8, colour=77, data=ROWS),
    "a PNG with a bomb of text": lambda: png(8, 8, data=zlib.compress(bytes(8 * 25)), before=text_bomb()),
    "a PNG with a bomb of a profile": lambda: png(8, 8, data=zlib.compress(bytes(8 * 24)), before=profile_bomb()),
    "a PNG with a bomb as pixels": lambda: png(20_000, 20_000, data=zlib.compress(bytes(10_000_000), 9)),
    "a PNG cut off": lambda: written("PNG")[:60],
    "a PNG without its end": lambda: written("PNG")[:-30],
    "a PNG with a wrong sum": lambda: written("PNG").replace(b"IDAT", b"IDAT\x01", 1),
    "a JPEG cut off": lambda: written("JPEG")[:300],
    "a JPEG of 65,535 a side": lambda: written("JPEG").replace(
        struct.pack(">HH", 32, 48), struct.pack(">HH", 65_535, 65_535), 1
    ),
    "a JPEG without tables": lambda: (
        b"\xff\xd8\xff\xc0\x00\x11\x08\x00\x08\x00\x08\x03\x01\x22\x00\x02\x11\x01\x03\x11\x01\xff\xd9"
    ),
    "a JPEG of markers": lambda: b"\xff\xd8" + b"\xff\xe1\x00\x02" * 10_000 + b"\xff\xd9",
    "a WebP cut off": lambda: written("WEBP")[:60],
    "a WebP of 16,383 a side": lambda: b"RIFF\x1e\x00\x00\x00WEBPVP8L\x11\x00\x00\x00\x2f\xff\xff\xff\x0f" + bytes(12),
    "a GIF of 65,535 a side": lambda: gif(65_535, 65_535),
    "a GIF without a frame": lambda: b"GIF89a" + struct.pack("<HH", 8, 8) + b"\x00\x00\x00;",
    "a GIF cut off": lambda: written("GIF")[:40],
    "a BMP of two billion a side": lambda: bmp(0x7FFF_FFFF, 0x7FFF_FFFF),
    "a BMP of a negative side": lambda: bmp(-8, 8),
    "a BMP of no data": lambda: bmp(8, 8),
    "a BMP of 77 bits": lambda: bmp(8, 8, 77),
    "a TIFF of two billion a side": lambda: tiff((256, 4, 1, 0x7FFF_FFFF), (257, 4, 1, 0x7FFF_FFFF)),
    "a TIFF that begins at its end": lambda: b"II*\x00\xff\xff\xff\xff",
    "a TIFF of itself": lambda: b"II*\x00\x00\x00\x00\x00",
    "a TIFF of 65,535 entries": lambda: b"II*\x00\x08\x00\x00\x00\xff\xff" + bytes(100),
    "a TIFF of a gigabyte of strips": lambda: tiff(
        (256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 0xFFFF_FF00),
        (277, 3, 1, 1), (278, 4, 1, 8), (279, 4, 1, 0x7FFF_FFFF),
    ),
    "a TIFF of a tag without end": lambda: tiff((256, 4, 0xFFFF_FFFF, 8), (257, 4, 1, 8)),
    "a PPM of a billion a side": lambda: b"P6 1000000000 1000000000 255\n",
    "a PPM of many digits": lambda: b"P6 " + b"9" * 100_000 + b" 1 255\n",
    "a PPM of no data": lambda: b"P6 8 8 255\n",
    "a PPM of a comment without end": lambda: b"P6 #" + b"x" * 50_000,
    "an icon of a giant": lambda: ico(png(100_000, 100_000)),
    "an icon of nothing": lambda: ico(b""),
    "an icon of 65,535 icons": lambda: struct.pack("<HHH", 0, 1, 65_535) + bytes(64),
    "a JPEG 2000 of four billion": lambda: (
        b"\xff\x4f\xff\x51\x00\x2f\x00\x00"
        + struct.pack(">IIIIIIII", *[0xFFFF_FFFF] * 2, 0, 0, *[0xFFFF_FFFF] * 2, 0, 0)
        + b"\x00\x03\x07\x01\x01\x07\x01\x01\x07\x01\x01"
    ),
    "an AVIF of nothing": lambda: b"\x00\x00\x00\x1cftypavif\x00\x00\x00\x00avifmif1miaf" + bytes(64),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_a_hostile_image(tmp_path: Path, name: str) -> None:
    content = IMAGES[name]()
    (tmp_path / "a.png").write_bytes(content)
    for raw in (content, tmp_path / "a.png", {"bytes": content, "path": None}, io.BytesIO(content)):
        with pytest.raises(InputError) as caught:
            IMAGE.encode(raw)
        assert len(str(caught.value)) < 1000


GOOD = [written(name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "JPEG2000", "ICO", "AVIF")]
GOOD.append(written("TIFF", compression="tiff_lzw"))
CHANGES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=12)


def changed(content: bytes, changes: list[tuple[float, int]], keep: float) -> bytes:
    found = bytearray(content)
    for place, byte in changes:
        found[min(int(place * len(found)), len(found) - 1)] = byte
    return bytes(found[: max(1, int(len(found) * keep))])


@settings(max_examples=250, deadline=None)
@given(which=st.sampled_from(range(len(GOOD))), changes=CHANGES, keep=st.sampled_from([1, 1, 1, 0.9, 0.5, 0.1]))
def test_any_bytes_are_an_image_or_an_input_error(which: int, changes: list[tuple[float, int]], keep: float) -> None:
    try:
        [example] = IMAGE.encode(changed(GOOD[which], changes, keep))
    except InputError:
        return
    assert example.inputs["pixel_values"].shape == (3, 8, 8)


# ------------------------------------------------------------------------------------------------------- recordings


def sound(
    format: str, subtype: str | None = None, *, rate: int = 16_000, channels: int = 1, frames: int = 4000
) -> bytes:
    wave = np.sin(np.arange(frames * channels, dtype=np.float32).reshape(frames, channels) / 20) / 2
    file = io.BytesIO()
    soundfile.write(file, wave, rate, format=format, subtype=subtype)
    return file.getvalue()


def wav(
    rate: int, channels: int, *, bits: int = 16, kind: int = 1, said: int | None = None, data: bytes = bytes(8000)
) -> bytes:
    block = channels * bits // 8
    body = b"fmt " + struct.pack(
        "<IHHIIHH", 16, kind, channels & 0xFFFF, rate & 0xFFFF_FFFF, (rate * block) & 0xFFFF_FFFF, block & 0xFFFF, bits
    )
    body += b"data" + struct.pack("<I", len(data) if said is None else said) + data
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WAVE" + body


def flac(rate: int, channels: int, frames: int) -> bytes:
    """A header alone: STREAMINFO says what it likes."""
    packed = (rate << 44) | ((channels - 1) << 41) | (15 << 36) | frames
    info = struct.pack(">HH", 4096, 4096) + bytes(6) + packed.to_bytes(8, "big") + bytes(16)
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info + b"\xff\xf8\xc9\x08\x00" + bytes(200)


def silence(rate: int, seconds: int) -> bytes:
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format="FLAC", subtype="PCM_16") as out:
        block = np.zeros(rate * 60, dtype=np.int16)
        for _ in range(seconds // 60):
            out.write(block)
    return file.getvalue()


SOUNDS: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"R",
    "text": lambda: b"no sound at all",
    "a pickle": lambda: b"\x80\x04cos\nsystem\n(S'touch /tmp/hacked'\ntR.",
    "a playlist": lambda: b"#EXTM3U\nhttps://example.org/evil.mp3\nfile:///etc/passwd\n",
    "a playlist of segments": lambda: b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "an image": lambda: written("PNG"),
    "a WAV of a header alone": lambda: wav(16_000, 1)[:44],
    "half of a WAV": lambda: sound("WAV")[:4000],
    "a WAV of no channels": lambda: wav(16_000, 0),
    "a WAV of 65,535 channels": lambda: wav(16_000, 65_535),
    "a WAV of 1,000 channels": lambda: wav(16_000, 1000, data=bytes(20_000)),
    "a WAV of no rate": lambda: wav(0, 1),
    "a WAV of one hertz": lambda: wav(1, 1),
    "a WAV of four gigahertz": lambda: wav(0xFFFF_FFFF, 1),
    "a WAV of no bits": lambda: wav(16_000, 1, bits=0),
    "a WAV of 65,535 bits": lambda: wav(16_000, 1, bits=65_535),
    "a WAV of an unknown kind": lambda: wav(16_000, 1, kind=0x7777),
    "a WAV of four gigabytes": lambda: wav(16_000, 1, said=0xFFFF_FFF0)[:44] + bytes(2),
    "a WAV of infinities": lambda: wav(16_000, 1, bits=32, kind=3, data=b"\x00\x00\x80\x7f" * 2000),
    "a WAV of no numbers": lambda: wav(16_000, 1, bits=32, kind=3, data=b"\x00\x00\xc0\x7f" * 2000),
    "a WAV as loud as can be": lambda: wav(16_000, 1, bits=32, kind=3, data=b"\xff\xff\x7f\x7f" * 2000),
    "a WAV without a format": lambda: b"RIFF\x10\x00\x00\x00WAVEdata\x04\x00\x00\x00\x00\x00\x00\x00",
    "a WAV of pieces": lambda: b"RIFF\xff\xff\xff\x7fWAVE" + b"junk\x00\x00\x00\x00" * 10_000,
    "a WAV of a piece of itself": lambda: b"RIFF\x00\x00\x00\x00WAVE" + b"LIST\xff\xff\xff\xff" * 100,
    "a FLAC of days": lambda: flac(16_000, 1, (1 << 36) - 1),
    "a FLAC of 655 kilohertz": lambda: flac(655_350, 8, (1 << 36) - 1),
    "a FLAC of no rate": lambda: flac(0, 1, 1000),
    "a FLAC of no frames": lambda: flac(16_000, 1, 0),
    "half of a FLAC": lambda: sound("FLAC")[:1500],
    "a FLAC of more than four hours": lambda: silence(1000, 4 * 3600 + 60),
    "half of an OGG": lambda: sound("OGG", "VORBIS")[:3000],
    "an OGG of pages": lambda: b"OggS\x00\x02" + bytes(20) + b"\x01\x1e\x01vorbis" + b"\xff" * 23,
    "an MP3 of noise": lambda: b"\xff\xfb\x90\x00" + bytes(20),
    "an ID3 of a gigabyte": lambda: b"ID3\x04\x00\x00\x7f\x7f\x7f\x7f" + bytes(100),
    "an AIFF of two billion channels": lambda: (
        b"FORM\x00\x00\x00\x2eAIFFCOMM\x00\x00\x00\x12" + b"\xff" * 6 + b"\x00\x10" + b"\x40\x0e\xff" * 4
    ),
    "an AU of four gigabytes": lambda: b".snd" + struct.pack(">IIIII", 24, 0xFFFF_FFFE, 3, 16_000, 1024) + bytes(64),
    "a CAF of nothing": lambda: b"caff\x00\x01\x00\x00desc" + b"\xff" * 64,
    "three milliseconds": lambda: sound("WAV", frames=50),
    "no samples": lambda: sound("WAV", frames=0),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUNDS)
def test_a_hostile_recording(tmp_path: Path, name: str) -> None:
    content = SOUNDS[name]()
    (tmp_path / "a.wav").write_bytes(content)
    for raw in (content, tmp_path / "a.wav", {"bytes": content}):
        with pytest.raises(InputError) as caught:
            AUDIO.encode(raw)
        assert len(str(caught.value)) < 1000


def test_a_recording_of_more_samples_than_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four hours at the highest rate are 44 GB; the limit is of samples, then."""
    monkeypatch.setattr(recordings, "MAX_SAMPLES", 100_000)
    assert len(AUDIO.encode(sound("FLAC", rate=96_000, frames=99_000))) == 1
    with pytest.raises(InputError, match="100,000 samples"):
        AUDIO.encode(sound("FLAC", rate=96_000, frames=101_000))


SOUND = [sound("WAV"), sound("WAV", "FLOAT"), sound("WAV", "PCM_24", channels=2), sound("FLAC"), sound("OGG", "VORBIS"),
         sound("MP3"), sound("AIFF"), sound("WAV", "MS_ADPCM"), sound("AU")]  # fmt: skip


@settings(max_examples=250, deadline=None)
@given(which=st.sampled_from(range(len(SOUND))), changes=CHANGES, keep=st.sampled_from([1, 1, 1, 0.9, 0.5, 0.1]))
def test_any_bytes_are_a_recording_or_an_input_error(which: int, changes: list[tuple[float, int]], keep: float) -> None:
    # Most of a file is samples, which may be anything: the head is where it hurts.
    heads = [(place * place * 0.05, byte) for place, byte in changes]
    try:
        windows = AUDIO.encode(changed(SOUND[which], heads, keep))
    except InputError:
        return
    assert all(np.isfinite(window.inputs["input_values"]).all() for window in windows)
