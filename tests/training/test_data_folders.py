"""Class folders of images and recordings."""

from __future__ import annotations

import logging
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import DataError
from zoo.training.data import Dataset, read

VISION = ("image-classification", "feature-extraction")
SOUND = ("audio-classification", "automatic-speech-recognition")


def fill(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def labelled(dataset: Dataset, split: str = "train") -> list[tuple[str, Any]]:
    return [(os.path.basename(row.input), row.target) for row in dataset.splits[split]]


def test_images(tmp_path: Path) -> None:
    fill(tmp_path, "rose/2.jpg", "rose/1.PNG", "tulip/a.webp", "tulip/deep/er/b.tiff", "README.md")
    dataset = read(tmp_path, tasks=VISION)
    assert dataset.task == "image-classification"
    assert labelled(dataset) == [("1.PNG", "rose"), ("2.jpg", "rose"), ("a.webp", "tulip"), ("b.tiff", "tulip")]
    rows = dataset.splits["train"]
    assert rows[0].where == rows[0].input == str(tmp_path / "rose" / "1.PNG")
    assert rows.columns == ("image", "label")
    assert rows.targets() == ["rose", "rose", "tulip", "tulip"]


def test_recordings(tmp_path: Path) -> None:
    dataset = read(str(fill(tmp_path, "yes/a.wav", "no/b.flac", "no/c.mp3")), tasks=SOUND)
    assert dataset.task == "audio-classification"
    assert labelled(dataset) == [("b.flac", "no"), ("c.mp3", "no"), ("a.wav", "yes")]


@pytest.mark.parametrize("val", ["val", "valid", "validation", "dev", "Validation"])
def test_splits(tmp_path: Path, val: str) -> None:
    fill(tmp_path, "train/x/1.jpg", "train/y/2.jpg", f"{val}/x/3.jpg", "test/y/4.jpg", "notes.txt")
    dataset = read(tmp_path, tasks=VISION)
    assert list(dataset.splits) == ["train", "val", "test"]
    assert labelled(dataset, "val") == [("3.jpg", "x")]
    assert labelled(dataset, "test") == [("4.jpg", "y")]


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    dataset = read(fill(tmp_path, "train/1.jpg", "bus/2.jpg", "car/3.jpg"), tasks=VISION)
    assert {label for _, label in labelled(dataset)} == {"train", "bus", "car"}


def test_splits_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="'dev' and 'val', which mean the same split"):
        read(fill(tmp_path / "a", "train/x/1.jpg", "val/x/1.jpg", "dev/x/1.jpg"), tasks=VISION)
    with pytest.raises(DataError, match=r"test, val and no 'train'"):
        read(fill(tmp_path / "b", "test/x/1.jpg", "val/x/1.jpg"), tasks=VISION)
    assert list(read(fill(tmp_path / "c", "test/x/1.jpg"), tasks=VISION).splits) == ["train"]


def test_mixed_types_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mixes 2 images .* and 1 recordings .*b\.wav"):
        read(fill(tmp_path, "x/a.jpg", "y/b.wav", "y/c.png"), tasks=VISION)
    with pytest.raises(DataError, match="holds class folders of recordings"):
        read(fill(tmp_path / "s", "train/x/1.jpg", "val/x/1.wav"), tasks=VISION)


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.jpg", "x/.b.jpg", "x/._a.jpg", "y/c.jpg", "y/Thumbs.db", ".cache/d.jpg", "__MACOSX/x/e.jpg")
    fill(tmp_path, "y/.ipynb_checkpoints/f.jpg")
    assert [name for name, _ in labelled(read(tmp_path, tasks=VISION))] == ["a.jpg", "c.jpg"]


def test_types_that_cannot_be_read_are_listed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"types that can't be read: \.heic \(2\), such as .*a\.heic"):
        read(fill(tmp_path / "a", "x/a.heic", "x/b.HEIC", "y/c.jpg"), tasks=VISION)
    with pytest.raises(DataError, match=r"can't be read: \.txt \(1\), no ending \(1\)"):
        read(fill(tmp_path / "b", "x/a.txt", "y/b"), tasks=VISION)


def test_harmless_files_are_left_out_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="zoo"):
        dataset = read(fill(tmp_path, "x/a.jpg", "x/a.xml", "y/b.jpg"), tasks=VISION)
        (tmp_path / "empty").mkdir()
        read(tmp_path, tasks=VISION)
    assert len(dataset.splits["train"]) == 2
    assert ".xml (1)" in caplog.text
    assert "empty has no images" in caplog.text


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a.jpg", "b.jpg"], "holds 2 files and no class folders"),
        (["a.jpg", "labels.csv"], r"Give the table itself: .*labels\.csv"),
        (["data.arrow", "dataset_info.json"], "load_from_disk"),
        (["flowers/rose/1.jpg", "flowers/tulip/2.jpg"], "holds one folder, which holds 2 more"),
    ],
)
def test_what_is_no_class_folder(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(fill(tmp_path, *names), tasks=VISION)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds nothing"):
        read(tmp_path, tasks=VISION)
    (tmp_path / "x").mkdir()
    with pytest.raises(DataError, match="class folders without any files"):
        read(tmp_path, tasks=VISION)


def test_a_model_or_task_that_is_not_for_it(tmp_path: Path) -> None:
    fill(tmp_path, "x/a.wav", "y/b.wav")
    with pytest.raises(DataError, match="image-classification needs image and label"):
        read(tmp_path, tasks=VISION)
    with pytest.raises(DataError, match="automatic-speech-recognition needs audio and text"):
        read(tmp_path, tasks=SOUND, task=SOUND[1])


def test_names_in_any_script(tmp_path: Path) -> None:
    fill(tmp_path, "猫/ねこ 1.jpg", "собака/пёс.jpg", "cafe\u0301/é.jpg")
    assert {label for _, label in labelled(read(tmp_path, tasks=VISION))} == {"猫", "собака", "caf\u00e9"}


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such file names")
def test_names_that_are_not_utf8(tmp_path: Path) -> None:
    for folder, name in ((b"Fu\xdf", b"a\xff.jpg"), (b"Hand", b"b.jpg")):
        os.makedirs(os.path.join(os.fsencode(tmp_path), folder))
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), folder, name))).write_bytes(b"here")
    rows = read(tmp_path, tasks=VISION).splits["train"]
    assert rows.targets() == ["Fuß", "Hand"]
    assert rows[0].where.encode().endswith(rb"Fu\xdf/a\xff.jpg")
    assert Path(pickle.loads(pickle.dumps(rows))[0].input).read_bytes() == b"here"


def test_links_are_followed_and_circles_end(tmp_path: Path) -> None:
    store = fill(tmp_path / "store", "1.jpg")
    data = fill(tmp_path / "data", "x/2.jpg")
    (data / "y").symlink_to(store, target_is_directory=True)
    (data / "x" / "up").symlink_to(data / "x", target_is_directory=True)
    assert labelled(read(data, tasks=VISION)) == [("2.jpg", "x"), ("1.jpg", "y")]
