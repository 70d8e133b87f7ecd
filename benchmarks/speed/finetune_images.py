"""ResNet-18 learns labels of JPEG files: nothing is varied, so that all see the same images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.checkpoints import LABELS
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.learning import UPDATES_OF_PROOF, Job, Learner, Scores, labelled, of_trainer, of_zoo
from benchmarks.speed.work import Setting

FACTS = {
    "title": "Fine-tuning on images",
    "model": "ResNet-18, random weights, all of it trained",
    "data": "JPEG files of 500x375; the label is their strongest colour",
}
_HERE = "benchmarks.speed.finetune_images"
# Pixels are resized in other ways, and batch norms hand the difference on.
_TOLERANCE = 2e-2


def contests(setting: Setting) -> Iterator[Contest]:
    gpu = setting.device == "cuda"
    updates, batch = setting.size(6, 2), 16 if gpu else 8
    train = data.photographs(setting.folder / "photographs", setting.size(3 * batch, 8))
    test = data.photographs(setting.folder / "others", setting.size(16, 4), seed=1)
    folder = checkpoints.small_resnet(setting.folder / "resnet", train[:8], tiny=setting.quick)
    given = {
        "folder": str(folder),
        "sure": str(folder),
        "train": setting.kept("train", _rows(train)),
        "test": setting.kept("test", _rows(test)),
        "updates": updates,
        "batch": batch,
        "rate": 1e-3,
        "device": setting.device,
    }
    yield Contest(
        f"{updates} updates of {batch} images", updates * batch, "samples",
        [
            Contestant("Trainer", f"{_HERE}:trainer", given),
            # On two cores they take from the network what they give.
            *([Contestant("Trainer, 2 workers", f"{_HERE}:trainer", {**given, "workers": 2})] if gpu else ()),
            Contestant("timm loop", f"{_HERE}:loop", given, tolerance=_TOLERANCE),
            Contestant(
                "timm loop, 2 workers, channels last", f"{_HERE}:loop", {**given, "best": True}, tolerance=_TOLERANCE
            ),
            Contestant("zoo, finetune", f"{_HERE}:ours", given, ours=True, tolerance=_TOLERANCE),
        ],
        judged=False,
    )  # fmt: skip


def _rows(paths: list[Path]) -> list[tuple[str, str]]:
    import numpy as np
    from PIL import Image

    strongest = [int(np.asarray(Image.open(path)).mean(axis=(0, 1)).argmax()) for path in paths]
    return [(str(path), LABELS[place]) for path, place in zip(paths, strongest, strict=True)]


class _Files:
    """Images that are read and prepared when they are asked for, as a data set of torch."""

    def __init__(self, rows: list[tuple[str, str]], prepared: Any) -> None:
        self._rows, self._prepared = rows, prepared

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, place: int) -> dict[str, Any]:
        path, label = self._rows[place]
        return {"pixel_values": self._prepared(path), "labels": LABELS.index(label)}


def trainer(workers: int = 0, precision: str = "fp32", **given: Any) -> Ready:
    """timm's network as transformers wraps it, and its image processor."""
    import torch
    from PIL import Image
    from transformers import AutoImageProcessor, AutoModelForImageClassification, default_data_collator

    job = Job(**given)
    processor = AutoImageProcessor.from_pretrained(job.folder)

    def prepared(path: str) -> torch.Tensor:
        pixels: torch.Tensor = processor(Image.open(path).convert("RGB"), return_tensors="pt")["pixel_values"][0]
        return pixels

    @torch.inference_mode()
    def scores(model: Any, paths: Sequence[str]) -> Scores:
        logits = (model(prepared(path)[None].to(model.device)).logits for path in paths)
        return [labelled(model.config.id2label, one.softmax(-1)[0]) for one in logits]

    return of_trainer(
        job, AutoModelForImageClassification.from_pretrained, _Files(job.rows, prepared),  # type: ignore[arg-type]
        scores, default_data_collator, remove_unused_columns=False, dataloader_num_workers=workers,
        dataloader_persistent_workers=workers > 0, bf16=precision == "bf16",
    )  # fmt: skip


def loop(best: bool = False, **given: Any) -> Ready:
    """As timm's training script has it, with AdamW. best: its workers, and the layout that convolutions want."""
    import timm
    import timm.data
    import torch
    from PIL import Image
    from timm.optim import create_optimizer_v2

    job = Job(**given)
    memory = torch.channels_last if best else torch.contiguous_format

    def make(sure: bool, seed: int) -> tuple[Any, Any, int]:
        torch.manual_seed(seed)
        model = timm.create_model(f"local-dir:{job.folder}", pretrained=True).to(job.device, memory_format=memory)
        files = _Files(job.rows[: job.batch] if sure else job.rows, _transform(model))
        loader = torch.utils.data.DataLoader(
            files,
            job.batch,
            shuffle=True,
            num_workers=2 if best else 0,
            persistent_workers=best,  # type: ignore[arg-type]
        )
        return model, loader, UPDATES_OF_PROOF if sure else job.updates

    def train(made: tuple[Any, Any, int]) -> None:
        model, loader, updates = made
        model.train()
        optimizer = create_optimizer_v2(model, opt="adamw", lr=job.rate, weight_decay=0.01)
        warm = job.updates // 10
        rates = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: step / warm if step < warm else max(updates - step, 0) / max(updates - warm, 1),
        )
        done = 0
        while done < updates:
            for batch in loader:
                pixels = batch["pixel_values"].to(job.device, memory_format=memory)
                loss = torch.nn.functional.cross_entropy(model(pixels), batch["labels"].to(job.device))
                loss.backward()
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                rates.step()
                done += 1
                if done == updates:
                    break

    @torch.inference_mode()
    def told(made: tuple[Any, Any, int], paths: Sequence[str]) -> Scores:
        model = made[0].eval()
        prepared = _transform(model)
        logits = (model(prepared(path)[None].to(job.device)) for path in paths)
        return [labelled(dict(enumerate(LABELS)), one.softmax(-1)[0]) for one in logits]

    def _transform(model: Any) -> Any:
        transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
        return lambda path: transform(Image.open(path).convert("RGB"))

    return Learner(make, train, lambda made: made[0], told).ready(job)


def ours(precision: str = "fp32", **given: Any) -> Ready:
    return of_zoo(Job(**given), "image-classification", augment="none", precision=precision)
