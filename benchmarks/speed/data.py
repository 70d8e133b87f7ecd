"""What is asked: texts, photographs, recordings and prompts of the sizes that people have, made from a seed."""

from __future__ import annotations

import itertools
import math
import random
import wave
from pathlib import Path

# NumPy and Pillow inside: a contestant that needs neither must not pay for them.

_SYLLABLES = [a + b for a in "bcdfghjklmnprstvwz" for b in "aeiou"]
WORDS = ["".join(pair) for pair in itertools.product(_SYLLABLES, repeat=2)]
ENDINGS = [f"##{syllable}" for syllable in _SYLLABLES]
SAMPLING_RATE = 16_000


def lengths(count: int, *, median: float, longest: int, seed: int, shortest: int = 1) -> list[int]:
    """Log-normal ones, as those of people's texts are: some three quarters within half and twice the median."""
    rng = random.Random(seed)
    return [min(max(round(median * math.exp(rng.gauss(0, 0.8))), shortest), longest) for _ in range(count)]


def texts(count: int, *, median: int = 40, longest: int = 512, seed: int = 0) -> list[str]:
    """Of so many tokens each for the tokenizer of `checkpoints.bert`, its [CLS] and [SEP] among them."""
    return [text(length - 2, seed + place) for place, length in enumerate(
        lengths(count, median=median, longest=longest, seed=seed, shortest=4)
    )]  # fmt: skip


def text(tokens: int, seed: int) -> str:
    """Words of one token, and one in eight of two."""
    rng = random.Random(seed)
    made: list[str] = []
    left = tokens
    while left > 0:
        long = left > 1 and rng.random() < 0.125
        made.append(rng.choice(WORDS) + (rng.choice(_SYLLABLES) if long else ""))
        left -= 2 if long else 1
    return " ".join(made)


def photographs(folder: Path, count: int, *, size: tuple[int, int] = (500, 375), seed: int = 0) -> list[Path]:
    """JPEG files of this width and height: coarse shapes, a gradient and fine noise, as heavy as photographs."""
    import numpy as np
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    width, height = size
    paths = []
    for place in range(count):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
        slope = np.linspace(-40, 40, width)[None, :, None] * rng.uniform(-1, 1, 3)
        noise = rng.normal(0, 12, (height, width, 1))
        pixels = np.clip(np.asarray(coarse, dtype=np.float64) + slope + noise, 0, 255).astype(np.uint8)
        paths.append(folder / f"{place:05}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=90)
    return paths


def recordings(
    folder: Path, count: int, *, shortest: float = 2.0, longest: float = 15.0, seed: int = 0,
    pitch: tuple[float, float] = (100, 1500),
) -> list[Path]:  # fmt: skip
    """WAV files, mono, 16 bits, of evenly drawn seconds: tones that change five times a second, and noise.

    pitch: Hz, between which the tones are.
    """
    import numpy as np

    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    paths = []
    for place in range(count):
        samples = round(rng.uniform(shortest, longest) * SAMPLING_RATE)
        tones = np.repeat(rng.uniform(*pitch, samples // 3200 + 1), 3200)[:samples]
        sound = 0.3 * np.sin(2 * np.pi * np.cumsum(tones) / SAMPLING_RATE) + 0.05 * rng.normal(size=samples)
        paths.append(folder / f"{place:05}.wav")
        with wave.open(str(paths[-1]), "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(SAMPLING_RATE)
            file.writeframes((np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes())
    return paths
