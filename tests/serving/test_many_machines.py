"""Many inputs on many machines: the parts of a run, its worker, and a Ray cluster of two nodes that answers."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import zoo
from tests.serving.cluster import APP, ENVIRONMENT, ROOT, build
from tests.serving.conftest import png, ready
from tests.test_cli import fails
from zoo.batching import files, plan
from zoo.batching.work import Job, Worker
from zoo.errors import BundleError, ConfigError, DataError
from zoo.runtime.serve import App
from zoo.runtime.serve.shelf import named

TEXTS = ["Ada Lovelace lives in London.", "Zürich", "He met Grace Hopper of the Navy in New York."]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures in folders, one file that is none, and one that is of another kind."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "more").mkdir()
    for number in range(7):
        (folder / ("more" if number % 2 else "") / f"{number}.png").write_bytes(png(40 + 9 * number, 50))
    Image.new("RGB", (30, 30), "red").save(folder / "red.jpg")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff no picture")
    (folder / "notes.txt").write_text("no picture either")
    return folder


def job(bundle: Path, output: Path, **changes: Any) -> Job:
    given = {"written": "jsonl", "columns": None, "device": "cpu", "threads": 1, "batch_size": "auto", "options": {}}
    output.mkdir(exist_ok=True)
    return Job(**{"bundle": str(bundle), "output": str(output), **given, **changes})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def parts(worker: Worker, inputs: Any, size: int = 500) -> list[plan.Part]:
    paths = plan.sources(inputs, worker.model.spec.input.kind)
    return [plan.Part.parse(part.dump()) for part in plan.parts(paths, worker.roles, size=size)]


def test_files_are_answered_in_order_and_a_broken_one_is_named(
    photos: Path, bundles: dict[str, Path], tmp_path: Path
) -> None:
    worker = Worker(job(bundles["animals"], tmp_path / "out", options={"top_k": 2}))
    cut = parts(worker, photos, size=4)
    assert [len(part.paths) for part in cut] == [4, 4, 1]
    assert sum(worker.answer(number, part) for number, part in enumerate(cut)) == 1
    rows = [row for path in sorted((tmp_path / "out").iterdir()) for row in lines(path)]
    paths = sorted(path for path in photos.rglob("*") if path.suffix in (".png", ".jpg"))
    assert [row["input"] for row in rows] == [str(path) for path in paths]
    for row in rows:
        if row["input"].endswith("broken.jpg"):
            assert row["result"] is None
            assert row["error"].startswith("InputError: ")
            assert "broken.jpg" in row["error"]
        else:
            expected = worker.model.predict(row["input"], top_k=2).to_dict()
            assert row["result"] == {**expected, "score": pytest.approx(expected["score"]), "top": row["result"]["top"]}
            assert len(row["result"]["top"]) == 2


@pytest.mark.parametrize("form", ["csv", "jsonl", "parquet"])
def test_rows_of_tables_whatever_their_form(form: str, bundles: dict[str, Path], tmp_path: Path) -> None:
    table = tmp_path / f"reviews.{form}"
    if form == "parquet":
        import pandas

        pandas.DataFrame({"id": range(4), "review": [*TEXTS, None]}).to_parquet(table)
    elif form == "csv":
        table.write_text("id,review\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate([*TEXTS, ""])))
    else:
        table.write_text("".join(f"{json.dumps({'id': 1, 'review': text})}\n" for text in TEXTS) + "{broken\n")
    worker = Worker(job(bundles["tagger"], tmp_path / "out", columns={"text": "review"}))
    first, second = parts(worker, str(table), size=3)
    assert worker.answer(0, first) == 0
    assert worker.answer(1, second) == 1
    answered = lines(tmp_path / "out" / "part-000000.jsonl")
    assert [row["row"] for row in answered] == [0, 1, 2]
    for row, text in zip(answered, TEXTS, strict=True):
        expected = [entity.to_dict() for entity in worker.model.predict(text)]
        assert row["result"] == [{**item, "score": pytest.approx(item["score"])} for item in expected]
    (last,) = lines(tmp_path / "out" / "part-000001.jsonl")
    assert (last["row"], last["result"]) == (3, None)
    # As a spreadsheet counts: the csv's first row has the names.
    assert f"{table.name} row {5 if form == 'csv' else 4}" in last["error"]
    assert ("column 'review': the cell is empty" in last["error"]) == (form != "jsonl")


def test_a_table_that_is_damaged_is_one_line_beside_the_others(bundles: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Ada"}\n')
    (tmp_path / "b.parquet").write_bytes(b"PAR1 cut off")
    worker = Worker(job(bundles["tagger"], tmp_path / "out"))
    good, broken = parts(worker, tmp_path)
    assert [part.rows for part in (good, broken)] == [1, 1]
    assert worker.answer(1, broken) == 1
    (row,) = lines(tmp_path / "out" / "part-000001.jsonl")
    assert (row["input"], row["row"]) == (str(tmp_path / "b.parquet"), None)
    assert "is not a readable Parquet file" in row["error"]


def test_a_fault_of_one_input_stays_with_it_and_a_part_that_kills_is_given_up(
    bundles: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text("".join(f"{json.dumps({'text': text})}\n" for text in TEXTS))
    worker = Worker(job(bundles["tagger"], tmp_path / "out"))
    (part,) = parts(worker, table)
    answer = worker.model.predict_iter

    def faulty(raws: Any, **options: Any) -> Any:
        if "Zürich" in raws:
            raise ZeroDivisionError("a defect")
        return answer(raws, **options)

    monkeypatch.setattr(worker.model, "predict_iter", faulty)
    assert worker.answer(0, part) == 1
    found = lines(tmp_path / "out" / "part-000000.jsonl")
    assert [row["error"] for row in found] == [None, "ZeroDivisionError: a defect", None]

    def killed(raws: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(worker.model, "predict_iter", killed)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            worker.answer(1, part)
    assert worker.answer(1, part) == 3
    assert all("ended 3 times" in row["error"] for row in lines(tmp_path / "out" / "part-000001.jsonl"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["part-000000.jsonl", "part-000001.jsonl"]


def test_what_can_not_be_is_said_before_anything_starts(bundles: dict[str, Path], photos: Path, tmp_path: Path) -> None:
    animals, out = bundles["animals"], tmp_path / "out"
    with pytest.raises(ConfigError, match="no option 'top_q'"):
        zoo.batch(animals, photos, out, top_q=1)
    with pytest.raises(ConfigError, match="part_rows is 0"):
        zoo.batch(animals, photos, out, part_rows=0)
    with pytest.raises(BundleError, match="There is no bundle"):
        zoo.batch(tmp_path / "none", photos, out)
    with pytest.raises(DataError, match="No file fits"):
        zoo.batch(animals, str(photos / "*.gif"), out)
    with pytest.raises(ConfigError, match=r"would be \.csv"):
        zoo.batch(animals, photos, tmp_path / "out.csv")
    table = tmp_path / "t.jsonl"
    table.write_text('{"txt": "Ada"}\n')
    assert "--columns text=..." in fails("batch", bundles["tagger"], table, "-o", out)
    with pytest.raises(ConfigError, match=r"names 'label', and an input of this model has: text"):
        zoo.batch(bundles["tagger"], table, out, columns={"label": "txt"})
    with pytest.raises(ConfigError, match="holds no run"):
        zoo.batch(animals, photos, photos)
    assert not out.exists(), "nothing was begun"


def test_vectors_and_names_that_are_no_text_fit_into_parquet(tmp_path: Path) -> None:
    import pandas

    rows = [
        files.Answered("a\udcff.png", None, [0.5, 0.25], None),
        files.Answered("b.png", None, None, "InputError: x"),
    ]
    files.write(rows, tmp_path / "part-000000.parquet", vectors=True)
    frame = pandas.read_parquet(tmp_path)
    assert frame["result"][0].tolist() == [0.5, 0.25]
    assert frame["result"][1] is None
    assert frame["input"][0] == r"a\udcff.png"
    assert files.errors_in(tmp_path / "part-000000.parquet") == 1


def test_a_bundle_is_served_by_another_name_than_its_folders(bundles: dict[str, Path], tmp_path: Path) -> None:
    with ready(App([f"pets={bundles['animals']}"])) as client:
        assert client.get("/v2/models/pets").json()["name"] == "pets"
    odd = tmp_path / "a=b.bundle"
    odd.mkdir()
    with pytest.raises(ConfigError, match="'a=b', which fits no route"):
        named(odd)
    assert named("pets=/bundle") == ("pets", Path("/bundle"))


# ----------------------------------------------------------------------------------------------------- on a cluster


@pytest.mark.timeout(600)
def test_a_cluster_of_two_nodes_answers_as_the_bundle_does(
    bundles: dict[str, Path], photos: Path, tmp_path: Path
) -> None:
    """In a process of its own: after another cluster in the same process, Ray Data's workers were never started."""
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("grpc_reflection") is None:
        pytest.skip('needs Ray with Ray Serve: pip install "ray[data,serve]"')
    command = [sys.executable, "-m", "tests.serving.cluster", bundles["animals"], photos, tmp_path / "out.parquet"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_of_ray_serve_is_one_that_the_app_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc_reflection", reason="needs Ray Serve")
    import yaml
    from ray.serve.schema import ServeDeploySchema

    monkeypatch.syspath_prepend(str(APP))
    found = yaml.safe_load((APP / "serve.yaml").read_text(encoding="utf-8"))
    schema = ServeDeploySchema.model_validate(found)
    for application in schema.applications:
        assert application.import_path == "app:app"
        assert build(application.args)._bound_deployment.name == "bundles"
        assert application.args["token_file"], "it listens beyond this machine"
        assert {item.name for item in application.deployments} <= {"bundles"}
    assert os.environ.get("ZOO_SERVE_TOKEN") is None
    sys.modules.pop("app")
