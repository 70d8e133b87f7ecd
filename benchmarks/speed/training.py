"""How quickly networks are trained, from files: beside torch's step alone, on one batch that is on the device."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed import checkpoints, data, networks
from benchmarks.speed.answers import Answer
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, read

FACTS = {
    "title": "Training",
    "model": "ResNet-50, ViT-B/16, BERT-base, GPT-2 124M, Wav2Vec2-base with a CTC head, random weights",
    "data": "JPEG files of 500x375, texts of 128 tokens, windows of 1,024 tokens, recordings of 5 s; bf16, compiled",
}
_HERE = "benchmarks.speed.training"
_TASKS = {
    "images": "image-classification", "texts": "text-classification", "language": "text-generation",
    "speech": "automatic-speech-recognition",
}  # fmt: skip
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


class _Work(NamedTuple):
    """rows: how many a pass trains on. inputs: some, which are repeated."""

    name: str
    kind: str
    folder: Path
    inputs: Sequence[str]
    batch: int
    rows: int
    unit: str
    each: float = 1.0  # units of an item


def contests(setting: Setting) -> Iterator[Contest]:
    for work in _works(setting):
        given = {
            "kind": work.kind, "folder": str(work.folder), "inputs": setting.kept(f"{work.kind}-inputs", work.inputs),
            "device": setting.device, "batch": work.batch, "rows": work.rows,
        }  # fmt: skip
        fast = {"fast": setting.device == "cuda"}
        mine = {**given, **fast, "passes": setting.size(5, 1)}
        contestants = [
            Contestant("torch, its step alone", f"{_HERE}:alone", given | fast, tolerance=None),
            Contestant("torch, not compiled", f"{_HERE}:alone", {**given, "fast": False}, tolerance=None),
            Contestant("zoo, finetune", f"{_HERE}:ours", mine, ours=True, tolerance=None),
        ]
        if work.kind == "images":
            ready = {**mine, "decoded": True}
            contestants.append(Contestant("zoo, decoded before", f"{_HERE}:ours", ready, ours=True, tolerance=None))
            contestants.append(
                Contestant("zoo, profiled, not compiled", f"{_HERE}:profiled", given | fast, ours=True, tolerance=None)
            )
        cost = networks.gflop(work.kind, str(work.folder), work.inputs[:1], training=True)
        yield Contest(
            f"{work.name}, {work.batch} a step", work.rows * work.each, work.unit, contestants,
            told=False, judged=False, gflop=cost / work.each,
        )  # fmt: skip


def _works(setting: Setting) -> Iterator[_Work]:
    tiny = setting.quick
    batch, rows = (lambda full: 2 if tiny else full), (lambda full: 4 if tiny else full)
    paths = [str(path) for path in data.photographs(setting.folder / "photographs", setting.size(256, 4))]
    some = [Path(path) for path in paths[:16]]
    yield _Work(
        "ResNet-50", "images", checkpoints.resnet(setting.folder / "resnet", some, tiny=tiny), paths,
        batch(256), rows(8192), "images",
    )  # fmt: skip
    if not tiny:  # trained as the other is
        yield _Work(
            "ViT-B/16", "images", checkpoints.vit(setting.folder / "vit", some, tiny=tiny), paths,
            batch(256), rows(8192), "images",
        )  # fmt: skip
    # [CLS] and [SEP] among the 128; words of one token and of two.
    length = setting.size(126, 10)
    texts = [data.text(length, seed) for seed in range(setting.size(256, 4))]
    yield _Work(
        "BERT-base, 128 tokens", "texts", checkpoints.bert(setting.folder / "bert", tiny=tiny), texts,
        batch(128), rows(8192), "sequences",
    )  # fmt: skip
    # A byte is a token; with the token that ends a text they fill a window.
    length = setting.size(1023, 31)
    texts = [(data.text(length, seed) + " " * length)[:length] for seed in range(setting.size(64, 4))]
    yield _Work(
        "GPT-2, 1,024 tokens", "language", checkpoints.gpt2(setting.folder / "gpt2", tiny=tiny), texts,
        batch(16), rows(512), "tokens", each=length + 1,
    )  # fmt: skip
    seconds = setting.size(5, 1)
    paths = [
        str(path)
        for path in data.recordings(
            setting.folder / "recordings", setting.size(64, 4), shortest=seconds, longest=seconds
        )
    ]
    some = [Path(path) for path in paths[:3]]
    yield _Work(
        "Wav2Vec2-base, 5 s", "speech", checkpoints.wav2vec2(setting.folder / "wav2vec2", some, tiny=tiny), paths,
        batch(32), rows(1024), "seconds", each=seconds,
    )  # fmt: skip


def alone(kind: str, folder: str, inputs: str, device: str, batch: int, rows: int, fast: bool) -> Ready:
    """Forward, loss, backward and the fused optimiser's step, on one batch again and again; bf16 on a GPU. fast:
    compiled."""
    import torch

    network = networks.KINDS[kind](folder, repeated(read(inputs), batch), device)
    network.module.train()
    optimizer = torch.optim.AdamW(network.module.parameters(), lr=1e-5, fused=True)

    def step() -> Any:
        with networks.autocast(device, fast=device == "cuda"):
            loss = network.loss(network.module, network.batch)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    if fast:
        network.module.compile()
    loss = step()

    def run() -> Answer:
        nonlocal loss
        with networks.all_of_it(device) as figures:
            start = time.perf_counter()
            for _ in range(rows // batch):
                loss = step()
            found = loss.item()
        seconds = time.perf_counter() - start
        return Answer([str(math.isfinite(found))], figures={**figures, "seconds": seconds})

    return Ready(run)


def ours(
    kind: str, folder: str, inputs: str, device: str, batch: int, rows: int, fast: bool, passes: int,
    decoded: bool = False,
) -> Ready:  # fmt: skip
    """One run of one pass more than `passes`: the first compiles, and each of the others is a round. A run for each
    round would compile every time."""
    model, data_rows, options = _asked(kind, folder, inputs, device, rows, fast=fast, decoded=decoded)
    left: list[Answer] = []

    def learn() -> Answer:
        with networks.all_of_it(device) as figures:
            model.finetune(data_rows, None, epochs=1 + passes, batch_size=batch, **options)
        left[:] = [
            Answer([str(math.isfinite(one["train_loss"]))], figures={**figures, "seconds": one["seconds"]})
            for one in model.history[1:]
        ]
        return left[0]

    def run() -> Answer:
        if not left:
            learn()
        return left.pop()

    return Ready(run, proof=learn)


def profiled(kind: str, folder: str, inputs: str, device: str, batch: int, rows: int, fast: bool) -> Ready:
    """A pass under torch's profiler, once: the share of its time that the GPU works, and how often the host waits for
    it in a step. Not compiled, as each call of finetune() would compile within what is looked at."""
    from torch.profiler import ProfilerActivity, profile

    model, data_rows, options = _asked(kind, folder, inputs, device, rows, fast=fast)
    options.pop("compile", None)
    kinds = [ProfilerActivity.CPU] if device == "cpu" else [ProfilerActivity.CPU, ProfilerActivity.CUDA]

    def passes() -> Answer:
        # The libraries set themselves up.
        model.finetune(data_rows[: 2 * batch], None, epochs=1, batch_size=batch, **options)
        with profile(activities=kinds, acc_events=True) as found:
            model.finetune(data_rows, None, epochs=1, batch_size=batch, **options)
        last, events = model.history[-1], found.key_averages()
        figures = {"seconds": last["seconds"]}
        if device != "cpu":
            figures["waits"] = sum(event.count for event in events if event.key in _WAITS) * batch / rows
            on_gpu = (event.self_device_time_total for event in events if event.device_type.name == "CUDA")
            figures["busy"] = sum(on_gpu) / 1e6 / last["seconds"]
        return Answer([str(math.isfinite(last["train_loss"]))], figures=figures)

    answer = functools.cache(passes)
    return Ready(answer, proof=answer)


def _asked(
    kind: str, folder: str, inputs: str, device: str, rows: int, *, fast: bool, decoded: bool = False
) -> tuple[Any, list[Any], dict[str, Any]]:
    """A loaded model, what it learns from, and the options of finetune()."""
    import zoo

    given = repeated(_decoded(read(inputs)) if decoded else read(inputs), rows)
    if kind == "language":
        found: list[Any] = [{"text": text} for text in given]
    elif kind == "speech":
        found = [(path, networks.spoken(place)) for place, path in enumerate(given)]
    else:
        labels = LABELS if kind == "texts" else ("a", "b")
        found = [(item, labels[place % len(labels)]) for place, item in enumerate(given)]
    options = {"learning_rate": 1e-5, "lint": False, "progress": False, "packing": kind == "language"}
    options |= {"compile": True, "precision": "bf16"} if fast else {}
    return zoo.load(folder, task=_TASKS[kind], device=device), found, options


def _decoded(paths: Sequence[str]) -> list[Any]:
    import numpy as np
    from PIL import Image

    return [np.asarray(Image.open(path).convert("RGB")) for path in paths]


def repeated(items: Sequence[Any], count: int) -> list[Any]:
    return [items[place % len(items)] for place in range(count)]
