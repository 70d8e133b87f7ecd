"""ResNet-50 over JPEG files: the five best labels each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, bundles, compiled, exported, read, torch_dtype

FACTS = {
    "title": "Labels of photographs",
    "model": "ResNet-50, random weights",
    "data": "JPEG files of 500x375",
}
_HERE = "benchmarks.speed.images"
_ROWS = 8  # a batch, of loops


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    paths = data.photographs(setting.folder / "photographs", setting.size(32, 6))
    others = data.photographs(setting.folder / "others", setting.size(16, 8), seed=1)
    folder = checkpoints.resnet(setting.folder / "resnet", others, tiny=setting.quick)
    model = zoo.load(folder, device="cpu")
    made = exported(setting, model, [str(path) for path in others])
    del model
    given = {"folder": str(folder), "inputs": setting.kept("photographs", paths), "device": setting.device}
    last = {**given, "channels_last": True}
    yield Contest(
        f"{len(paths)} JPEG files", len(paths), "images",
        [
            Contestant("transformers pipeline", f"{_HERE}:pipeline", given),
            Contestant("pipeline, 8 a batch", f"{_HERE}:pipeline", {**given, "batch_size": _ROWS}),
            Contestant("timm loop", f"{_HERE}:loop", given),
            Contestant("timm loop, channels last", f"{_HERE}:loop", last),
            Contestant("timm's network alone", f"{_HERE}:loop", {**given, "alone": True}),
            Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
            compiled(f"{_HERE}:ours", given, setting),
            Contestant("zoo, torch, network alone", f"{_HERE}:ours", {**given, "alone": True}, ours=True),
            *bundles(f"{_HERE}:bundle", given, made),
        ],
    )  # fmt: skip


def pipeline(folder: str, inputs: str, device: str, batch_size: int | None = None, precision: str = "fp32") -> Ready:
    import transformers

    asked = transformers.pipeline("image-classification", model=folder, device=device, dtype=torch_dtype(precision))
    paths = read(inputs)
    options = {} if batch_size is None else {"batch_size": batch_size}

    def run() -> Answer:
        found = asked(paths, **options)
        return _answer([[(score["label"], score["score"]) for score in item] for item in found])

    return Ready(run)


def _answer(found: Sequence[Sequence[tuple[str, float]]]) -> Answer:
    """The best label, and five scores: the fourth and the fifth may change places within a tolerance."""
    return Answer([item[0][0] for item in found], [[score for _, score in item[:5]] for item in found])


def loop(folder: str, inputs: str, device: str, channels_last: bool = False, alone: bool = False) -> Ready:
    """As timm's inference script has it: its transform, batches, softmax, the best five.

    alone: on images that are prepared already, as a limit of what preparing can bring.
    """
    import timm
    import timm.data
    import torch
    from PIL import Image

    model = timm.create_model(f"local-dir:{folder}", pretrained=True).to(device).eval()
    memory = torch.channels_last if channels_last else torch.contiguous_format
    model = model.to(memory_format=memory)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    paths, names = read(inputs), model.pretrained_cfg["label_names"]

    def prepared(some: Sequence[str]) -> torch.Tensor:
        return torch.stack([transform(Image.open(path).convert("RGB")) for path in some])

    ready = [prepared(paths[start : start + _ROWS]) for start in range(0, len(paths), _ROWS)] if alone else []

    @torch.inference_mode()
    def run() -> Answer:
        found: list[list[tuple[str, float]]] = []
        for place, start in enumerate(range(0, len(paths), _ROWS)):
            batch = ready[place] if alone else prepared(paths[start : start + _ROWS])
            best = model(batch.to(device, memory_format=memory)).softmax(-1).topk(5)
            rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found += [[(names[i], score) for i, score in zip(*row, strict=True)] for row in rows]
        return _answer(found)

    return Ready(run)


def ours(
    folder: str, inputs: str, device: str, compiled: bool = False, alone: bool = False, precision: str = "fp32"
) -> Ready:
    """alone: the network on prepared batches, without reading, preparing and naming."""
    import zoo

    model = zoo.load(folder, device=device, precision=precision, compile=compiled)
    paths = read(inputs)
    return _alone(model, paths) if alone else Ready(lambda: _of_results(model.predict(paths)))


def bundle(folder: str, inputs: str, device: str) -> Ready:
    import zoo

    model = zoo.runtime.load(folder, device=device)
    paths = read(inputs)
    return Ready(lambda: _of_results(model.predict(paths)))


def _of_results(found: Any) -> Answer:
    return _answer([[(score.label, score.score) for score in item.top] for item in found])


def _alone(model: Any, paths: Sequence[str]) -> Ready:
    from zoo.inference import make_batch

    windows = [model.task.encode(model.encoder, path, model.task.parse_options({}))[0] for path in paths]
    batches = [
        make_batch(model.encoder, model.task, windows[start : start + _ROWS]) for start in range(0, len(windows), _ROWS)
    ]
    names = model.labels

    def run() -> Answer:
        import torch

        found: list[list[tuple[str, float]]] = []
        for batch in batches:
            best = torch.from_numpy(model.forward(batch)["logits"]).softmax(-1).topk(5)
            rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
            found += [[(names[i], score) for i, score in zip(*row, strict=True)] for row in rows]
        return _answer(found)

    return Ready(run)
