"""Letters for labels of any script, in the fonts that are installed. Needs matplotlib."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

_DEFAULT = "DejaVu Sans"  # comes with matplotlib
# It has a box for every character there is.
_BOXES = "Last Resort"
_VARIATION = range(0xFE00, 0xFE10)  # selectors, which draw nothing themselves


@dataclass(frozen=True, slots=True)
class Lettering:
    """families: fonts in the order to look in. names: what is drawn for each label, in their order.

    numbered: whether some are drawn as "#2", the second label, because no font that is installed has their letters.
    """

    families: tuple[str, ...]
    names: tuple[str, ...]
    numbered: bool


def lettering(labels: Sequence[str]) -> Lettering:
    """Fonts and names for short labels. matplotlib would draw an empty box for each letter that a font lacks."""
    needed = [_letters(label) for label in labels]
    missing = frozenset().union(*needed) - _charmap(_path(_DEFAULT))
    families = [_DEFAULT]
    for family, path in _others() if missing else ():
        if not missing:
            break
        if missing & (found := _charmap(path)):
            families.append(family)
            missing -= found
    names = tuple(
        f"#{n}" if missing & letters else _plain(label)
        for n, (label, letters) in enumerate(zip(labels, needed, strict=True), 1)
    )
    return Lettering(tuple(families), names, any(missing & letters for letters in needed))


def _plain(label: str) -> str:
    """A label that matplotlib does not take for a formula."""
    return "".join(letter for letter in label if ord(letter) not in _VARIATION).replace("$", r"\$")


def _letters(label: str) -> frozenset[int]:
    return frozenset(
        ord(letter)
        for letter in label
        if unicodedata.category(letter) not in ("Zs", "Cf") and ord(letter) not in _VARIATION
    )


def _path(family: str) -> str:
    from matplotlib.font_manager import findfont

    return str(findfont(family))


def _others() -> Iterator[tuple[str, str]]:
    """Each family that is installed, and a font file of it."""
    from matplotlib.font_manager import fontManager

    found: dict[str, str] = {}
    for entry in fontManager.ttflist:
        if not entry.name.startswith(_BOXES) and entry.style == "normal":
            found.setdefault(entry.name, entry.fname)
    return iter(sorted(found.items()))


@cache
def _charmap(path: str) -> frozenset[int]:
    """The characters of a font; none of one that can't be read, or that is made of pictures of one size."""
    from matplotlib.font_manager import get_font

    try:
        font = get_font(path)
        return frozenset(font.get_charmap()) if font.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()
