"""Image classifiers of torchvision. Everything that is torchvision's own way stays in this file."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from typing import Any, final

import torchvision  # type: ignore[import-untyped]
from torch import Tensor, nn
from torchvision.transforms import InterpolationMode  # type: ignore[import-untyped]

from zoo.backends.module import Normalize, ZooModule
from zoo.backends.weights import State, load_into
from zoo.catalog import labels as label_set
from zoo.errors import ConfigError, SpecError, UnknownModel, WeightsUnavailable, suggest
from zoo.spec import ImageInput, ModelSpec, TaskName, Weights

TASKS: tuple[TaskName, ...] = ("image-classification", "feature-extraction")
# Extra classifiers of Inception and GoogLeNet, which only training from nothing uses.
_AUXILIARY = ("AuxLogits", "aux1", "aux2")
_REGISTRY = "torchvision"


@final
class TorchvisionModule(ZooModule):
    """A torchvision classifier. Inputs: uint8 `pixel_values [B, 3, H, W]`, normalised inside."""

    def __init__(self, net: nn.Module, *, spec: ModelSpec, task: str, head: str) -> None:
        bare = task == "feature-extraction"
        super().__init__(net, spec=spec, task=task, head=() if bare else (head,))
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input, channels_last=True)
        self.classifier = head

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(pixel_values=pixel_values)}
        return {"logits": self.net(self.prepare(pixel_values))}

    def pooled(self, pooling: str, pixel_values: Tensor) -> Tensor:
        """What the classifier sees: each architecture pools in the way it was trained with."""
        if pooling != self.pooling:
            raise ConfigError(f"{type(self.net).__name__} pools in its own way; leave out pooling={pooling!r}.")
        values = self.prepare(pixel_values)
        if self.task == "feature-extraction":
            features: Tensor = self.net(values)
            return features.flatten(1)
        seen: list[Tensor] = []
        hook = self.net.get_submodule(self.classifier).register_forward_pre_hook(lambda _, args: seen.append(args[0]))
        try:
            self.net(values)
        finally:
            hook.remove()
        # SqueezeNet classifies every position, and then averages.
        return seen[0].mean(dim=(2, 3)) if seen[0].dim() == 4 else seen[0]


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    if task not in TASKS:
        raise SpecError(f"{spec.name} (torchvision) can't be built for {task!r}; it can be for: {', '.join(TASKS)}.")
    classes = len(labels) if task == "image-classification" else 1
    net = _create(spec, classes)
    head = _head_of(net, classes)
    if task == "feature-extraction":
        _replace(net, head, nn.Identity())
    module = TorchvisionModule(net, spec=spec, task=task, head=head)
    if state is None:
        return module

    def is_head(key: str) -> bool:
        return key.startswith((f"{head}.", *(f"{name}." for name in _AUXILIARY)))

    module.fresh_head = load_into(net, _renamed(state), is_head=is_head, where=f"torchvision's {spec.architecture}")
    return module


def resolve(name: str) -> ModelSpec:
    """The spec of a model of torchvision's registry, with its default weights."""
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        raise UnknownModel(
            f"torchvision has no image classifier {name!r}.{suggest(name, known)} "
            f"torchvision.models.list_models() lists all {len(known)}."
        )
    weights = torchvision.models.get_model_weights(name).DEFAULT
    meta = weights.meta
    spec = ModelSpec(
        name=name.lower().replace("_", "-"),
        title=f"torchvision's {name}",
        modality="vision",
        tasks=TASKS,
        backend="torchvision",
        architecture=name,
        config={"transform_input": True} if name in ("inception_v3", "googlenet") else {},
        weights=Weights(repo=_REGISTRY, revision=weights.name, file=weights.url.rsplit("/", 1)[-1]),
        input=_input(weights.transforms()),
        labels="imagenet-1k" if len(meta["categories"]) == 1000 else tuple(meta["categories"]),
        source=meta.get("recipe"),
        parameters=meta.get("num_params"),
    )
    return spec.evolve(labels=label_set(spec))


def fetch(spec: ModelSpec) -> State:
    """The weights that torchvision's registry names, through torch's own cache (TORCH_HOME)."""
    assert spec.weights is not None
    try:
        weights = torchvision.models.get_model_weights(spec.architecture)[spec.weights.revision]
    except (KeyError, ValueError) as error:
        raise WeightsUnavailable(
            f"torchvision's registry has no weights {spec.weights.revision!r} of {spec.architecture!r}."
        ) from error
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True, weights_only=True))
    except (OSError, RuntimeError) as error:
        raise WeightsUnavailable(
            f"{weights.url} could not be had ({error}). With a connection, once, it is kept in TORCH_HOME; "
            f"zoo.load('torchvision:{spec.architecture}', weights=None) builds random weights."
        ) from error


def _create(spec: ModelSpec, classes: int) -> Any:
    options = dict(spec.config)
    transform_input = options.pop("transform_input", None)
    try:
        with warnings.catch_warnings():
            # Inception and GoogLeNet announce a change of how they are initialised.
            warnings.simplefilter("ignore", FutureWarning)
            net: Any = torchvision.models.get_model(spec.architecture, weights=None, num_classes=classes, **options)
    except (TypeError, ValueError) as error:
        raise SpecError(f"torchvision can't build {spec.architecture!r} with {spec.config}: {error}") from error
    for name in _AUXILIARY:
        if hasattr(net, name):
            net.aux_logits = False
            setattr(net, name, None)
    if transform_input is not None:
        net.transform_input = transform_input
    return net


def _head_of(net: nn.Module, classes: int) -> str:
    """The last layer that gives one value a class."""
    found = [
        name
        for name, layer in net.named_modules()
        if classes in (getattr(layer, "out_features", None), getattr(layer, "out_channels", None))
    ]
    if not found:
        raise SpecError(f"torchvision's {type(net).__name__} is not an image classifier.")
    return str(found[-1])


def _replace(net: nn.Module, path: str, layer: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(net.get_submodule(parent), name, layer)


def _renamed(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """DenseNet's published files have names with a dot too many (`norm.1` for `norm1`)."""
    pattern = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")
    return {pattern.sub(r"\1\2", key): tensor for key, tensor in state.items()}


def _input(transform: Any) -> ImageInput:
    size, resized = int(transform.crop_size[0]), int(transform.resize_size[0])
    names = {
        InterpolationMode.BILINEAR: "bilinear",
        InterpolationMode.BICUBIC: "bicubic",
        InterpolationMode.NEAREST: "nearest",
    }
    return ImageInput(
        size=(size, size),
        mean=tuple(transform.mean),
        std=tuple(transform.std),
        interpolation=names.get(transform.interpolation, "bilinear"),  # type: ignore[arg-type]
        crop_pct=min(size / resized, 1.0),
    )
