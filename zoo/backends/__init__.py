"""A spec as a torch module: the one door to timm, torchvision, transformers and torchaudio.

Each upstream library is imported when its first model is built.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo import hub
from zoo.errors import SpecError, UnknownModel, WeightsUnavailable, missing
from zoo.spec import ModelSpec

if TYPE_CHECKING:
    import tokenizers
    import torch
    from torch import Tensor

    from zoo.backends.fixed import Kept
    from zoo.backends.module import ZooModule
    from zoo.backends.running import TorchEmbed, TorchForward
    from zoo.backends.sequences import CachedSequences
    from zoo.tasks.steppers import Stepper

_CONVOLUTIONS = ("timm", "torchvision")
PREFIXES = ("timm:", "torchvision:", "torchaudio:", "hf:")


def build(
    spec: ModelSpec,
    *,
    task: str,
    labels: tuple[str, ...],
    state: Mapping[str, Tensor] | None = None,
    seed: int | None = None,
) -> ZooModule:
    """The network of a spec with a head for `task`, on the CPU, float32, in eval mode.

    labels: of the task, in the order of the logits; their number is the head's size.
    state: a checkpoint's tensors; the body's must be complete, the head's are taken when their shapes
        fit (`module.fresh_head` says whether they were). None gives random weights and touches no network.
    seed: of the random weights; the global generator is then left as it was.
    Raises UnknownModel, SpecError or MissingDependency.
    """
    if getattr(spec.input, "channels", 3) == 1 and spec.backend != "timm":
        raise SpecError(f"{spec.name} ({spec.backend}) takes three channels; channels: 1 is for timm's models.")
    backend = _backend(spec.backend)
    with _seeded(seed):
        module: ZooModule = backend.build(spec, task=task, labels=labels, state=state)
    if spec.backend in _CONVOLUTIONS:
        import torch

        # Weights in the layout of their inputs, or each convolution would turn them over again.
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    _backend("linear").quicken(module)
    return module.eval()


def resolve(name: str, *, revision: str | None = None) -> ModelSpec:
    """The spec of "timm:x", "torchvision:x", "torchaudio:x" or "hf:org/name", from the library's registry or the hub.

    Labels are resolved. revision: of the hub's repository; the registries of torchvision and torchaudio have none.
    Raises UnknownModel with the closest name, WeightsUnavailable when the hub can't be asked.
    """
    prefix, _, rest = name.partition(":")
    if f"{prefix}:" not in PREFIXES or not rest:
        raise UnknownModel(f"{name!r} has no known prefix. Put one of these before a name: {', '.join(PREFIXES)}.")
    if prefix == "hf":
        spec: ModelSpec = _transformers_spec().resolve(rest, revision=revision)
        return spec
    spec = _backend(prefix).resolve(rest)
    if revision is None or spec.weights is None or spec.weights.repo == prefix:
        return spec
    return spec.evolve(weights={**spec.weights.to_dict(), "revision": revision})


def from_folder(path: str | Path) -> tuple[ModelSpec, Path]:
    """A checkpoint folder of transformers, or of timm's `save_for_hf`: its spec, and the file that holds its weights.

    Raises SpecError for a folder that is none, WeightsUnavailable when it has no weights.
    """
    folder = Path(path).expanduser().resolve()
    said = _backend("transformers.files").read_file(folder / "config.json")
    if isinstance(said.get("architecture"), str) and "model_type" not in said:
        spec: ModelSpec = _backend("timm").of_folder(said, where=str(folder))
        return spec, _weights().find_state(folder)
    found: tuple[ModelSpec, Path] = _transformers_spec().from_folder(path)
    return found


def complete(spec: ModelSpec) -> ModelSpec:
    """With the backend's whole configuration, so that a saved model needs neither network nor today's defaults."""
    if spec.backend not in ("transformers", "zoo"):
        return spec
    completed: ModelSpec = _backend(spec.backend).complete(spec)
    return completed


def fetch_state(spec: ModelSpec) -> tuple[dict[str, Tensor], ModelSpec]:
    """The pretrained tensors, and the spec with the commit that they are of.

    Raises WeightsUnavailable, UnsafeWeights.
    """
    if spec.weights is None:
        raise WeightsUnavailable(f"{spec.name} has no pretrained weights; weights=None builds random ones.")
    if spec.weights.repo == spec.backend:
        # torchvision and torchaudio keep registries of their own, away from the hub.
        return _backend(spec.backend).fetch(spec), spec
    found = hub.fetch_weights(spec.weights)
    state = _weights().read_state(found.path, sha256=spec.weights.sha256)
    return state, spec.evolve(weights={**spec.weights.to_dict(), "revision": found.revision})


def pull(spec: ModelSpec) -> None:
    """Fetch everything that building the pretrained model needs into the caches. Raises WeightsUnavailable."""
    if spec.weights is not None and spec.weights.repo == spec.backend:
        _backend(spec.backend).fetch(spec)
    else:
        hub.pull(spec)


def read_state(path: str | Path, *, sha256: str | None = None) -> dict[str, Tensor]:
    """The tensors of a checkpoint: safetensors (a folder or an index of shards too), or a pickle of tensors alone.

    Raises WeightsUnavailable (absent or damaged), UnsafeWeights (a pickle that could run code).
    """
    state: dict[str, Tensor] = _weights().read_state(path, sha256=sha256)
    return state


def write_state(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write tensors by name to a `.safetensors` file; of several names of one tensor the first."""
    _weights().write_state(path, state)


def tokenizer(spec: ModelSpec, *, folder: Path | None = None) -> tokenizers.Tokenizer:
    """The tokenizer of a model that reads or writes text, from a folder or from the spec's repository on the hub.

    Raises SpecError when there is none that can be read, WeightsUnavailable when the hub can't be asked.
    """
    assert spec.has_tokenizer, f"{spec.name} neither takes nor writes text"
    found: tokenizers.Tokenizer = _backend("transformers.tokenizing").tokenizer(spec, folder=folder)
    return found


def target_tokenizer(spec: ModelSpec, *, folder: Path | None = None) -> tokenizers.Tokenizer | None:
    """The tokenizer of what a model writes, where it is not that of what it reads. Arguments and errors as above."""
    found: tokenizers.Tokenizer | None = _backend("transformers.tokenizing").target_tokenizer(spec, folder=folder)
    return found


def torch_forward(
    module: ZooModule, device: torch.device | str, *, precision: str = "fp32", compile: bool = False
) -> TorchForward:
    """The module as a function of a `Batch`: its named outputs as NumPy arrays. precision: "fp32", "bf16", "fp16"."""
    from zoo.backends.running import TorchForward

    return TorchForward(module, device, precision=precision, compile=compile)


def torch_embed(
    module: ZooModule,
    device: torch.device | str,
    *,
    pooling: str | None = None,
    precision: str = "fp32",
    compile: bool = False,
) -> TorchEmbed:
    """The module as a function of a `Batch` that gives `embedding`, float32 `[B, D]`."""
    from zoo.backends.running import TorchEmbed

    return TorchEmbed(module, device, pooling=pooling, precision=precision, compile=compile)


def torch_call(
    module: ZooModule, device: torch.device, *, precision: str = "fp32", compile: bool = False
) -> Callable[..., Mapping[str, Tensor]]:
    """The module as a function of tensors, in the precision that is asked for; for whoever needs its tensors."""
    from zoo.backends.running import torch_call

    return torch_call(module, device, precision=precision, compile=compile)


@contextmanager
def stepping(
    module: ZooModule, device: torch.device, *, precision: str = "fp32", compile: bool = False
) -> Iterator[Stepper]:
    """A language model with a cache for one generation of `zoo.tasks.generation`. compile: its step on CUDA."""
    from zoo.backends.running import CachedStepper

    if device.type == "cuda" and getattr(module, "fixes", False):
        kept: Kept = module.kept  # type: ignore[assignment]
        with kept.borrowed(module, device, precision, compile=compile) as stepper:
            yield stepper
    else:
        yield CachedStepper(module, device, precision=precision)


def check_precision(precision: str) -> None:
    """Raises ConfigError for none of "fp32", "bf16" and "fp16"."""
    from zoo.backends import running

    running.check_precision(precision)


def sequence_stepper(
    module: ZooModule, device: torch.device | str | None = None, *, precision: str = "fp32"
) -> CachedSequences:
    """Next-token logits of an encoder-decoder module with a cache, for `zoo.tasks.sequences`.

    device: where the module is, at each start, when None.
    """
    from zoo.backends.sequences import CachedSequences, EncoderDecoder

    assert isinstance(module, EncoderDecoder), f"{type(module).__name__} is no encoder-decoder module"
    return CachedSequences(module, device, precision=precision)


def _transformers_spec() -> Any:
    return _backend("transformers.spec")


def _weights() -> Any:
    return _backend("weights")


def _backend(name: str) -> Any:
    try:
        return importlib.import_module(f"zoo.backends.{name}")
    except ImportError as error:
        raise missing(error.name or name, "train", "Building a model") from error


@contextmanager
def _seeded(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
