"""What is done with a raw input before the graph sees it, in words."""

from __future__ import annotations

import math

from zoo import tasks
from zoo.bundle import Card
from zoo.report_text import fit
from zoo.spec import AudioInput, ImageInput, InputSpec, MelInput, TabularInput, TextInput

_LONG = 1000  # characters: what comes from strangers may be longer than any page


def short(text: str, cells: int = 200) -> str:
    return fit(text[:_LONG], cells)


def preprocessing(card: Card) -> list[str]:
    """One sentence or two a step, in their order. `zoo.runtime` does all of it."""
    spec = card.spec
    task = tasks.get(card.task, spec)
    said = _input(spec.input)
    if spec.input.kind != "image" and spec.input.kind != "tabular":
        longer = "is gone through in windows, whose answers are put together" if task.windowed else "is refused"
        said.append(f"An input that is longer {longer}.")
    if spec.text is not None:
        said.append(f"Texts, for the other tower, become up to {spec.text.max_length:,} tokens.")
    if spec.decoder is not None:
        said.append(f"The decoder writes up to {spec.decoder.max_length:,} tokens, its beginning included.")
    return said


def _input(given: InputSpec) -> list[str]:
    match given:
        case TextInput():
            return _text(given)
        case ImageInput():
            return _image(given)
        case AudioInput():
            level = "brought to zero mean and unit variance" if given.normalize else "left at its level"
            return [
                f"A recording is mixed to one channel, resampled to {given.sampling_rate:,} Hz and {level}.",
                f"The network hears {given.max_seconds:g} seconds at once.",
            ]
        case MelInput():
            return [
                f"A recording is mixed to one channel and resampled to {given.sampling_rate:,} Hz.",
                f"It becomes a log-mel spectrogram ({given.layout}) of {given.bins} bins and {given.frames:,} frames "
                "of 10 ms; the network hears as many at once.",
            ]
        case TabularInput():
            return [
                f"A row is an object by column: {short(str(given), 600)}.",
                "Categories become their places among the known ones; numbers less their mean, by their deviation.",
            ]


def _text(given: TextInput) -> list[str]:
    said = [f"A text becomes up to {given.max_length:,} tokens by tokenizer.json, special ones included."]
    if given.token_types:
        said.append("token_type_ids tell the first text of a pair from the second.")
    return [*said, f"Texts of one batch are padded on the {given.padding_side}, and attention_mask is 0 there."]


def _image(given: ImageInput) -> list[str]:
    height, width = given.size
    sides = [math.floor(side / given.crop_pct) for side in given.size]
    how = {
        "center": f"The shorter side is resized to fit {sides[0]} x {sides[1]} ({given.interpolation}), and the middle "
        f"{height} x {width} is cut out.",
        "squash": f"Both sides are resized to {sides[0]} x {sides[1]} ({given.interpolation}), whatever their ratio"
        + (f", and the middle {height} x {width} is cut out." if sides != [height, width] else "."),
        "pad": f"It is resized ({given.interpolation}) in its own ratio"
        + (f", the shorter side to {given.shortest_edge}" if given.shortest_edge else "")
        + f", to the upper left of {height} x {width}; pixel_mask is 1 there.",
    }[given.crop_mode]
    values = "; ".join(f"{name} {', '.join(f'{v:g}' for v in getattr(given, name))}" for name in ("mean", "std"))
    return [
        f"An image is turned upright and read as {'RGB' if given.channels == 3 else 'grey'}; of more than 8 bits, its "
        f"values are brought to 8 by the window {given.window}.",
        how,
        f"Pixels go in as bytes. The graph itself computes (x / 255 - mean) / std: {values}.",
    ]
