"""Networks as torch has them, on a batch that is on the device already: what nothing but the network costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from benchmarks.speed import data

Said = tuple[str, list[float]]
"""A label and its score, or a text and none."""


@dataclass(frozen=True, slots=True)
class Network:
    """module: of a checkpoint. outputs: its logits of a batch. loss: of a batch that has labels. told: what logits
    say of each item."""

    module: Any
    batch: Mapping[str, Any]
    outputs: Callable[[Any, Mapping[str, Any]], Any]
    loss: Callable[[Any, Mapping[str, Any]], Any]
    told: Callable[[Any], list[Said]]


def images(folder: str, inputs: Sequence[str], device: str) -> Network:
    """timm's network and transform. inputs: files."""
    import timm
    import timm.data
    import torch
    from PIL import Image

    module = timm.create_model(f"local-dir:{folder}", pretrained=True)
    module = module.to(device, memory_format=torch.channels_last)
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(module))
    pixels = torch.stack([transform(Image.open(path).convert("RGB")) for path in inputs])
    batch = {
        "pixels": pixels.to(device, memory_format=torch.channels_last),
        "labels": torch.arange(len(inputs), device=device) % module.num_classes,
    }
    return Network(
        module, batch,
        lambda model, batch: model(batch["pixels"]),
        lambda model, batch: torch.nn.functional.cross_entropy(model(batch["pixels"]), batch["labels"]),
        _best(module.pretrained_cfg["label_names"]),
    )  # fmt: skip


def texts(folder: str, inputs: Sequence[str], device: str) -> Network:
    """BERT with a head of labels."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    module = AutoModelForSequenceClassification.from_pretrained(folder)
    batch = tokenizer(list(inputs), padding=True, truncation=True, return_tensors="pt")
    labels = torch.arange(len(inputs)) % module.config.num_labels
    return _of_transformers(module, batch, labels, device, _best(module.config.id2label))


def language(folder: str, inputs: Sequence[str], device: str) -> Network:
    """A language model: all its tokens are learned."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.eos_token
    module = AutoModelForCausalLM.from_pretrained(folder)
    batch = tokenizer(list(inputs), padding=True, truncation=True, return_tensors="pt")
    return _of_transformers(module, batch, batch["input_ids"].clone(), device, lambda _: [])


def speech(folder: str, inputs: Sequence[str], device: str) -> Network:
    """Wav2Vec2 with a CTC head. inputs: files."""
    import soundfile
    from transformers import AutoProcessor, Wav2Vec2ForCTC

    processor = AutoProcessor.from_pretrained(folder)
    module = Wav2Vec2ForCTC.from_pretrained(folder)
    sounds = [soundfile.read(path, dtype="float32")[0] for path in inputs]
    batch = processor(sounds, sampling_rate=data.SAMPLING_RATE, padding=True, return_tensors="pt")
    labels = processor(text=[spoken(place) for place in range(len(inputs))], padding=True, return_tensors="pt")

    def told(logits: Any) -> list[Said]:
        return [(" ".join(text.split()), []) for text in processor.batch_decode(logits.argmax(-1))]

    return _of_transformers(module, batch, labels["input_ids"], device, told)


def spoken(place: int) -> str:
    """What a recording is said to say, in the letters that its checkpoint uses."""
    return ("TEE", "TE ET")[place % 2]


def _best(names: Any) -> Callable[[Any], list[Said]]:
    """names: by place."""

    def told(logits: Any) -> list[Said]:
        best = logits.softmax(-1).max(-1)
        found = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [(names[place], [score]) for place, score in found]

    return told


def _of_transformers(
    module: Any, batch: Mapping[str, Any], labels: Any, device: str, told: Callable[[Any], list[Said]]
) -> Network:
    there = {name: tensor.to(device) for name, tensor in batch.items()}
    return Network(
        module.to(device), {**there, "labels": labels.to(device)},
        lambda model, batch: model(**{name: value for name, value in batch.items() if name != "labels"}).logits,
        lambda model, batch: model(**batch).loss,
        told,
    )  # fmt: skip


KINDS: Mapping[str, Callable[[str, Sequence[str], str], Network]] = {
    "images": images, "texts": texts, "language": language, "speech": speech,
}  # fmt: skip


def gflop(kind: str, folder: str, inputs: Sequence[str], *, training: bool) -> float:
    """Of an item, on average, as torch counts the products and convolutions of a pass, and of the way back where it
    trains."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    # The fused attention of a CPU is not counted; its products are.
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        for item in inputs:
            network = KINDS[kind](folder, [item], "cpu")
            network.module.train(training)
            if training:
                network.loss(network.module, network.batch).backward()
            else:
                with torch.no_grad():
                    network.outputs(network.module, network.batch)
    return float(counter.get_total_flops()) / 1e9 / len(inputs)


def autocast(device: str, *, fast: bool) -> Any:
    import torch

    return torch.autocast(device, torch.bfloat16) if fast else nullcontext()


@contextmanager
def all_of_it(device: str) -> Iterator[dict[str, float]]:
    """Everything that was begun ends before the block does; the GPU's memory at its peak, in what it gives."""
    import torch

    figures: dict[str, float] = {}
    if device == "cpu":
        yield figures
        return
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    yield figures
    torch.cuda.synchronize()
    figures["gpu_mb"] = torch.cuda.max_memory_allocated() / 1e6
