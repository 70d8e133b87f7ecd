"""What bfloat16 is worth in torch on a CPU whose processor multiplies in it: beside transformers in the same precision.

    python benchmarks/bfloat16.py                # some twenty minutes on two cores; writes results
    python benchmarks/bfloat16.py --other zen4   # those of another CPU, beside the first one's
    python benchmarks/bfloat16.py --quick        # tiny networks, shows that it runs, writes nothing

The contestants are those of `python -m benchmarks cpu`, in float32 and in bfloat16, each in a process of its own.
Weights are random at full architecture size: how far answers are from float32's is written down, and says little of
trained ones.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.quality.common import RESULTS
from benchmarks.speed import checkpoints, data, finetune, finetune_images
from benchmarks.speed.command import surroundings, tell
from benchmarks.speed.contest import Contest, Contestant, hold
from benchmarks.speed.table import shown
from benchmarks.speed.work import Setting

RESULT, OTHERS = RESULTS / "bfloat16.json", {"zen4": RESULTS / "bfloat16_zen4.json"}
_SPEED = "benchmarks.speed"
_HALF = {"precision": "bf16"}


def contests(setting: Setting) -> Iterator[Contest]:
    bert = str(checkpoints.bert(setting.folder / "bert", tiny=setting.quick))
    texts = data.texts(setting.size(64, 6), longest=setting.size(512, 60))
    for count, name in ((1, "BERT-base, 1 text"), (len(texts), f"BERT-base, {len(texts)} ragged texts")):
        # One of the median's length.
        given = _given(setting, bert, f"texts{count}", [data.text(38, 0)] if count == 1 else texts)
        yield _both(name, count, "texts", ("transformers pipeline", f"{_SPEED}.text:pipeline"), given, told=count > 1)
    paths = data.photographs(setting.folder / "photographs", setting.size(32, 6))
    resnet = str(checkpoints.resnet(setting.folder / "resnet", paths[:16], tiny=setting.quick))
    given = _given(setting, resnet, "paths", [str(path) for path in paths])
    pipeline = ("transformers pipeline", f"{_SPEED}.images:pipeline")
    yield _both(f"ResNet-50, {len(paths)} JPEG files", len(paths), "images", pipeline, given)
    tokens = setting.size(24, 4)
    gpt2 = str(checkpoints.gpt2(setting.folder / "gpt2", tiny=setting.quick))
    given = {**_given(setting, gpt2, "prompts", [data.text(24, 0)]), "tokens": tokens}
    theirs = ("transformers generate", f"{_SPEED}.generate:generate")
    yield _both(f"GPT-2, 1 prompt, {tokens} tokens", tokens, "tokens", theirs, given, told=False)
    yield from _learning(setting, paths)


def _given(setting: Setting, folder: str, name: str, inputs: list[Any]) -> dict[str, Any]:
    return {"folder": folder, "inputs": setting.kept(name, inputs), "device": "cpu"}


def _both(
    name: str, items: int, unit: str, theirs: tuple[str, str], given: dict[str, Any], *, told: bool = True
) -> Contest:
    """theirs: a name, and where it starts; ours is in the same module. told: as `Contest` has it."""
    title, start = theirs
    own = f"{start.partition(':')[0]}:ours"
    return Contest(
        name, items, unit,
        [
            Contestant(title, start, given),
            Contestant(f"{title}, bf16", start, {**given, **_HALF}, tolerance=None),
            Contestant("zoo, torch", own, given, ours=True),
            Contestant("zoo, torch, bf16", own, {**given, **_HALF}, ours=True, tolerance=None),
        ],
        told=told,
    )  # fmt: skip


def _learning(setting: Setting, paths: list[Path]) -> Iterator[Contest]:
    updates, batch = setting.size(4, 2), setting.size(16, 8)
    rows, longest = updates * batch, setting.size(512, 60)
    given = {"updates": updates, "batch": batch, "rate": 1e-4, "device": "cpu"}
    texts = {
        **given,
        "folder": str(checkpoints.base_bert(setting.folder / "fresh", tiny=setting.quick)),
        "sure": str(checkpoints.base_bert(setting.folder / "sure", tiny=setting.quick, dropout=0.0)),
        "train": setting.kept("train", finetune._rows(rows, longest, 0)),
        "test": setting.kept("test", finetune._rows(setting.size(16, 4), longest, 9000)),
    }
    grouped = {**texts, "strategy": "group_by_length"}
    yield _taught(f"BERT-base, {updates} updates of {batch} texts", rows, "finetune", grouped, texts)
    folder = checkpoints.small_resnet(setting.folder / "learns", paths[:8], tiny=setting.quick, name="resnet50")
    tests = data.photographs(setting.folder / "others", setting.size(16, 4), seed=1)
    images = {
        **given,
        "folder": str(folder),
        "sure": str(folder),
        "train": setting.kept("images", finetune_images._rows((paths * 8)[:rows])),
        "test": setting.kept("tests", finetune_images._rows(tests)),
    }
    yield _taught(f"ResNet-50, {updates} updates of {batch} images", rows, "finetune_images", images, images)


def _taught(name: str, rows: int, work: str, theirs: dict[str, Any], ours: dict[str, Any]) -> Contest:
    """theirs, ours: arguments of the work's two functions."""
    start = f"{_SPEED}.{work}"
    return Contest(
        name, rows, "samples",
        [
            Contestant("Trainer", f"{start}:trainer", theirs),
            Contestant("Trainer, bf16", f"{start}:trainer", {**theirs, **_HALF}, tolerance=None),
            # Pixels are prepared by each side's own code, and norms hand the difference on.
            Contestant("zoo, finetune", f"{start}:ours", ours, ours=True, tolerance=2e-2),
            Contestant("zoo, finetune, bf16", f"{start}:ours", {**ours, **_HALF}, ours=True, tolerance=None),
        ],
        judged=False,
    )  # fmt: skip


def table(found: dict[str, Any]) -> str:
    """As docs/performance.md has it."""
    lines = ["| work | transformers, fp32 | transformers, bf16 | zoo, fp32 | zoo, bf16 |", "|---|---|---|---|---|"]
    for contest in found["contests"]:
        times = [row["times"] for row in contest["rows"]]
        cells = [f"{item['median']:.2f} ({item['min']:.2f} to {item['max']:.2f})" for item in times[1:]]
        lines.append(f"| {contest['name']} | 1 | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny networks, one round; writes nothing")
    parser.add_argument("--other", choices=OTHERS, help="what was measured on the CPU of this name")
    options = parser.parse_args()
    quick = options.quick
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as name:
        setting = Setting(Path(name), quick=quick)
        rounds = 1 if quick else 5
        found = []
        for contest in contests(setting):
            found.append(hold(contest, rounds, tell))
            print(shown(found[-1]), flush=True)
    result = {**surroundings(setting), "load_average": before, "rounds": rounds, "contests": found}
    if not quick:
        path = OTHERS[options.other] if options.other else RESULT
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(table(result))


if __name__ == "__main__":
    main()
