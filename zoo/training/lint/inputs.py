"""What inputs say of themselves: texts that are cut, recordings at other rates, files that can't be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from zoo.errors import DataError
from zoo.modalities import recordings
from zoo.modalities.base import Encoder
from zoo.modalities.image import header
from zoo.spec import ImageInput, ModelSpec
from zoo.tasks.base import Task
from zoo.training.data.rows import Row, Rows
from zoo.training.documents import PAIRED, sentences
from zoo.training.lint.report import Finding
from zoo.training.lint.tables import SHOWN

_WORKERS = 8


@dataclass(frozen=True, slots=True)
class Place:
    """One row that is looked at: its number in `rows`."""

    rows: Rows
    number: int

    @property
    def where(self) -> str:
        return self.rows.where(self.number)

    @property
    def row(self) -> Row:
        return self.rows[self.number]

    @property
    def given(self) -> Any:
        return self.row.input


def unreadable(places: Sequence[Place], look: Callable[[Place], Any]) -> tuple[list[tuple[Place, Any]], list[str]]:
    """What `look` gives for each place that can be read, and a message for each that can't."""

    def tried(place: Place) -> tuple[Place, Any] | str:
        try:
            return place, look(place)
        except DataError as error:
            message = str(error)
            return message if place.where in message else f"{place.where}: {message}"

    with ThreadPoolExecutor(_WORKERS) as pool:
        outcomes = list(pool.map(tried, places))
    return [o for o in outcomes if not isinstance(o, str)], [o for o in outcomes if isinstance(o, str)]


def refused(messages: Sequence[str], *, skip: bool) -> Iterator[Finding]:
    """Rows that can't be read. skip: whether fine-tuning was told to leave them out."""
    if messages:
        yield Finding(
            "warning" if skip else "error", "unreadable-rows",
            f"{len(messages):,} row{'s' * (len(messages) != 1)} can't be read.",
            "They are left out." if skip else "Mend or remove them, or leave them out with on_error='skip'.",
            len(messages), tuple(messages[:SHOWN]),
        )  # fmt: skip


_WINDOWS = "They are cut into windows, each trained on with the whole row's target where that is one label."
_ANSWERS = "They are gone through in windows; in those without the answer there is none."
_CUT = "Their end is left out in training."


def check_texts(places: Sequence[Place], task: Task, encoder: Encoder, *, skip: bool) -> Iterator[Finding]:
    """Texts that the model can't take, and how many are longer than it sees."""
    longest = getattr(task.spec.input, "max_length", 0)
    read, bad = unreadable(places, lambda place: _windows(place.given, task, encoder))
    yield from refused(bad, skip=skip)
    cut = [place for place, windows in read if windows > 1]
    if cut:
        share = len(cut) / len(read)
        yield Finding(
            "warning" if share > 0.05 else "note", "long-texts",
            f"{share:.0%} of the texts are longer than the {longest} tokens that the model sees at once.",
            {"summary": _CUT, "translation": _CUT, "answers": _ANSWERS}.get(task.columns[1] or "", _WINDOWS),
            len(cut), tuple(place.where for place in cut[:SHOWN]),
        )  # fmt: skip


def _windows(given: Any, task: Task, encoder: Encoder) -> int:
    """How many windows a text is seen in; of a document, whose sentences are cut to fit, one. Raises DataError."""
    if task.name in PAIRED:
        return min(len(sentences(given)), 1)
    return len(task.windows(encoder, given))


def check_tags(rows: Rows) -> Iterator[Finding]:
    """Tags that continue what was never begun: I-PER after O or after B-LOC."""
    places = [index for index, tags in enumerate(rows.targets()) if _discontinued(tags)]
    if places:
        yield Finding(
            "note", "tags-without-beginning",
            f"{len(places):,} rows have an I- tag that follows no tag of its kind.",
            "They are read as a new entity. A B- tag says so.", len(places),
            tuple(rows.where(index) for index in places[:SHOWN]),
        )  # fmt: skip


def _discontinued(tags: Sequence[Any]) -> bool:
    before = "O"
    for tag in map(str, tags):
        if tag.startswith("I-") and before not in (tag, f"B-{tag[2:]}"):
            return True
        before = tag
    return False


def check_images(places: Sequence[Place], spec: ModelSpec, *, skip: bool) -> Iterator[Finding]:
    """Files whose header can't be read, and images much smaller than what the model sees."""
    assert isinstance(spec.input, ImageInput)
    read, bad = unreadable(places, lambda place: header(place.given))
    yield from refused(bad, skip=skip)
    height, width = spec.input.size
    small = [place for place, (w, h) in read if w * 4 < width or h * 4 < height]
    if small:
        yield Finding(
            "note", "small-images",
            f"{len(small):,} images are less than a quarter of {height} x {width} pixels, the size the model sees.",
            "They are enlarged, and look blurred to it.", len(small), tuple(place.where for place in small[:SHOWN]),
        )  # fmt: skip


def check_recordings(places: Sequence[Place], task: Task, rate: int, *, skip: bool) -> Iterator[Finding]:
    """Headers alone: files that can't be read, other rates than the model's, transcripts that can't be aligned."""
    read, bad = unreadable(places, lambda place: recordings.facts(place.given, rate))
    yield from refused(bad, skip=skip)
    yield from _rates([(place, found) for place, (found, _) in read], rate)
    check = getattr(task, "check", None)
    if check is not None and task.labels:
        seconds = {(id(place.rows), place.number): length for place, (_, length) in read}

        def fits(place: Place) -> None:
            row = place.rows[place.number]
            check(round(seconds[id(place.rows), place.number] * rate), row.target)

        _, infeasible = unreadable([place for place, _ in read], fits)
        if infeasible:
            yield Finding(
                "warning" if skip else "error", "transcripts-too-long",
                f"{len(infeasible):,} recordings and their transcripts can't be trained on.",
                "Correct or cut them, or leave them out with on_error='skip'.", len(infeasible),
                tuple(infeasible[:SHOWN]),
            )  # fmt: skip


def _rates(found: Sequence[tuple[Place, int]], rate: int) -> Iterator[Finding]:
    low = [(place, own) for place, own in found if own < rate]
    if low:
        rates = Counter(own for _, own in low)
        yield Finding(
            "warning", "low-sampling-rate",
            f"{len(low):,} recordings have fewer samples a second than the model's {rate:,} Hz: "
            f"{', '.join(f'{own:,} Hz ({count:,})' for own, count in rates.most_common(SHOWN))}.",
            "They are resampled, which brings no high tones back: record what you will predict on in the same way.",
            len(low), tuple(place.where for place, _ in low[:SHOWN]),
        )  # fmt: skip
    if len({own for _, own in found}) > 1:
        mixed = Counter(own for _, own in found)
        yield Finding(
            "note", "mixed-sampling-rates",
            f"Recordings have {len(mixed)} sampling rates: "
            f"{', '.join(f'{own:,} Hz ({count:,})' for own, count in mixed.most_common(SHOWN))}.",
            "All are resampled. If the rate goes with the label, the model may learn the rate.", len(found),
        )  # fmt: skip
