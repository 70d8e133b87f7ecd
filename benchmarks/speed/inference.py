"""How quickly networks answer when there is much to answer: beside torch's forward pass alone, on what is ready."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed import checkpoints, data, networks
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.training import repeated
from benchmarks.speed.work import Setting, export, read

FACTS = {
    "title": "Answers in bulk",
    "model": "ResNet-50, ViT-B/16, BERT-base, Wav2Vec2-base with a CTC head, random weights",
    "data": "JPEG files of 500x375, texts of 128 tokens and of a median of 40, recordings of 5 seconds",
}
_HERE = "benchmarks.speed.inference"


class _Work(NamedTuple):
    """items: of a run. inputs: some, which are repeated. labelled: those that a reduced precision is judged on.

    counted: whose products are counted, as an average; the first alone where all are of one size.
    """

    name: str
    kind: str
    task: str
    folder: Path
    inputs: Sequence[str]
    labelled: Sequence[str]
    batch: int
    items: int
    unit: str
    each: float = 1.0
    counted: slice = slice(1)


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    for work in _works(setting):
        model = zoo.load(work.folder, task=work.task, device=setting.device)
        made = {}
        for precision in _precisions(setting, work.kind):
            path = setting.folder / f"{work.folder.name}-{precision}.bundle"
            made[precision] = (path, export(model, path, precision, work.labelled, runs_on=setting.device))
        if made:
            made |= _in_parts(setting, model, work, list(made)[-1])
        del model
        given = {
            "kind": work.kind, "folder": str(work.folder), "device": setting.device, "batch": work.batch,
            "inputs": setting.kept(f"{work.folder.name}-inputs", work.inputs), "items": work.items,
        }  # fmt: skip
        ours = {name: value for name, value in given.items() if name not in ("kind", "batch")}
        contestants = [
            Contestant("torch, forward alone", f"{_HERE}:alone", {**given, "fast": False}),
            Contestant(
                "the same, compiled, bf16", f"{_HERE}:alone", {**given, "fast": True}, tolerance=None,
                left_out="" if setting.device == "cuda" else "for GPUs",
            ),
            Contestant("zoo, torch", f"{_HERE}:ours", {**ours, "task": work.task}, ours=True),
            *(
                Contestant(
                    f"zoo, torch, bf16{', compiled' * compiled}", f"{_HERE}:ours",
                    {**ours, "task": work.task, "precision": "bf16", "compiled": compiled}, ours=True,
                    tolerance=None, left_out="" if setting.device == "cuda" else "for GPUs",
                )
                for compiled in (False, True)
            ),
        ]  # fmt: skip
        for precision, (path, reason) in made.items():
            start = {**ours, "folder": str(path)}
            contestants.append(Contestant(
                f"zoo, bundle {precision}", f"{_HERE}:bundle", start, ours=True, left_out=reason,
                tolerance=1e-3 if precision.startswith("fp32") else None,
            ))  # fmt: skip
        cost = networks.gflop(work.kind, str(work.folder), work.inputs[work.counted], training=False)
        yield Contest(
            f"{work.name}, {work.items:,} items", work.items * work.each, work.unit, contestants, gflop=cost / work.each
        )


def _in_parts(setting: Setting, model: Any, work: _Work, precision: str) -> dict[str, tuple[Path, str]]:
    """The graph as it was before opset 23: an attention is written as its products and its softmax."""
    from zoo import tracing

    path = setting.folder / f"{work.folder.name}-{precision}-parts.bundle"
    whole, tracing.OPSET = tracing.OPSET, 18
    try:
        reason = export(model, path, precision, work.labelled, runs_on=setting.device)
    finally:
        tracing.OPSET = whole
    return {f"{precision}, attention in parts": (path, reason)}


def _precisions(setting: Setting, kind: str) -> tuple[str, ...]:
    if setting.quick and kind != "texts":
        return ()  # other works export such networks
    return ("fp32",) if setting.device == "cpu" else ("fp32", "fp16")


def _works(setting: Setting) -> Iterator[_Work]:
    tiny = setting.quick
    paths = data.photographs(setting.folder / "photographs", setting.size(256, 6))
    files = [str(path) for path in paths]
    size = {"batch": setting.size(256, 2), "items": setting.size(8192, 4)}
    for name, make in (("ResNet-50", checkpoints.resnet), ("ViT-B/16", checkpoints.vit)):
        folder = make(setting.folder / make.__name__, paths[:16], tiny=tiny)
        yield _Work(name, "images", "image-classification", folder, files, files[:8], **size, unit="images")
    texts = [data.text(setting.size(126, 10), seed) for seed in range(setting.size(256, 6))]
    yield _Work(
        "BERT-base, 128 tokens", "texts", "text-classification",
        checkpoints.bert(setting.folder / "bert", tiny=tiny), texts, texts[:8], **size, unit="sequences",
    )  # fmt: skip
    # Sorted, so that torch alone pads as little as it can.
    made, every = setting.size(1024, 6), setting.size(64, 1)
    ragged = sorted(data.texts(made, longest=setting.size(512, 60)), key=lambda text: len(text.split()))
    yield _Work(
        "BERT-base, ragged texts", "texts", "text-classification",
        checkpoints.bert(setting.folder / "bert-ragged", tiny=tiny), ragged, ragged[:: setting.size(128, 1)],
        batch=setting.size(64, 2), items=size["items"], unit="sequences", counted=slice(None, None, every),
    )  # fmt: skip
    seconds = setting.size(5, 1)
    paths = data.recordings(setting.folder / "sounds", setting.size(64, 6), shortest=seconds, longest=seconds)
    files = [str(path) for path in paths]
    yield _Work(
        "Wav2Vec2-base, 5 s", "speech", "automatic-speech-recognition",
        checkpoints.wav2vec2(setting.folder / "wav2vec2", paths[:3], tiny=tiny), files, files[:6],
        batch=setting.size(32, 2), items=setting.size(1024, 4), unit="seconds", each=seconds,
    )  # fmt: skip


def alone(kind: str, folder: str, inputs: str, device: str, batch: int, items: int, fast: bool) -> Ready:
    """Batches that are prepared and on the device, and what each item's logits say. fast: bf16, compiled."""
    import torch

    some = read(inputs)
    ready = [networks.KINDS[kind](folder, some[start : start + batch], device) for start in range(0, len(some), batch)]
    module = ready[0].module.eval()
    if fast:
        module.compile()

    @torch.inference_mode()
    def run() -> Answer:
        told: list[networks.Said] = []
        with networks.all_of_it(device) as figures:
            for place in range(-(-items // batch)):
                one = ready[place % len(ready)]
                with networks.autocast(device, fast=fast):
                    logits = one.outputs(module, one.batch)
                told += one.told(logits.float())
        return _answer(told[:items], figures)

    return Ready(run)


def ours(
    folder: str, inputs: str, device: str, items: int, task: str, precision: str = "fp32", compiled: bool = False
) -> Ready:
    import zoo

    model = zoo.load(folder, task=task, device=device, precision=precision, compile=compiled)
    return _asked(model, inputs, device, items)


def bundle(folder: str, inputs: str, device: str, items: int) -> Ready:
    import zoo

    return _asked(zoo.runtime.load(folder, device=device), inputs, "cpu", items)


def _asked(model: Any, inputs: str, device: str, items: int) -> Ready:
    given = repeated(read(inputs), items)

    def run() -> Answer:
        with networks.all_of_it(device) as figures:
            found = model.predict(given)
        said = [(item.text, []) if hasattr(item, "text") else (item.label, [item.top[0].score]) for item in found]
        return _answer(said, figures)

    return Ready(run)


def _answer(said: Sequence[networks.Said], figures: Mapping[str, float]) -> Answer:
    return Answer([name for name, _ in said], [scores for _, scores in said], figures)
