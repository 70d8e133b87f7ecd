"""What the examples share: their options, the last steps (measure, export, run without torch), the table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import re
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import zoo
from zoo.parity import explain

HERE = Path(__file__).resolve().parent


def arguments(description: str | None, name: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=Path("demo-output") / name, help="where everything is written")
    parser.add_argument("--hub", action="store_true", help="take the catalogue's pretrained weights from the hub")
    parser.add_argument(
        "--quick", action="store_true", help="a few steps only: shows that it runs, not what it reaches"
    )
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    return options


def package_file(package: str, *parts: str) -> Path:
    """A data file of an installed package, found without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{package} is not installed: pip install --no-deps -r examples/requirements.txt")
    return Path(spec.origin).parent.joinpath(*parts)


def pocketsphinx_recordings(folder: Path) -> Path:
    """PocketSphinx' test recordings (BSD), from its source package: two readers, ten files."""
    target = folder / "pocketsphinx"
    if not target.is_dir():
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "pocketsphinx"]
        subprocess.run([*command, "-d", str(folder), "pocketsphinx==5.1.1"], check=True)
        with tarfile.open(next(folder.glob("pocketsphinx-*.tar.gz"))) as archive:
            wanted = [m for m in archive.getmembers() if "/test/data/cards/" in m.name or "/data/librivox/" in m.name]
            archive.extractall(target, members=[m for m in wanted if m.name.endswith(".wav")], filter="data")
    return target


def finish(model: zoo.Model, before: zoo.Report, test: Any, raws: list[Any], output: Path, *, metric: str) -> None:
    """Measure after training, save, export with the parity check, answer raw files without torch, write the figures.

    raws: raw inputs that the bundle answers in a process of its own: paths, or texts.
    """
    after = model.evaluate(test)
    print(after)
    after.to_html(output / "report.html")
    model.save(output / "model")
    target = output / f"{output.name}.bundle"
    bundle = model.export(target, samples=raws[:8])
    assert bundle.card.parity is not None
    print(explain(bundle.card.parity))
    answers = without_torch(target, raws)
    expected = [str(answer) for answer in model.predict(raws)]
    same = sum(a == b for a, b in zip(labels_of(answers), labels_of(expected), strict=True))
    print(f"Without torch: {same} of {len(raws)} raw inputs answered as torch did. The first: {answers[0]}")
    torch_ms, bundle_ms = milliseconds(model, bundle, raws)
    row = {
        "model": model.spec.name,
        "task": model.task.name,
        "metric": metric,
        "before": before.metrics[metric],
        "after": after.metrics[metric],
        "parity_max_abs_difference": bundle.card.parity.max_abs_difference,
        "parity_agreement": bundle.card.parity.agreement,
        "parity_passed": bundle.card.parity.passed and same == len(raws),
        "torch_ms_per_item": torch_ms,
        "bundle_ms_per_item": bundle_ms,
        "bundle_mb": sum(f.stat().st_size for f in target.iterdir()) / 1e6,
    }
    (output / "result.json").write_text(json.dumps(row, indent=1))
    print(table([row]))


def without_torch(bundle: Path, raws: list[Any]) -> list[str]:
    """The bundle's answers from a fresh process in which torch and transformers can't be imported."""
    command = [sys.executable, str(HERE / "torch_free.py"), str(bundle)]
    lines = "\n".join(json.dumps(str(raw)) for raw in raws)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
    return done.stdout.splitlines()


def labels_of(answers: list[str]) -> list[str]:
    """Answers without their scores, whose last digits may differ."""
    return [re.sub(r"score=[\d.]+", "", answer) for answer in answers]


def milliseconds(model: zoo.Model, bundle: Any, raws: list[Any], rounds: int = 3) -> tuple[float, float]:
    """Medians of interleaved rounds over the same raw inputs, preprocessing included."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds):
        for predictor, taken in zip((model, bundle), times, strict=True):
            start = time.perf_counter()
            predictor.predict(raws)
            taken.append(1000 * (time.perf_counter() - start) / len(raws))
    return statistics.median(times[0]), statistics.median(times[1])


def table(rows: list[dict[str, Any]]) -> str:
    """One line a model, within 80 columns. Times are milliseconds an item, preprocessing included."""
    head = ["model", "task", "metric", "from", "to", "diff", "same", "torch", "bundle", "MB"]
    lines = [
        [
            row["model"],
            row["task"].replace("classification", "class."),
            row["metric"],
            f"{row['before']:.3f}",
            f"{row['after']:.3f}",
            f"{row['parity_max_abs_difference']:.0e}" if row["parity_passed"] else "FAILED",
            f"{row['parity_agreement']:.0%}",
            f"{row['torch_ms_per_item']:.1f}",
            f"{row['bundle_ms_per_item']:.1f}",
            f"{row['bundle_mb']:.0f}",
        ]
        for row in rows
    ]
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    shown = [" ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *lines]]
    return "\n".join([shown[0].rstrip(), "-" * len(shown[0]), *(line.rstrip() for line in shown[1:])])
