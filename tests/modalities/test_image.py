"""Images in every form, against timm's own transform, and everything that can be wrong with a file."""

from __future__ import annotations

import io
import pickle
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from zoo.errors import InputError
from zoo.modalities import image as module
from zoo.modalities.base import Array
from zoo.modalities.image import ImageEncoder
from zoo.spec import ImageInput

UNIT: Any = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
WHOLE = ImageInput(size=(32, 32), crop_pct=1.0, **UNIT)
LIBRARY_FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF", "JPEG2000")


def pixels(raw: Any, spec: ImageInput = WHOLE) -> Array:
    (example,) = ImageEncoder(spec).encode(raw)
    assert example.length == 1
    found = example.inputs["pixel_values"]
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert found.shape == (3, *spec.size)
    return found


def refusal(raw: Any) -> str:
    with pytest.raises(InputError) as caught:
        ImageEncoder(WHOLE).encode(raw)
    return str(caught.value)


def noise(height: int = 64, width: int = 64) -> Array:
    """Smooth RGB noise: what resizing does to it is neither nothing nor chance."""
    small = np.random.default_rng(0).integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def gray() -> Image.Image:
    """64 x 64, rising from 0 at the left to 255 at the right."""
    return Image.fromarray(np.tile(np.linspace(0, 255, 64).astype(np.uint8), (64, 1)))


def saved(image: Image.Image, format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "lanczos", "nearest"])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("size", [(224, 224), (64, 48)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
def test_equals_timms_evaluation(interpolation: Any, mode: Any, size: tuple[int, int], crop_pct: float) -> None:
    data = pytest.importorskip("timm.data")
    spec = ImageInput(size=size, interpolation=interpolation, crop_mode=mode, crop_pct=crop_pct, **UNIT)
    reference = data.create_transform(
        (3, *size), interpolation=interpolation, crop_mode=mode, crop_pct=crop_pct, **UNIT
    )
    for height, width in [(300, 400), (333, 1000), (50, 64), (257, 256)]:
        image = Image.fromarray(noise(height, width))
        expected = np.rint(reference(image).numpy() * 255).astype(int)
        difference = np.abs(expected - pixels(image, spec))
        # Of 255. Pillow holds the box of a crop in float32, so that some pixels round the other way.
        assert difference.mean() < 0.1 or interpolation == "nearest"
        assert difference.max() <= 2 or interpolation == "nearest"
        assert (difference > 0).mean() < 0.05


def test_equals_timms_reading_of_a_jpeg(tmp_path: Path) -> None:
    data = pytest.importorskip("timm.data")
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise(480, 640)).save(path, quality=90)
    spec = ImageInput(size=(224, 224), **UNIT)
    with Image.open(path) as image:
        expected = data.create_transform((3, 224, 224), interpolation="bicubic", crop_pct=0.875, **UNIT)(
            image.convert("RGB")
        )
    difference = np.abs(np.rint(expected.numpy() * 255).astype(int) - pixels(path, spec))
    assert difference.mean() < 0.1
    assert difference.max() <= 2


def test_every_form_gives_the_same_pixels(tmp_path: Path) -> None:
    image = Image.fromarray(noise())
    data = saved(image, "PNG")
    path = tmp_path / "ünïcode name.png"
    path.write_bytes(data)
    expected = pixels(image)
    consumed = io.BytesIO(data)
    consumed.read()
    with path.open("rb") as file:
        forms = [str(path), path, data, bytearray(data), memoryview(data), consumed, file, np.asarray(image)]
        forms += [{"bytes": data, "path": None}, {"bytes": None, "path": str(path)}, np.asarray(image).astype(np.int64)]
        forms += [np.asarray(image).transpose(2, 0, 1), (np.asarray(image) / 255).astype(np.float32)]
        for form in forms:
            assert (pixels(form) == expected).all(), type(form)


def test_takes_a_tensor() -> None:
    torch = pytest.importorskip("torch")
    values = noise()
    assert (pixels(torch.from_numpy(values.transpose(2, 0, 1).copy())) == pixels(values)).all()


def test_a_file_is_closed_and_can_be_removed(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(saved(Image.fromarray(noise()), "PNG"))
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        pixels(path)
    path.unlink()


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "HSV", "LA", "PA", "RGBX"])
def test_modes(mode: str) -> None:
    source = gray().convert("P").convert("PA") if mode == "PA" else gray().convert(mode)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(source).astype(int)
    if mode != "1":
        assert np.abs(found - pixels(gray()).astype(int)).max() <= 2
    assert abs(found.mean() - 127.5) < 2


def test_premultiplied_alpha() -> None:
    assert pixels(gray().convert("LA").convert("La")).shape == (3, 32, 32)
    assert pixels(gray().convert("RGBA").convert("RGBa")).shape == (3, 32, 32)


@pytest.mark.parametrize("format", ["JPEG", "TIFF"])
def test_cmyk_files(format: str) -> None:
    found = pixels(saved(gray().convert("RGB").convert("CMYK"), format)).astype(int)
    assert np.abs(found - pixels(gray()).astype(int)).max() <= 6


@pytest.mark.parametrize("format", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_not_clipped(format: str) -> None:
    deep = Image.fromarray(np.asarray(gray()).astype(np.uint16) * 257)
    assert (pixels(saved(deep, format)) == pixels(gray())).all()


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
def test_sixteen_bit_arrays(dtype: str) -> None:
    assert (pixels((np.asarray(gray()).astype(dtype) * 257).astype(dtype)) == pixels(gray())).all()


def test_integers_of_32_bits() -> None:
    deep = Image.fromarray(np.asarray(gray()).astype(np.int32) * 257)
    assert deep.mode == "I"
    assert (pixels(deep) == pixels(gray())).all()
    assert "0 to 65535" in refusal(Image.fromarray(np.full((8, 8), 70_000, dtype=np.int32)))


def test_floats_of_a_tiff_are_in_the_unit_interval() -> None:
    unit = Image.fromarray(np.asarray(gray()).astype(np.float32) / 255)
    assert (pixels(saved(unit, "TIFF")) == pixels(gray())).all()
    assert "[0, 1]" in refusal(gray().convert("F"))


@pytest.mark.parametrize("transparency", [bytes([0, 128, 255]), 0])
def test_palette_with_transparency(transparency: Any) -> None:
    palette = gray().convert("RGB").quantize(16)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = pixels(saved(palette, "PNG", transparency=transparency)).astype(int)
    assert np.abs(found - pixels(palette).astype(int)).max() == 0


@pytest.mark.parametrize("format", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_gives_its_first_frame(format: str) -> None:
    first, others = Image.new("RGB", (64, 64), (250, 0, 0)), [Image.new("RGB", (64, 64), (0, 0, 250))] * 2
    found = pixels(saved(first, format, save_all=True, append_images=others)).mean(axis=(1, 2))
    assert found[0] > 240
    assert found[2] < 10


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_of_the_camera(orientation: int) -> None:
    from PIL import ImageOps

    image = Image.fromarray(noise(40, 80))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(image, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as opened:
        expected = pixels(ImageOps.exif_transpose(opened))
    assert (pixels(data) == expected).all()
    assert (orientation == 1) == bool((pixels(data) == pixels(image)).all())


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0garbage", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12"]
)
@pytest.mark.filterwarnings("ignore")
def test_an_orientation_that_cant_be_read_is_none(exif: bytes) -> None:
    image = Image.fromarray(noise())
    assert (pixels(saved(image, "JPEG", exif=exif)) == pixels(saved(image, "JPEG"))).all()


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        ((3, 8, 3), "[H, W, channels] or [channels, H, W]"),
        ((8, 8, 2), "no image"),
        ((8,), "no image"),
        ((), "no image"),
        ((2, 8, 8, 3), "batch"),
        ((0, 8, 3), "no pixels"),
        ((0, 0), "no pixels"),
    ],
)
def test_arrays_of_other_shapes(shape: tuple[int, ...], reason: str) -> None:
    message = refusal(np.zeros(shape, dtype=np.uint8))
    assert reason in message
    assert str(list(shape)) in message


def test_arrays_of_one_and_four_channels() -> None:
    one = noise()[..., :1]
    for same in (one[..., 0], one, one.transpose(2, 0, 1)):
        assert (pixels(same) == pixels(one.repeat(3, axis=2))).all()
    four = np.concatenate([noise(), np.zeros((64, 64, 1), dtype=np.uint8)], axis=2)
    assert (pixels(four) == pixels(noise())).all()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((8, 8), np.nan), "finite"),
        (np.full((8, 8), np.inf), "finite"),
        (np.full((8, 8), 1.5), "[0, 1]"),
        (np.full((8, 8), -0.5), "[0, 1]"),
        (np.full((8, 8), 300), "uint16"),
        (np.full((8, 8), -1), "uint8"),
        (np.full((8, 8), 1j), "complex128"),
        (np.full((8, 8), "a"), "<U1"),
        (np.full((8, 8), None), "object"),
    ],
)
def test_arrays_of_other_values(values: Array, reason: str) -> None:
    assert reason in refusal(values)


def test_booleans_are_black_and_white() -> None:
    assert set(np.unique(pixels(np.eye(32, dtype=bool), WHOLE))) == {0, 255}


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("format", LIBRARY_FORMATS)
def test_a_truncated_file_is_refused_by_its_path(format: str, share: float, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = saved(Image.fromarray(values), format)
    path = tmp_path / f"cut.{format.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    assert str(path) in refusal(path)


@pytest.mark.parametrize("format", LIBRARY_FORMATS)
@pytest.mark.filterwarnings("ignore")
def test_damage_anywhere_is_an_input_error_or_an_image(format: str) -> None:
    data = saved(Image.fromarray(noise(24, 24)), format)
    encoder = ImageEncoder(WHOLE)
    for seed in range(60):
        damaged, random = bytearray(data), np.random.default_rng(seed)
        for place in random.integers(len(data), size=6):
            damaged[place] = random.integers(256)
        try:
            encoder.encode(bytes(damaged))
        except InputError:
            continue


def test_a_decompression_bomb_is_refused() -> None:
    bomb = Image.new("1", (20_000, 10_000))
    data = saved(bomb, "PNG")
    assert len(data) < 100_000
    assert "too large" in refusal(data)
    assert "20000 x 10000" in refusal(bomb)
    flat = np.lib.stride_tricks.as_strided(np.zeros(1, dtype=np.uint8), (20_000, 10_000), (0, 0))
    assert "178,956,970" in refusal(flat)


def test_pillows_warning_as_an_error_is_an_input_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        assert "too large" in refusal(saved(Image.new("L", (40, 40)), "PNG"))


def test_the_limit_is_pillows_own() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert module.MAX_PIXELS == 2 * Image.MAX_IMAGE_PIXELS


def test_a_strip_of_pixels_takes_no_memory() -> None:
    import tracemalloc

    strip = Image.new("RGB", (100_000, 1), (10, 20, 30))
    tracemalloc.start()
    found = pixels(strip, ImageInput(size=(224, 224), **UNIT))
    assert tracemalloc.get_traced_memory()[1] < 50e6
    tracemalloc.stop()
    assert (found == np.array([10, 20, 30]).reshape(3, 1, 1)).all()


def test_one_pixel() -> None:
    assert (pixels(Image.new("RGB", (1, 1), (1, 2, 3)))[:, 0, 0] == [1, 2, 3]).all()


@pytest.mark.parametrize(
    "address", ["https://x.org/a.png", "s3://bucket/a.png", "file:///a.png", "data:image/png;base64,AA"]
)
def test_nothing_is_fetched(address: str) -> None:
    message = refusal(address)
    assert "network" in message
    assert address in message


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        ("missing.png", "no file"),
        ("", "folder"),
        ("a\0b", "no file"),
        ("\ud800.png", "no file"),
        ("x" * 10_000, "name too long"),
        ("/dev/null", "not a regular file"),
        (b"", "not an image"),
        (b"hello" * 100, "Formats: JPEG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
        (None, "NoneType"),
        (3.5, "float"),
        (["a.png"], "list"),
        ({}, "neither"),
        ({"bytes": None, "path": None}, "neither"),
        (io.StringIO("text"), "'rb'"),
    ],
)
def test_what_is_no_image(raw: Any, reason: str) -> None:
    message = refusal(raw)
    assert reason in message
    assert len(message) < 400


def test_a_folder_and_a_closed_file(tmp_path: Path) -> None:
    assert "a folder" in refusal(tmp_path)
    file = io.BytesIO(b"x")
    file.close()
    assert "can't be read" in refusal(file)
    image = Image.fromarray(noise())
    image.close()
    assert "closed image" in refusal(image)


def test_a_file_without_permission_is_an_input_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(saved(gray(), "PNG"))

    def refuse(*args: Any, **options: Any) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Image, "open", refuse)
    assert "Permission denied" in refusal(path)


def test_collate_describe_and_save(tmp_path: Path) -> None:
    encoder = ImageEncoder(WHOLE)
    batch = encoder.collate([*encoder.encode(noise()), *encoder.encode(gray())])
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert batch["pixel_values"].dtype == np.uint8
    assert encoder.describe("a/cat.jpg") == "a/cat.jpg"
    assert encoder.describe(Path("a/cat.jpg")) == "a/cat.jpg"
    assert encoder.describe(b"12345") == "an image of 5 bytes"
    assert encoder.describe(gray()) == "an image L 64x64"
    assert encoder.describe(noise()) == "an array [64, 64, 3] of uint8"
    assert encoder.describe({"path": "x.png", "bytes": b""}) == "x.png"
    assert encoder.describe(None) == "a NoneType"
    assert len(encoder.describe("x" * 1000)) == 300
    encoder.save(tmp_path)
    assert not list(tmp_path.iterdir())


def test_threads_and_pickle() -> None:
    encoder = pickle.loads(pickle.dumps(ImageEncoder(WHOLE)))
    data = saved(Image.fromarray(noise()), "JPEG")
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: encoder.encode(data)[0].inputs["pixel_values"], range(32)))
    assert all((one == found[0]).all() for one in found)
