"""The folder format: whole or not at all, and every byte accounted for."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from zoo import bundle, manifest
from zoo.errors import BundleError


def write(folder: Path, **files: str) -> Path:
    with bundle.writing(folder) as temporary:
        for name, text in files.items():
            (temporary / name).write_text(text)
    return folder


def test_a_written_folder_verifies_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", one="1", two="22")
    assert set(manifest.verify(folder)) == {"one", "two"}
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_flipped_byte_of_every_file_is_found(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", one="some text", two="more")
    for path in sorted(folder.iterdir()):
        content = path.read_bytes()
        for position in range(len(content)):
            path.write_bytes(content[:position] + bytes([content[position] ^ 1]) + content[position + 1 :])
            with pytest.raises(BundleError):
                manifest.verify(folder)
        path.write_bytes(content)
    manifest.verify(folder)


def test_a_missing_and_an_added_file_are_named(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", one="1", two="2")
    (folder / "three").write_text("3")
    with pytest.raises(BundleError, match="three is not in the manifest"):
        manifest.verify(folder)
    (folder / "three").unlink()
    (folder / "one").unlink()
    with pytest.raises(BundleError, match="one is missing"):
        manifest.verify(folder)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", "a\\..\\b", "./one"])
def test_a_manifest_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = write(tmp_path / "a", one="1")
    entry = manifest.verify(folder)["one"]
    (folder / manifest.MANIFEST).write_bytes(manifest._canonical({name: entry}))
    with pytest.raises(BundleError, match="leads out"):
        manifest.verify(folder)


def test_a_link_in_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "outside").write_text("1")
    folder = write(tmp_path / "a", one="1")
    (folder / "one").unlink()
    (folder / "one").symlink_to(tmp_path / "outside")
    with pytest.raises(BundleError, match="one is missing"):
        manifest.verify(folder)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"files": 3}', '{"files": {"one": 3}}', "[" * 100_000])
def test_a_damaged_manifest_is_an_error_not_a_traceback(tmp_path: Path, text: str) -> None:
    folder = write(tmp_path / "a", one="1")
    (folder / manifest.MANIFEST).write_text(text)
    with pytest.raises(BundleError):
        manifest.verify(folder)


def test_an_error_while_writing_leaves_what_was_there(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", one="old")

    def fail() -> None:
        with bundle.writing(folder) as temporary:
            (temporary / "one").write_text("new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (folder / "one").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_full_disk_is_one_readable_error_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a", one="old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"No space left.*untouched"):
        write(folder, one="new")
    assert (folder / "one").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_rewriting_replaces_the_whole_folder(tmp_path: Path) -> None:
    write(tmp_path / "a", one="1", two="2")
    folder = write(tmp_path / "a", one="new")
    assert set(manifest.verify(folder)) == {"one"}


def test_a_folder_of_somebody_else_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("x")
    with pytest.raises(BundleError, match="did not write"):
        write(tmp_path / "photos", one="1")
    with pytest.raises(BundleError, match="is a file"):
        write(tmp_path / "photos" / "cat.jpg", one="1")


def test_a_card_of_a_later_format_says_upgrade(tmp_path: Path) -> None:
    (tmp_path / bundle.CARD).write_text(json.dumps({"format": 99}))
    with pytest.raises(BundleError, match="Upgrade"):
        bundle.read_card(tmp_path)
    with pytest.raises(BundleError, match=r"no zoo\.yaml"):
        bundle.read_card(tmp_path / "nowhere")
