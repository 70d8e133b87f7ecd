"""An image, in whatever form it comes, as uint8 pixels of the size that the model sees."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, final

import numpy as np
from PIL import Image, UnidentifiedImageError

from zoo.errors import InputError
from zoo.modalities.base import Array, Encoder, Example, local_file, path_name, read_all, shorten
from zoo.spec import ImageInput

Window: TypeAlias = str | tuple[float, float]
# The size at which Pillow speaks of a decompression bomb and refuses, whatever the file's own size.
MAX_PIXELS = 178_956_970
# Pillow also opens formats that run other programs (EPS), or that anything can be taken for (TGA).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM", "ICO", "AVIF", "JPEG2000")

_ACCEPTED = "a path, the bytes of a file, a PIL image, or an array [H, W], [H, W, 3] or [H, W, 4]"
_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, slots=True)
class ImageSource:
    """height, width: of the image that came, upright. shown: height and width, within the canvas, of what shows it."""

    height: int
    width: int
    shown: tuple[int, int]


@final
class ImageEncoder(Encoder):
    """An image as uint8 `pixel_values [3, H, W]`, RGB, H and W from `input.size`. One window always.

    The shorter side is resized to size / crop_pct and the centre cropped ("squash": both sides are resized, the
    aspect ratio is lost; "pad": nothing is cropped, and the rest of the canvas is masked), as
    `timm.data.create_transform` does for evaluation. Transparency is dropped, as there. Unlike there, the orientation
    that a camera wrote is applied, and 16 bits a channel are scaled to 8 rather than clipped. Of an animation the first
    frame is used.
    """

    def __init__(self, input: ImageInput) -> None:
        self.input = input

    def encode(self, raw: Any, *, overlap: float = 0.0) -> list[Example]:
        """One image. overlap is not used.

        raw: a path; the bytes of a file, or an open file; a PIL image; `{"bytes": ..., "path": ...}`; an array of
            uint8, uint16 (scaled to 8 bits), other integers in [0, 255], bool, or floats in [0, 1]: `[H, W]`,
            `[H, W, 1]`, `[H, W, 3]`, `[H, W, 4]`, or `[3, H, W]` where it can't be taken for one of those.
        Raises InputError for what is none of these, can't be decoded whole, or has more than MAX_PIXELS.
        """
        window = self.input.window
        with _opened(raw, window) as image, _readable(raw):
            # Opening reads the header alone; a damaged file shows here.
            image.load()
            picture = _rgb(_upright(image), window)
            picture = picture.convert("L") if self.input.channels == 1 else picture
        if self.input.crop_mode == "pad":
            inputs, shown = _padded(picture, self.input)
        else:
            inputs, shown = {"pixel_values": _fit(picture, self.input)}, self.input.size
        source = ImageSource(picture.height, picture.width, shown)
        return [Example(inputs, length=1, source=source)]

    def collate(self, examples: Sequence[Example]) -> dict[str, Array]:
        """uint8 `pixel_values [B, 3, H, W]`, and `pixel_mask [B, H, W]` of a padded canvas."""
        return {name: np.stack([example.inputs[name] for example in examples]) for name in examples[0].inputs}

    def describe(self, raw: Any) -> str:
        return _name(raw)

    def save(self, folder: Path) -> None:
        """Nothing: `spec.input` says it all."""


def header(raw: Any) -> tuple[int, int]:
    """(width, height) of an upright image in any form that `encode` takes, from its header alone where it has one.

    Raises InputError for what can't be opened. A file that is damaged further on shows only in decoding.
    """
    with _opened(raw) as image:
        return image.size[::-1] if _lies(image) else image.size


def _lies(image: Image.Image) -> bool:
    """Whether turning it upright swaps its sides, as far as its header says."""
    if image.format == "PNG" and "exif" not in image.info:
        return False  # Pillow would decode the whole file to look for it
    try:
        return image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
    # As in `_upright`.
    except Exception:
        return False


@contextmanager
def decoded(raw: Any) -> Iterator[Image.Image]:
    """The PIL image of any form that the encoder takes, whole and upright, in the mode that it came in.

    Raises InputError.
    """
    with _opened(raw) as image:
        with _readable(raw):
            image.load()
            upright = _upright(image)
        yield upright


def _name(raw: Any) -> str:
    if isinstance(raw, (str, os.PathLike)):
        return path_name(raw)
    if isinstance(raw, (bytes, bytearray, memoryview)):
        return f"an image of {len(raw)} bytes"
    if isinstance(raw, Image.Image):
        return f"an image {raw.mode} {raw.width}x{raw.height}"
    if isinstance(raw, Mapping):
        return shorten(str(raw.get("path") or "an image given as a dict"))
    if hasattr(raw, "shape"):
        return f"an array {list(raw.shape)} of {getattr(raw, 'dtype', 'unknown type')}"
    return f"a {type(raw).__name__}"


@contextmanager
def _opened(raw: Any, window: Window = "full") -> Iterator[Image.Image]:
    """A PIL image of any accepted input; what was opened here is closed again."""
    if isinstance(raw, Image.Image):
        _check_size(raw, raw)
        yield raw
    elif isinstance(raw, Mapping):
        inner = raw.get("bytes") if raw.get("bytes") is not None else raw.get("path")
        if inner is None:
            raise InputError('An image given as a dict has "bytes" or "path"; this one has neither.')
        with _opened(inner, window) as image:
            yield image
    elif isinstance(raw, (str, os.PathLike)):
        with _decoder(local_file(raw, "an image"), raw) as image:
            yield image
    elif isinstance(raw, (bytes, bytearray, memoryview)):
        with _decoder(io.BytesIO(raw), raw) as image:
            yield image
    elif hasattr(raw, "read"):
        with _decoder(io.BytesIO(read_all(raw)), raw) as image:
            yield image
    elif hasattr(raw, "__array__"):
        yield _from_array(np.asarray(raw), window)
    else:
        raise InputError(f"An image was expected, and {_name(raw)} came. Give {_ACCEPTED}.")


@contextmanager
def _decoder(file: Path | io.BytesIO, raw: Any) -> Iterator[Image.Image]:
    with _readable(raw):
        image = Image.open(file, formats=FORMATS)
    with image:
        _check_size(image, raw)
        yield image


@contextmanager
def _readable(raw: Any) -> Iterator[None]:
    """Whatever a decoder raises, as an InputError that names the input."""
    try:
        yield
    except InputError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(f"{_name(raw)} is too large to be decoded safely: {error}") from error
    except UnidentifiedImageError as error:
        raise InputError(f"{_name(raw)} is not an image that can be read. Formats: {', '.join(FORMATS)}.") from error
    # Pillow raises OSError, SyntaxError, ValueError, struct.error and more on damaged files.
    except Exception as error:
        raise InputError(f"{_name(raw)} can't be decoded as an image: {error}. Is the file whole?") from error


def _check_size(image: Image.Image, raw: Any) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{_name(raw)} is an image of {width} x {height} pixels; up to {MAX_PIXELS:,} in all are decoded. Scale it."
        )
    if not width * height:
        raise InputError(f"{_name(raw)} is an image of {width} x {height} pixels: there is nothing in it.")


def _upright(image: Image.Image) -> Image.Image:
    """The image as its camera was held. An orientation that can't be read is none."""
    try:
        turn = _UPRIGHT.get(image.getexif().get(_ORIENTATION, 1))
    # Pillow raises many kinds on damaged EXIF, which says nothing about the pixels.
    except Exception:
        return image
    return image if turn is None else image.transpose(turn)


def _rgb(image: Image.Image, window: Window) -> Image.Image:
    """The image as RGB, 8 bits a channel."""
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):
        # Pillow itself would clip at 255. Files have 16 bits in this mode.
        values = np.asarray(image)
        return _from_array(_sixteen_bits(values) if window == "full" else values, window)
    if image.mode == "F":
        return _from_array(np.asarray(image), window)
    if image.mode == "P":
        # Straight to RGB, Pillow warns about a palette with transparency.
        image = image.convert("RGBA")
    if image.mode == "La":
        image = image.convert("LA")
    return image.convert("RGB")


def _sixteen_bits(values: Array) -> Array:
    if values.min() < 0 or values.max() > 0xFFFF:
        raise InputError(
            f"The image has integers from {values.min()} to {values.max()}; 16 bits, from 0 to 65535, are read."
        )
    return values.astype(np.uint16)


def _from_array(values: Array, window: Window) -> Image.Image:
    """An RGB image of an array `[H, W]`, `[H, W, C]` or `[3, H, W]`."""
    pixels = _channels_last(values)
    if not pixels.size:
        raise InputError(f"An array {list(values.shape)} has no pixels.")
    if pixels.shape[0] * pixels.shape[1] > MAX_PIXELS:
        raise InputError(f"An array {list(values.shape)} has too many pixels; up to {MAX_PIXELS:,} are taken.")
    pixels = _eight_bits(pixels[..., :3], window)
    if pixels.shape[-1] == 1:
        return Image.fromarray(pixels[..., 0]).convert("RGB")
    return Image.fromarray(np.ascontiguousarray(pixels))


def _channels_last(values: Array) -> Array:
    shape = values.shape
    if values.ndim == 2:
        return values[..., None]
    if values.ndim == 3:
        last = shape[-1] in (1, 3, 4)
        if last and shape[0] != 3:
            return values
        if last:
            raise InputError(
                f"An array {list(shape)} may be [H, W, channels] or [channels, H, W]. Give the PIL image, "
                "PIL.Image.fromarray(array), to say which."
            )
        if shape[0] in (1, 3):
            return values.transpose(1, 2, 0)
    if values.ndim == 4:
        raise InputError(f"An array {list(shape)} is a batch. Give its images one by one, as a list.")
    raise InputError(f"An array {list(shape)} is no image. Give {_ACCEPTED}.")


def _eight_bits(values: Array, window: Window) -> Array:
    """Pixels of any accepted dtype as uint8."""
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    if values.dtype == np.uint8:
        return values
    if values.dtype == bool:
        return values.astype(np.uint8) * np.uint8(255)
    if window != "full":
        return _windowed(values, window)
    if values.dtype == np.uint16:
        # 65535 / 255 is 257; half of it rounds.
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if values.dtype.kind == "f":
        return _from_unit(values)
    if values.dtype.kind in "iu":
        low, high = int(values.min()), int(values.max())
        if low < 0 or high > 255:
            raise InputError(f"The array's integers go from {low} to {high}. Give uint8, or uint16 for 16 bits.")
        return values.astype(np.uint8)
    raise InputError(f"An array of {values.dtype} is no image. Give uint8, or floats in [0, 1].")


def _windowed(values: Array, window: Window) -> Array:
    """Numbers of any range as uint8: 0 at the window's lower end and below, 255 at its upper end and above."""
    if values.dtype.kind not in "iuf":
        raise InputError(f"An array of {values.dtype} is no image. Give integers or floats.")
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise InputError("The image has values that are not finite (NaN or infinity).")
    if isinstance(window, tuple):
        low, high = window
    elif window == "percentile":
        low, high = np.percentile(wide, (0.5, 99.5))
    else:
        low, high = wide.min(), wide.max()
    # A picture of one value has nothing to stretch.
    shares = (wide - low) / (high - low) if high > low else np.zeros_like(wide)
    return np.asarray(np.rint(np.clip(shares, 0, 1) * 255), dtype=np.uint8)


def _from_unit(values: Array) -> Array:
    if not np.isfinite(values).all():
        raise InputError("The array has values that are not finite (NaN or infinity).")
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > 1:
        raise InputError(
            f"The array's floats go from {low:g} to {high:g}; they are taken in [0, 1], before any mean is taken off. "
            "Scale them, or give uint8."
        )
    return np.asarray(np.rint(values.astype(np.float32) * 255), dtype=np.uint8)


def _fit(image: Image.Image, input: ImageInput) -> Array:
    """Resize and crop in one step: uint8 `[channels, H, W]`, contiguous."""
    height, width = input.size
    full_height, full_width = _resized(image, input)
    top, left = round((full_height - height) / 2), round((full_width - width) / 2)
    # Only what the crop keeps is ever computed: sooner, with the same pixels but for some that round the other way,
    # and a picture of 1 x 100,000 pixels never becomes one of 256 x 25,600,000.
    down, across = image.height / full_height, image.width / full_width
    box = (
        left * across,
        top * down,
        min((left + width) * across, image.width),
        min((top + height) * down, image.height),
    )
    resample = Image.Resampling[input.interpolation.upper()]
    pixels = np.asarray(image.resize((width, height), resample, box=box))
    return pixels[None].copy() if input.channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized(image: Image.Image, input: ImageInput) -> tuple[int, int]:
    """Height and width of the whole image before the crop, rounded as timm and torchvision do."""
    height, width = (math.floor(side / input.crop_pct) for side in input.size)
    if input.crop_mode == "squash":
        return height, width
    if height == width:
        shorter = min(image.size)
        return int(height * image.height / shorter), int(width * image.width / shorter)
    ratio = min(image.height / height, image.width / width)
    return round(image.height / ratio), round(image.width / ratio)


def _padded(image: Image.Image, input: ImageInput) -> tuple[dict[str, Array], tuple[int, int]]:
    """The whole image in the upper left of the canvas: uint8 `pixel_values [3, H, W]`, 0 where nothing is, and
    `pixel_mask [H, W]`, 1 where the image is. And the height and width that it takes there."""
    height, width = shown = fitted(image.height, image.width, input)
    pixels = np.zeros((3, *input.size), dtype=np.uint8)
    resized = image.resize((width, height), Image.Resampling[input.interpolation.upper()])
    pixels[:, :height, :width] = np.asarray(resized).transpose(2, 0, 1)
    mask = np.zeros(input.size, dtype=np.uint8)
    mask[:height, :width] = 1
    return {"pixel_values": pixels, "pixel_mask": mask}, shown


def fitted(height: int, width: int, input: ImageInput) -> tuple[int, int]:
    """Height and width on a padded canvas, as `get_size_with_aspect_ratio` of transformers rounds them."""
    limit = max(input.size)
    shorter, longer = min(height, width), max(height, width)
    edge: float = min(input.shortest_edge or limit, limit)
    if longer / shorter * edge > limit:
        edge = limit * shorter / longer
    sides = max(1, round(edge)), max(1, int(edge * longer / shorter))
    found = sides if height <= width else (sides[1], sides[0])
    # Only a canvas that is not square can still be too small.
    share = min(1.0, input.size[0] / found[0], input.size[1] / found[1])
    return (found[0], found[1]) if share == 1.0 else (max(1, int(found[0] * share)), max(1, int(found[1] * share)))
