"""Wide & Deep from a table to a bundle."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.test_cli import fails, ok
from zoo.errors import ConfigError, DataError, InputError, SpecError
from zoo.results import Classification, Regression
from zoo.training.data.records import written

OPTIONS: dict[str, Any] = {"batch_size": 32, "learning_rate": 0.02, "progress": False, "seed": 0}
SIZE = {"embedding_dim": 4, "hidden": [16], "dropout": 0.0, "cross_buckets": 512}


def small(task: str) -> zoo.Model:
    return zoo.load(zoo.info("wide-and-deep").evolve(config=SIZE), task=task, device="cpu", seed=0)


def rows(count: int = 400) -> list[dict[str, Any]]:
    """Ratings that follow from user, film, and their combination; half of it is in the cross alone."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(count):
        user, film, price = int(rng.integers(8)), int(rng.integers(6)), float(rng.normal(10, 3))
        rating = 100 + 5 * user + 3 * film + 10 * ((user + film) % 2) + (price - 10) * 0.5
        found.append({"user": user, "film": f"film {film}", "price": price, "rating": rating})
    return found


@pytest.fixture(scope="module")
def rater() -> zoo.Model:
    return small("tabular-regression").finetune(
        rows(), columns={"label": "rating"}, crosses=[("user", "film")], epochs=25, **OPTIONS
    )


def test_ratings_are_learned_in_their_own_unit(rater: zoo.Model) -> None:
    test = rows(500)[400:]
    metrics = rater.evaluate(test, columns={"label": "rating"}).metrics
    true = np.array([row["rating"] for row in test])
    answers = np.array([result.value for result in rater.predict(test)])
    assert metrics["rmse"] == pytest.approx(float(np.sqrt(np.mean((answers - true) ** 2))), rel=1e-5)
    assert metrics["mae"] == pytest.approx(float(np.mean(np.abs(answers - true))), rel=1e-5)
    assert metrics["r2"] == pytest.approx(1 - float(np.mean((answers - true) ** 2) / true.var()), rel=1e-5)
    assert metrics["rmse"] < 0.25 * true.std()
    assert rater.spec.input.target.low <= answers.min() <= answers.max() <= rater.spec.input.target.high


def test_one_row_a_list_and_a_frame_answer_alike(rater: zoo.Model) -> None:
    pandas = pytest.importorskip("pandas")
    row = {"user": "3", "film": "film 1", "price": 9.0}
    alone = rater.predict(row)
    assert isinstance(alone, Regression)
    assert json.loads(json.dumps(alone.to_dict())) == {"value": alone.value}
    together = rater.predict([row, {"user": 3.0, "film": " film 1", "price": "9"}, {"user": "new"}])
    assert together[:2] == [alone, alone]
    assert rater.predict(pandas.DataFrame([row]))[0].value == pytest.approx(alone.value, abs=1e-4)
    assert rater.embed([row, row]).shape == (2, 16)


def test_the_bundle_needs_no_torch(rater: zoo.Model, tmp_path: Path) -> None:
    rater.export(tmp_path / "r.bundle")
    row = {"user": "3", "film": "film 1", "price": 9.0}
    code = (
        "import sys; sys.modules['torch'] = None; import zoo.runtime, json; "
        f"b = zoo.runtime.load({str(tmp_path / 'r.bundle')!r}); "
        f"print(json.dumps([r.to_dict() for r in b.predict([{row!r}, {{'user': 'new', 'price': None}}])]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = rater.predict([row, {"user": "new", "price": None}])
    assert [r["value"] for r in json.loads(done.stdout)] == pytest.approx([r.value for r in expected], rel=1e-5)
    card = zoo.runtime.load(tmp_path / "r.bundle").card
    assert [item.shape for item in card.inputs] == [("batch", 2), ("batch", 1), ("batch", 2)]


def test_training_goes_on_with_the_same_columns(rater: zoo.Model, tmp_path: Path) -> None:
    rater.save(tmp_path / "rater")
    again = zoo.load(tmp_path / "rater", device="cpu")
    before = again.module.net.embedding.weight.detach().clone()
    again.finetune(rows(40), val=None, columns={"label": "rating"}, epochs=1, **{**OPTIONS, "learning_rate": 1e-5})
    assert again.spec == rater.spec
    assert float((again.module.net.embedding.weight.detach() - before).abs().max()) < 1e-3


def test_clicks_are_binary(tmp_path: Path) -> None:
    table = tmp_path / "clicks.csv"
    lines = [f"{i % 7},{i % 3 / 2 + 0.1},{'yes' if (i % 7) > 3 else 'no'}" for i in range(200)]
    table.write_text("\n".join(["user,price,clicked", *lines]), encoding="utf-8")
    model = small("tabular-classification").finetune(table, columns={"label": "clicked"}, epochs=6, **OPTIONS)
    assert model.labels == ("no", "yes")
    assert model.module.net.bias.shape == (1,)
    logits = model.forward(_batch(model, [{"user": 5, "price": 0.1}]))["logits"]
    assert logits.shape == (1, 2)
    assert logits[0, 0] == 0.0
    report = model.evaluate(table, columns={"label": "clicked"})
    answers = [model.predict({"user": i % 7, "price": i % 3 / 2 + 0.1}) for i in range(200)]
    assert all(isinstance(answer, Classification) for answer in answers)
    truth = ["yes" if (i % 7) > 3 else "no" for i in range(200)]
    scores = [dict(answer.top)["yes"] for answer in answers]
    metrics = pytest.importorskip("sklearn.metrics")
    binary = [label == "yes" for label in truth]
    assert report.metrics["log_loss"] == pytest.approx(metrics.log_loss(binary, scores), rel=1e-4)
    assert report.metrics["auroc"] == pytest.approx(metrics.roc_auc_score(binary, scores), abs=1e-6)
    assert report.metrics["auroc"] > 0.99
    assert model.task.metric == "log_loss"


def _batch(model: zoo.Model, raws: list[Any]) -> Any:
    from zoo.inference import make_batch

    return make_batch(model.encoder, model.task, [model.encoder.encode(raw)[0] for raw in raws])


def test_the_network_is_the_papers_sum() -> None:
    """Wide: weights of the categories, their cross and the number; deep: an MLP over embeddings; by hand."""
    import torch

    model = small("tabular-regression").finetune(
        rows(60), val=None, columns={"label": "rating"}, crosses=[("user", "film")], epochs=1, **OPTIONS
    )
    batch = _batch(model, [{"user": 1, "film": "film 2", "price": 12.0}])
    net = model.module.net
    (categories,), (crosses,), (numbers,) = (
        torch.from_numpy(batch.inputs[name]) for name in ("categories", "crosses", "numbers")
    )
    wide = sum(net.wide.weight[i] for i in categories) + net.crosses.weight[crosses[0]] + net.line.weight @ numbers
    deep = torch.cat([numbers, *(net.embedding.weight[i] for i in categories)])
    hidden = torch.relu(net.hidden[0].weight @ deep + net.hidden[0].bias)
    target = model.spec.input.target
    expected = (net.bias + wide + net.out.weight @ hidden) * target.std + target.mean
    np.testing.assert_allclose(model.forward(batch)["logits"][0], expected.detach().numpy(), rtol=1e-5)


def test_the_loss_is_the_squared_error_in_standard_units(rater: zoo.Model) -> None:
    import torch

    from zoo.tasks.base import LossOptions

    target = rater.spec.input.target
    outputs = {"logits": torch.tensor([[target.mean], [target.mean + target.std]])}
    loss = rater.task.loss(outputs, {"value": torch.tensor([target.mean + 2 * target.std] * 2)}, LossOptions())
    assert float(loss) == pytest.approx(4 + 1, rel=1e-4)
    with pytest.raises(ConfigError, match="class weights"):
        rater.task.loss(outputs, {}, LossOptions(class_weights=np.ones(2)))


# What can't be


def test_before_data_it_says_so() -> None:
    with pytest.raises(InputError, match="knows no columns yet: finetune"):
        small("tabular-regression").predict({"a": 1})
    assert "learned from the data" in str(zoo.info("wide-and-deep"))


def test_whole_numbers_may_be_labels_or_numbers() -> None:
    model = zoo.load(zoo.info("wide-and-deep").evolve(config=SIZE), device="cpu")
    data = [{"a": "x", "label": 1}, {"a": "y", "label": 2}] * 20
    with pytest.raises(DataError, match=r"label or as a number. Say which one: task='tabular-classification' or task="):
        model.finetune(data, **OPTIONS)
    model.finetune([{**row, "label": row["label"] + 0.5} for row in data], epochs=1, **OPTIONS)
    assert model.task.name == "tabular-regression"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([{"a": 1, "rating": 2}], r"has no column 'label', which is the target.* Say which one it is: columns="),
        ([{"a": "x", "label": 1.0}, {"a": "y", "label": "much"}], r"list\[1\], column 'label': .*'much'"),
        ([{"a": "x", "label": 1.0}, {"a": "y", "label": None}], r"list\[1\], column 'label': the cell is empty"),
        ([{"a": "x", "label": 1.0}, {"a": "y", "label": float("inf")}], "finite"),
        ([("x", 1.0)], "a row is a dict by the columns' names, not str"),
        ([], "no rows"),
        ("nowhere.csv", "nowhere.csv is no file"),
        ({"a": [1, 2], "label": [1]}, "columns of equal length"),
    ],
)
def test_data_that_cant_be_used_says_why(data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        small("tabular-regression").finetune(data, val=None, **OPTIONS)


def test_options_of_tables_are_for_tables() -> None:
    with pytest.raises(SpecError, match=r"no option 'hiden'. Did you mean 'hidden'"):
        zoo.load(zoo.info("wide-and-deep").evolve(config={"hiden": [3]}))


def test_cells_of_a_file() -> None:
    cells = ["3", "-2.50", "1e3", "01234", "0", "0.5", "", " nan ", "a", "123456789012345678", "1_000", "٣"]
    assert [written(cell) for cell in cells] == [
        3, -2.5, 1000.0, "01234", 0, 0.5, None, None, "a", 1.2345678901234568e17, "1_000", "٣",
    ]  # fmt: skip


def test_the_command_takes_rows_as_json(rater: zoo.Model, tmp_path: Path) -> None:
    rater.save(tmp_path / "rater")
    row = json.dumps({"user": "3", "film": "film 1", "price": 9.0})
    found = json.loads(ok("predict", tmp_path / "rater", row, "--json"))
    assert found["result"]["value"] == pytest.approx(rater.predict(json.loads(row)).value, rel=1e-5)
    assert "A row is a mapping" in fails("predict", tmp_path / "rater", "what?")
    assert zoo.TrainConfig(crosses="user x film, a x b").crosses == (("user", "film"), ("a", "b"))
