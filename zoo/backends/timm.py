"""Image models of timm. Everything that is timm's own way stays in this file."""

from __future__ import annotations

import inspect
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, final

import timm
from timm.data.imagenet_info import ImageNetInfo, infer_imagenet_subset
from torch import Tensor, nn

from zoo.backends.module import Normalize, ZooModule
from zoo.backends.weights import load_into
from zoo.catalog import labels as label_set
from zoo.errors import ConfigError, SpecError, UnknownModel, suggest
from zoo.spec import ImageInput, ModelSpec, TaskName, Weights
from zoo.strict import read

_FILE = "model.safetensors"
# What else create_model() takes: a file of somebody else may not say which other files are read.
_NOT_OF_THE_NETWORK = {"pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir"}
TASKS: tuple[TaskName, ...] = ("image-classification", "feature-extraction")


@final
class TimmModule(ZooModule):
    """A timm model. Inputs: uint8 `pixel_values [B, 3, H, W]`, normalised inside."""

    def __init__(self, net: nn.Module, *, spec: ModelSpec, task: str) -> None:
        super().__init__(net, spec=spec, task=task, head=_head_of(net) if task != "feature-extraction" else ())
        assert isinstance(spec.input, ImageInput)
        self.prepare = Normalize(spec.input, channels_last=True)

    def forward(self, pixel_values: Tensor) -> dict[str, Tensor]:
        if self.task == "feature-extraction":
            return {"embedding": self.embed(pixel_values=pixel_values)}
        return {"logits": self.net(self.prepare(pixel_values))}

    def pooled(self, pooling: str, pixel_values: Tensor) -> Tensor:
        """What the classifier sees: each architecture pools in the way it was trained with.

        Of a transformer with tokens of its own (class, registers) also "cls", and "mean" or "max" over the patches.
        """
        net: Any = self.net
        features = net.forward_features(self.prepare(pixel_values))
        if pooling == self.pooling:
            vectors: Tensor = net.forward_head(features, pre_logits=True)
            return vectors.flatten(1)
        if features.dim() != 3 or not getattr(net, "num_prefix_tokens", 0) or pooling == "last":
            raise ConfigError(f"{type(self.net).__name__} pools in its own way; leave out pooling={pooling!r}.")
        tokens = getattr(net, "fc_norm", nn.Identity())(features)
        return tokens[:, 0] if pooling == "cls" else _over_patches(tokens[:, net.num_prefix_tokens :], pooling)


def _over_patches(tokens: Tensor, pooling: str) -> Tensor:
    return tokens.mean(dim=1) if pooling == "mean" else tokens.amax(dim=1)


def build(spec: ModelSpec, *, task: str, labels: tuple[str, ...], state: Mapping[str, Tensor] | None) -> ZooModule:
    if task not in TASKS:
        raise SpecError(f"{spec.name} (timm) can't be built for {task!r}; it can be for: {', '.join(TASKS)}.")
    module = TimmModule(_create(spec, len(labels) if task != "feature-extraction" else 0), spec=spec, task=task)
    if state is None:
        return module
    prefixes = _head_of(module.net)

    def is_head(key: str) -> bool:
        return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)

    # Before and after: timm's filters look at shapes, and know their own names only.
    fitting = _fewer_channels(_converted(_fewer_channels(state, module.net), module.net, spec), module.net)
    module.fresh_head = load_into(module.net, fitting, is_head=is_head, where=f"timm's {spec.architecture}")
    return module


def _create(spec: ModelSpec, classes: int) -> nn.Module:
    if not timm.is_model(spec.architecture):
        raise UnknownModel(unknown(spec.architecture))
    if wrong := sorted(_NOT_OF_THE_NETWORK & set(spec.config)):
        raise SpecError(f"{spec.name}: {', '.join(wrong)} says where weights come from, and is no option of a network.")
    options = {**_channels(spec), **spec.config}
    try:
        net: nn.Module = timm.create_model(spec.architecture, pretrained=False, num_classes=classes, **options)
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise SpecError(f"timm can't build {spec.architecture!r} with {spec.config}: {error}") from error
    return net


def _channels(spec: ModelSpec) -> dict[str, Any]:
    return {"in_chans": 1} if isinstance(spec.input, ImageInput) and spec.input.channels == 1 else {}


def _fewer_channels(state: Mapping[str, Tensor], net: Any) -> Mapping[str, Tensor]:
    """First layers of three channels, summed for one by timm's own rule: grey in all three gave the same."""
    first = net.pretrained_cfg.get("first_conv") or ()
    own, changed = net.state_dict(), dict(state)
    for name in (first,) if isinstance(first, str) else first:
        key = f"{name}.weight"
        if key in changed and key in own and changed[key].shape[1:2] == (3,) and own[key].shape[1] == 1:
            changed[key] = timm.models.adapt_input_conv(1, changed[key])
    return changed


def resolve(name: str) -> ModelSpec:
    """The spec of a timm model, `architecture` or `architecture.tag`, as its registry describes the weights."""
    if not timm.is_model(name):
        raise UnknownModel(unknown(name))
    try:
        config: Any = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError as error:
        tagged = timm.list_pretrained(f"{name.split('.')[0]}.*")
        raise UnknownModel(
            f"timm has no weights {name!r}.{suggest(name, tagged)} It has: {', '.join(tagged) or 'none'}."
        ) from error
    architecture = f"{config.architecture}.{config.tag}" if config.tag else str(config.architecture)
    classes = config.num_classes or 0
    height, width = config.input_size[1:]
    spec = ModelSpec(
        name=architecture.lower(),
        title=f"timm's {architecture}",
        modality="vision",
        tasks=TASKS if classes else TASKS[::-1],
        backend="timm",
        architecture=architecture,
        weights=Weights(repo=config.hf_hub_id, file=config.hf_hub_filename or _FILE) if config.hf_hub_id else None,
        input=ImageInput(
            size=(height, width),
            mean=config.mean,
            std=config.std,
            interpolation=config.interpolation if config.interpolation != "random" else "bilinear",
            crop_pct=min(config.crop_pct, 1.0),
            # A border, timm's third way, pads the image where this one crops nothing.
            crop_mode="squash" if config.crop_mode == "squash" else "center",
        ),
        labels="imagenet-1k" if classes == 1000 else _labels(config, classes),
        license=config.license,
        source=f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else config.url or None,
    )
    return spec.evolve(labels=label_set(spec) or None)


def of_folder(said: Mapping[str, Any], *, where: str) -> ModelSpec:
    """The spec of a checkpoint folder of timm's, by its config.json. Raises SpecError, UnknownModel."""
    config = said.get("pretrained_cfg", said)
    options = said.get("model_args") or {}
    architecture = said["architecture"]
    if not timm.is_model(architecture):
        raise UnknownModel(unknown(architecture))
    try:
        classes = int(said.get("num_classes", config.get("num_classes", 0)))
        if classes < 0:
            raise ValueError(f"num_classes is {classes}")
        own, height, width = config["input_size"]
        channels = options.get("in_chans") or own
        mean, std = ([*config[name]] * (3 if channels == 1 else 1) for name in ("mean", "std"))
        names = said.get("label_names", config.get("label_names", said.get("labels")))
        image = {
            "size": (height, width), "mean": mean[:3], "std": std[:3], "channels": channels,
            "crop_pct": min(config.get("crop_pct", 0.875), 1.0),
            "interpolation": str(config.get("interpolation", "bicubic")).replace("random", "bilinear"),
            "crop_mode": "squash" if config.get("crop_mode") == "squash" else "center",
        }  # fmt: skip
        labels = _names(names, classes) if classes else None
        network = {key: value for key, value in options.items() if key not in ("num_classes", "in_chans")}
    except (TypeError, ValueError, KeyError, AttributeError, IndexError) as error:
        raise SpecError(f"{where}: its config.json is not one that timm writes: {error!r}.") from error
    return read(
        ModelSpec,
        {
            "name": architecture.lower(), "title": f"timm's {architecture}", "modality": "vision", "backend": "timm",
            "tasks": TASKS if classes else TASKS[::-1], "architecture": architecture, "config": network,
            "input": {"kind": "image", **image}, "labels": labels, "license": config.get("license"),
        },
        where=where,
    )  # fmt: skip


def _names(given: Any, classes: int) -> tuple[str, ...]:
    """Labels in the order of the logits: a list, or a mapping by index with gaps; LABEL_0 and so on, as upstream."""
    pairs = enumerate(given) if isinstance(given, list) else (given or {}).items()
    by_index = {int(index): label for index, label in pairs}
    return tuple(str(by_index.get(index, f"LABEL_{index}")) for index in range(classes))


def _labels(config: Any, classes: int) -> tuple[str, ...] | None:
    """What timm knows of a label set, each label once; None where it knows nothing."""
    if config.label_names:
        return tuple(config.label_names)
    subset = infer_imagenet_subset(config.to_dict())
    if not subset:
        return None
    info = ImageNetInfo(subset)
    described = [info.index_to_description(index) for index in range(classes)]
    twice = {label for label, count in Counter(described).items() if count > 1}
    return tuple(
        f"{label} ({info.index_to_label_name(index)})" if label in twice else label
        for index, label in enumerate(described)
    )


def unknown(name: str) -> str:
    names = timm.list_models(pretrained=False)
    return f"timm has no model {name!r}.{suggest(name.split('.')[0], names)} timm.list_models() lists all {len(names)}."


def _head_of(net: Any) -> tuple[str, ...]:
    """The classifier's names in the network: one, or two for distilled models."""
    named = net.pretrained_cfg.get("classifier") or ()
    return (named,) if isinstance(named, str) else tuple(named)


def _converted(state: Mapping[str, Tensor], net: nn.Module, spec: ModelSpec) -> Mapping[str, Tensor]:
    """The checkpoint in timm's names: as it is, or through timm's own filter for the authors' original files."""
    own = net.state_dict()
    if "_conv_stem.weight" in state:
        return _by_order(state, own, spec)
    if all(key in state and state[key].shape == own[key].shape for key in own if not key.endswith("_tracked")):
        return state
    convert = getattr(sys.modules[type(net).__module__], "checkpoint_filter_fn", None)
    if convert is None or len(inspect.signature(convert).parameters) < 2:
        return state
    try:
        converted: Mapping[str, Tensor] = convert(dict(state), net)
    except (KeyError, RuntimeError, AttributeError, ValueError):
        return state  # Not a file that timm knows: the names as they came tell more in the message that follows.
    return converted


def _by_order(state: Mapping[str, Tensor], own: Mapping[str, Tensor], spec: ModelSpec) -> Mapping[str, Tensor]:
    """Checkpoints of the `efficientnet_pytorch` family (`_conv_stem`, `_blocks.0._depthwise_conv`, ...).

    They hold the same tensors in the same order under other names. Renamed only when every name is of that
    family and every shape, the classifier's apart, agrees in order.
    """
    body = [key for key in state if not key.startswith("_fc.")]
    names = body if len(own) == len(body) else list(state)
    pairs = list(zip(names, own, strict=False))
    known = all(key.startswith("_") for key in state)
    agree = all(state[theirs].shape == own[ours].shape or theirs.startswith("_fc.") for theirs, ours in pairs)
    if not known or len(names) != len(own) or not agree:
        raise SpecError(
            f"The weights have the names of efficientnet_pytorch, but are not those of timm's {spec.architecture!r}."
        )
    return {ours: state[theirs] for theirs, ours in pairs}
