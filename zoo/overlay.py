"""Pictures of answers: a segmentation's colours over the image with a legend beside it, the boxes of objects."""

from __future__ import annotations

import colorsys
import io
import os
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont, ImageOps

Pixels: TypeAlias = npt.NDArray[Any]

# Far apart for the eye, and bright enough to be seen through.
_COLOURS = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (0, 190, 190), (227, 119, 194),
    (188, 189, 34), (140, 86, 75), (255, 215, 0), (70, 240, 140), (90, 70, 220), (250, 128, 114), (0, 128, 128),
    (210, 105, 30), (128, 128, 0), (60, 180, 255), (199, 21, 133), (154, 205, 50), (105, 105, 165),
)  # fmt: skip
_BACKGROUND = ("background", "_background_", "unlabeled", "unlabelled", "void")
_LISTED = 14  # entries of a legend
_INK, _FAINT, _PAPER = (28, 39, 48), (110, 122, 132), (255, 255, 255)
# Tried for labels in other scripts than Latin; the built-in font has no other.
_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSans-Regular.ttf", "DejaVuSans.ttf", "Arial Unicode.ttf", "msyh.ttc")


class Entry(NamedTuple):
    """A line of the legend. area: share of the picture, in [0, 1]."""

    label: str
    place: int
    area: float


def colour_of(index: int) -> tuple[int, int, int]:
    """The colour of a label by its place: the same in every picture."""
    if index < len(_COLOURS):
        return _COLOURS[index]
    # Steps of the golden angle never come back to a hue.
    red, green, blue = colorsys.hsv_to_rgb((index * 0.618034) % 1, 0.6 + 0.35 * (index % 2), 0.95 - 0.2 * (index % 3))
    return round(red * 255), round(green * 255), round(blue * 255)


def draw(image: Any, mask: Pixels, entries: Sequence[Entry], *, alpha: float, legend: bool) -> Image.Image:
    """RGB picture of the image's size, wider by the legend.

    image: a path, bytes, a PIL image, an array, or None for the colours alone. mask: integers `[H, W]`.
    """
    height, width = mask.shape
    base = _base(image, width, height)
    colours, shown = _coloured(mask, entries)
    strength = np.where(shown, alpha if image is not None else 1.0, 0.0)[..., None]
    pixels = np.asarray(base) * (1 - strength) + colours * strength
    edges = _edges(mask, max(1, min(height, width) // 350))
    pixels[edges] = pixels[edges] * 0.25 + 255 * 0.75
    picture = Image.fromarray(pixels.round().astype(np.uint8))
    return _with_legend(picture, entries) if legend and entries else picture


def _base(image: Any, width: int, height: int) -> Image.Image:
    if image is None:
        return Image.new("RGB", (width, height), _PAPER)
    found = _upright(image)
    return found if found.size == (width, height) else found.resize((width, height), Image.Resampling.BILINEAR)


def _upright(image: Any) -> Image.Image:
    """An image in any form, RGB, as its camera was held."""
    if isinstance(image, (str, os.PathLike)):
        with Image.open(image) as file:
            found = ImageOps.exif_transpose(file)
    elif isinstance(image, (bytes, bytearray)):
        found = ImageOps.exif_transpose(Image.open(io.BytesIO(image)))
    elif isinstance(image, Image.Image):
        found = ImageOps.exif_transpose(image)
    else:
        found = _of_array(np.asarray(image))
    if found.mode.startswith(("I", "F")):
        found = _of_array(np.asarray(found))
    return found.convert("RGB")


def _of_array(values: Pixels) -> Image.Image:
    """Any numbers as grey or colours, the lowest black and the highest white."""
    if values.ndim == 3 and values.shape[0] in (1, 3) and values.shape[-1] not in (1, 3, 4):
        values = values.transpose(1, 2, 0)
    if values.dtype != np.uint8:
        low, high = float(values.min()), float(values.max())
        values = ((values - low) / max(high - low, 1e-12) * 255).round().astype(np.uint8)
    return Image.fromarray(values[..., 0] if values.ndim == 3 and values.shape[-1] == 1 else values)


def _coloured(mask: Pixels, entries: Sequence[Entry]) -> tuple[Pixels, npt.NDArray[np.bool_]]:
    """Colours `[H, W, 3]`, and where to put them: the background stays as it is."""
    table = np.array([colour_of(index) for index in range(int(mask.max()) + 1)], dtype=np.float64)
    plain = [entry.place for entry in entries if entry.label.lower() in _BACKGROUND]
    return table[mask], ~np.isin(mask, plain)


def _edges(mask: Pixels, thick: int) -> npt.NDArray[np.bool_]:
    found = np.zeros(mask.shape, dtype=bool)
    found[:, 1:] |= mask[:, 1:] != mask[:, :-1]
    found[1:] |= mask[1:] != mask[:-1]
    for _ in range(thick - 1):
        grown = found.copy()
        grown[:, :-1] |= found[:, 1:]
        grown[:-1] |= found[1:]
        found = grown
    return found


def _with_legend(picture: Image.Image, entries: Sequence[Entry]) -> Image.Image:
    shown = list(entries[:_LISTED])
    rest = len(entries) - len(shown)
    size = int(np.clip(picture.height / 24, 11, 26))
    font = _font(size, "".join(entry.label for entry in shown))
    lines = [(entry.label if len(entry.label) <= 28 else f"{entry.label[:27]}…", _share(entry.area)) for entry in shown]
    line, pad, box = round(size * 1.75), round(size * 0.9), size
    names = max(_wide(font, name) for name, _ in lines)
    figures = max(_wide(font, share) for _, share in lines)
    width = pad + box + size // 2 + names + size + figures + pad
    height = max(picture.height, 2 * pad + line * (len(lines) + bool(rest)))
    canvas = Image.new("RGB", (picture.width + width, height), _PAPER)
    canvas.paste(picture, (0, (height - picture.height) // 2))
    pen = ImageDraw.Draw(canvas)
    left = picture.width + pad
    for number, (entry, (name, share)) in enumerate(zip(shown, lines, strict=True)):
        top = pad + number * line
        plain = entry.label.lower() in _BACKGROUND
        fill = _PAPER if plain else colour_of(entry.place)
        frame = (left, top, left + box, top + box)
        pen.rounded_rectangle(frame, radius=size // 4, fill=fill, outline=_FAINT if plain else fill)
        middle = top + box / 2
        pen.text((left + box + size // 2, middle), name, font=font, fill=_INK, anchor="lm")
        pen.text((canvas.width - pad, middle), share, font=font, fill=_FAINT, anchor="rm")
    if rest:
        pen.text((left, pad + len(lines) * line + box / 2), f"and {rest} more", font=font, fill=_FAINT, anchor="lm")
    return canvas


class Boxed(NamedTuple):
    """An object to be drawn. place: of its label among the model's; box: x0, y0, x1, y1 in pixels, upright."""

    label: str
    place: int
    score: float
    box: tuple[float, float, float, float]


def draw_boxes(image: Any, objects: Sequence[Boxed], *, scores: bool) -> Image.Image:
    """RGB picture of the image's size, each label in its colour.

    image: a path, bytes, a PIL image or an array. objects: the best first, which are drawn last, over the others.
    """
    picture = _upright(image)
    shorter = min(picture.size)
    size = int(np.clip(shorter / 26, 11, 30))
    font, line = _font(size, "".join(item.label for item in objects)), max(1, round(shorter / 160))
    pen = ImageDraw.Draw(picture)
    worst_first = objects[::-1]
    for item in worst_first:
        frame = _frame(item.box, picture.size)
        # A dark line around the bright one is seen on any ground.
        pen.rectangle([frame[0] - 1, frame[1] - 1, frame[2] + 1, frame[3] + 1], outline=_INK)
        pen.rectangle(frame, outline=colour_of(item.place), width=line)
    for item in worst_first:
        text = f"{item.label} {item.score:.0%}" if scores else item.label
        _tag(pen, text, _frame(item.box, picture.size), colour_of(item.place), font, size)
    return picture


def _frame(box: tuple[float, ...], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Whole pixels within the picture, the first and the last of the object."""
    width, height = size
    x0, y0 = (round(min(max(edge, 0), side - 1)) for edge, side in zip(box[:2], size, strict=True))
    return x0, y0, max(x0, round(min(box[2], width)) - 1), max(y0, round(min(box[3], height)) - 1)


def _tag(
    pen: ImageDraw.ImageDraw, text: str, frame: tuple[int, ...], colour: tuple[int, int, int], font: Any, size: int
) -> None:
    """The label on its own colour: above the box, or in it where there is no room above."""
    across, down = pen.im.size
    wide, high = _wide(font, text) + size // 2, round(size * 1.3)
    left = max(0, min(frame[0], across - wide))
    top = frame[1] - high if frame[1] >= high else min(frame[1], down - high)
    pen.rectangle([left, top, left + wide, top + high], fill=colour)
    red, green, blue = colour
    ink = _INK if 0.299 * red + 0.587 * green + 0.114 * blue > 140 else _PAPER
    pen.text((left + size // 4, top + high / 2), text, font=font, fill=ink, anchor="lm")


def _share(area: float) -> str:
    return f"{area:.0%}" if area >= 0.0995 else f"{area:.1%}" if area >= 0.001 else "< 0.1%"


def _font(size: int, text: str) -> Any:
    if not text.isascii():
        for name in _FONTS:
            try:
                return ImageFont.truetype(name, size)
            except OSError:
                continue
    return ImageFont.load_default(size)


def _wide(font: Any, text: str) -> int:
    return int(font.getlength(text) + 0.5)
