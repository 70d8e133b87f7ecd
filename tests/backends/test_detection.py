"""Detectors against upstream: the same forward, the same loss, the same answers on the same weights."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from tests.tiny import tiny
from zoo.inference import make_batch
from zoo.tasks.base import LossOptions
from zoo.tasks.detection import DetectionOptions

NAMES = ("detr-resnet-50", "conditional-detr-resnet-50", "deformable-detr", "rtdetr-r18vd")
LABELS = ["cat", "dog", "owl"]
OBJECTS = [
    [{"bbox": [4, 5, 60, 40], "category": "cat"}, {"bbox": [30, 60, 90, 50], "category": "owl"}],
    [{"bbox": [2, 2, 30, 50], "category": "dog"}],
    [],
    [{"box": [10, 5, 250, 35], "label": "dog"}, {"bbox": [0, 0, 40, 30], "category": "cat", "iscrowd": 1}],
]


@pytest.fixture(scope="module", params=NAMES)
def model(request: pytest.FixtureRequest) -> zoo.Model:
    made = zoo.load(tiny(zoo.info(request.param)), labels=LABELS, weights=None, device="cpu", seed=1)
    # Fresh heads answer alike everywhere; larger ones tell the queries and the layers apart.
    with torch.no_grad():
        for parameter in made.module.head_parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(3)) * 0.3)
    return made


def _batch(model: zoo.Model) -> Any:
    examples = [
        model.task.examples(model.encoder, raw, target)[0]
        for raw, target in zip(model.task.samples(), OBJECTS, strict=True)
    ]
    return make_batch(model.encoder, model.task, examples)


def _tensors(arrays: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _upstream_inputs(model: zoo.Model, batch: Any) -> dict[str, torch.Tensor]:
    """Normalised by hand, padding set to zero afterwards, as upstream's processors do."""
    spec, given = model.spec.input, _tensors(batch.inputs)
    mean, std = (torch.tensor(getattr(spec, name)).view(1, 3, 1, 1) for name in ("mean", "std"))
    pixels = (given["pixel_values"].float() / 255 - mean) / std
    if "pixel_mask" not in given:
        return {"pixel_values": pixels}
    mask = given["pixel_mask"]
    return {"pixel_values": pixels * mask.unsqueeze(1), "pixel_mask": mask.long()}


def test_the_forward_is_upstreams_and_a_batch_answers_as_each_row_alone(model: zoo.Model) -> None:
    batch = _batch(model)
    with torch.no_grad():
        ours = model.module(**_tensors(batch.inputs))
        theirs = model.module.net(**_upstream_inputs(model, batch))
        torch.testing.assert_close(ours["logits"], theirs.logits, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours["boxes"], theirs.pred_boxes, rtol=0, atol=1e-5)
        for row in range(4):
            alone = model.module(**{name: array[row : row + 1] for name, array in _tensors(batch.inputs).items()})
            torch.testing.assert_close(alone["boxes"][0], ours["boxes"][row], rtol=0, atol=1e-5)


def test_the_answers_are_those_of_upstreams_processor(model: zoo.Model) -> None:
    from transformers import DeformableDetrImageProcessorPil, DetrImageProcessorPil, RTDetrImageProcessorPil

    processors = {"detr": DetrImageProcessorPil, "rt_detr": RTDetrImageProcessorPil}
    processor = processors.get(model.spec.architecture, DeformableDetrImageProcessorPil)()
    batch = _batch(model)
    outputs = model.forward(batch)
    found = SimpleNamespace(logits=torch.from_numpy(outputs["logits"]), pred_boxes=torch.from_numpy(outputs["boxes"]))
    sizes = [(example.source.height, example.source.width) for example in batch.examples]
    for row, expected in enumerate(processor.post_process_object_detection(found, threshold=0.1, target_sizes=sizes)):
        ours = model.task.decode(
            [{k: v[row] for k, v in outputs.items()}], [batch.examples[row]], DetectionOptions(0.1)
        )
        order = np.argsort(-expected["scores"].numpy(), kind="stable")
        assert len(ours) == len(order)
        np.testing.assert_allclose([d.score for d in ours], expected["scores"].numpy()[order], atol=1e-6)
        theirs = sorted(zip(expected["labels"].tolist(), expected["boxes"].tolist(), strict=True))
        mine = sorted((LABELS.index(d.label), list(d.box)) for d in ours)
        assert [label for label, _ in mine] == [label for label, _ in theirs]
        np.testing.assert_allclose([box for _, box in mine], [box for _, box in theirs], atol=1e-2)


def test_the_loss_is_upstreams_with_every_layers(model: zoo.Model) -> None:
    batch = _batch(model)
    targets = _tensors(batch.targets)
    labels = []
    for row in range(4):
        real = (targets["labels"][row] >= 0) & (targets["crowd"][row] == 0)
        labels.append({"class_labels": targets["labels"][row][real], "boxes": targets["boxes"][row][real]})
    net = model.module.net
    model.module.train()
    for part in model.module.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    try:
        with torch.no_grad():
            torch.manual_seed(0)
            outputs = model.module(**_tensors(batch.inputs))
            torch.manual_seed(0)
            mine, net._loss_function = net._loss_function, None
            del net._loss_function
            # Denoising adds queries of its own, which ours leaves out.
            net.config.num_denoising = 0
            theirs = net(**_upstream_inputs(model, batch), labels=labels).loss
            net.loss_function = mine
            loss = model.task.loss(outputs, targets, LossOptions())
    finally:
        model.module.eval()
    weight = model.task.weight(batch.targets, LossOptions())
    assert weight == 4
    assert float(loss) / weight == pytest.approx(float(theirs), rel=1e-4)
