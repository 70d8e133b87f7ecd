"""Nearest neighbours: exact, kept without pickles, from a list, a folder and the command line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import zoo
from tests.test_cli import fails, ok
from tests.tiny import tiny
from zoo import index as index_module
from zoo.errors import BundleError, ConfigError, DataError
from zoo.index import Index


@pytest.fixture(scope="module")
def eye() -> zoo.Model:
    return zoo.load(tiny(zoo.info("resnet18")), weights=None, device="cpu", seed=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in ("a.png", "日本/b.PNG", "日本/c.png", ".hidden/d.png", "broken.png", "notes.txt"):
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name.startswith(("broken", "notes")):
            path.write_bytes(b"no image")
        else:
            noise = rng.integers(0, 256, (6, 6, 3)).astype(np.uint8)
            Image.fromarray(noise).resize((64, 64)).save(path, format="PNG")
    return folder


def test_the_nearest_are_those_of_the_whole_comparison(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_module, "_CHUNK", 7)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(50, 6)).astype(np.float32) * rng.uniform(0.1, 100, (50, 1)).astype(np.float32)
    vectors[31] = vectors[3]
    index = Index(vectors, [str(i) for i in range(50)], model="m")
    query = rng.normal(size=6)
    cosines = vectors @ query / np.linalg.norm(vectors, axis=1) / np.linalg.norm(query)
    found = index.nearest(query, top_k=9)
    assert [item.place for item in found] == np.argsort(-cosines, kind="stable")[:9].tolist()
    np.testing.assert_allclose([item.score for item in found], np.sort(cosines)[::-1][:9], rtol=1e-5)
    assert [item.place for item in index.nearest(vectors[3], top_k=2)] == [3, 31]
    assert len(index.nearest(query, top_k=999)) == 50


def test_a_folder_is_searched_by_image(eye: zoo.Model, photos: Path, tmp_path: Path) -> None:
    index = Index.build(eye, photos)
    assert index.names == ("a.png", "日本/b.PNG", "日本/c.png")
    assert len(index.skipped) == 1
    assert index.skipped[0].startswith("broken.png: ")
    for name in index.names:
        assert index.search(eye, photos / name, top_k=1)[0].name == name
        assert index.search(eye, photos / name, top_k=1)[0].score == pytest.approx(1.0, abs=1e-5)
    index.save(tmp_path / "a.index")
    again = Index.load(tmp_path / "a.index")
    assert (again.names, again.model, again.folder) == (index.names, "resnet18", str(photos.resolve()))
    np.testing.assert_array_equal(again.vectors, index.vectors)
    assert again.search(eye, photos / "a.png") == index.search(eye, photos / "a.png")


def test_a_list_of_texts_and_a_bundle(tmp_path: Path) -> None:
    model = zoo.load(tiny(zoo.info("all-minilm-l6-v2")), weights=None, device="cpu", seed=0)
    texts = ["one fish", "two fish", "الطقس جميل", "x" * 300]
    index = Index.build(model, texts)
    assert index.search(model, "الطقس جميل", top_k=1)[0].name == "الطقس جميل"
    (tmp_path / "notes").mkdir()
    for i, text in enumerate(texts):
        (tmp_path / "notes" / f"{i}.txt").write_text(text, encoding="utf-8")
    bundle = model.export(tmp_path / "m.bundle")
    by_bundle = Index.build(bundle, tmp_path / "notes")
    np.testing.assert_allclose(by_bundle.vectors, index.vectors, atol=1e-5)


def test_a_damaged_index_is_refused(tmp_path: Path) -> None:
    Index(np.eye(3, dtype=np.float32), ["a", "b", "c"], model="m").save(tmp_path / "i")
    path = tmp_path / "i" / "vectors.npz"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.raises(BundleError, match="bytes have changed"):
        Index.load(tmp_path / "i")
    with pytest.raises(BundleError):
        Index.load(tmp_path / "nowhere")


def test_what_cant_be_searched_says_why(eye: zoo.Model, tmp_path: Path) -> None:
    index = Index(np.eye(3, dtype=np.float32), ["a", "b", "c"], model="m")
    with pytest.raises(ConfigError, match="'resnet18' embeds into another space"):
        index.search(eye, "x.png")
    with pytest.raises(ConfigError, match="has 2 numbers, and those of the index 3"):
        index.nearest(np.ones(2))
    with pytest.raises(ConfigError, match="NaN"):
        index.nearest(np.array([1, np.nan, 0]))
    with pytest.raises(ConfigError, match="top_k is 0"):
        index.nearest(np.ones(3), top_k=0)
    with pytest.raises(DataError, match="came"):
        Index(np.eye(3), ["a"], model="m")
    with pytest.raises(DataError, match="has no files that end in"):
        Index.build(eye, tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        Index.build(eye, tmp_path / "nowhere")
    with pytest.raises(DataError, match="Nothing could be embedded: the list is empty"):
        Index.build(eye, [])


def test_the_commands(eye: zoo.Model, photos: Path, tmp_path: Path) -> None:
    eye.save(tmp_path / "eye")
    assert "3 files by resnet18" in ok("index", tmp_path / "eye", photos, tmp_path / "i")
    found = json.loads(ok("search", tmp_path / "eye", tmp_path / "i", photos / "a.png", "--top-k", 2, "--json"))
    assert found[0]["name"] == "a.png"
    assert len(found) == 2
    assert "There is no folder" in fails("index", tmp_path / "eye", tmp_path / "no", tmp_path / "j")
