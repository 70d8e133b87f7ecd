"""The options of `zoo.load`, said once for every command that takes a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo import bundle
from zoo.cli.shared import names
from zoo.errors import ConfigError

if TYPE_CHECKING:
    from zoo.model import Model
    from zoo.predictor import Predictor

_PANEL = "The model"

Name = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="A name of `zoo list`; one after timm:, torchvision:, torchaudio: or hf:; or the folder of a saved model, "
        "or of a checkpoint of transformers or timm.",
        show_default=False,
    ),
]
TaskOption = Annotated[
    str | None,
    typer.Option("--task", help="One of the model's tasks; its first when not given.", rich_help_panel=_PANEL),
]
Labels = Annotated[
    str | None,
    typer.Option("--labels", metavar="A,B,...", help="Labels, in the order of the logits.", rich_help_panel=_PANEL),
]
Weights = Annotated[
    str,
    typer.Option(
        "--weights",
        metavar="FILE",
        help="A weights file, 'pretrained', or 'none' for random ones.",
        rich_help_panel=_PANEL,
    ),
]
Revision = Annotated[
    str | None,
    typer.Option("--revision", help="A commit, tag or branch of the hub's repository.", rich_help_panel=_PANEL),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option("--tokenizer", help="A tokenizer.json, or a folder that has one.", rich_help_panel=_PANEL),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        envvar="ZOO_DEVICE",
        help="'cpu', 'cuda', 'cuda:1', ...; the best there is when not given. A bundle runs on the CPU unless told.",
        rich_help_panel=_PANEL,
    ),
]
Precision = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="What torch computes in: 'fp32', 'bf16' (GPUs, and CPUs that multiply in it, which `zoo doctor` tells) or "
        "'fp16' (GPUs). A bundle has its own.",
        rich_help_panel=_PANEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Answer by torch.compile, which takes a minute or more first: for many inputs. Not for a bundle.",
        rich_help_panel=_PANEL,
    ),
]
Adapter = Annotated[
    Path | None,
    typer.Option(
        "--adapter",
        metavar="FOLDER",
        help="Put an adapter on the model, which brings its task and labels.",
        rich_help_panel=_PANEL,
    ),
]
PRETRAINED = "pretrained"


def is_bundle(name: str) -> bool:
    """Whether this is the folder of an exported bundle."""
    path = Path(name).expanduser()
    return bundle.is_folder(path) and bundle.read_card(path).kind == "bundle"


def load_model(
    name: str,
    *,
    task: str | None = None,
    labels: str | None = None,
    weights: str = PRETRAINED,
    revision: str | None = None,
    tokenizer: Path | None = None,
    device: str | None = None,
    precision: str | None = None,
    compile: bool = False,
    seed: int | None = None,
    adapter: Path | None = None,
) -> Model:
    """`zoo.load` with a command's options, and an adapter on what it gives."""
    if adapter is not None and (task or labels):
        raise ConfigError("An adapter brings its own task and labels: leave --task and --labels out beside --adapter.")
    import zoo

    loaded = zoo.load(
        name,
        task=task,
        labels=names(labels, "--labels"),
        weights=None if weights.lower() == "none" else weights,
        revision=revision,
        tokenizer=tokenizer,
        device=device,
        precision=precision or "fp32",
        compile=compile,
        seed=seed,
    )
    return loaded if adapter is None else loaded.load_adapter(adapter)


def load_predictor(
    name: str,
    *,
    task: str | None,
    labels: str | None,
    weights: str,
    revision: str | None,
    tokenizer: Path | None,
    device: str | None,
    precision: str | None = None,
    compile: bool = False,
    adapter: Path | None = None,
) -> Predictor:
    """A bundle without torch, any other name through `zoo.load`."""
    if not is_bundle(name):
        return load_model(
            name, task=task, labels=labels, weights=weights, revision=revision, tokenizer=tokenizer, device=device,
            precision=precision, compile=compile, adapter=adapter,
        )  # fmt: skip
    refuse_fixed(
        name, task=task, labels=labels, revision=revision, tokenizer=tokenizer, adapter=adapter, precision=precision,
        compile=compile or None, weights=weights,
    )  # fmt: skip
    import zoo

    return zoo.runtime.load(Path(name).expanduser(), device=device or "cpu")  # type: ignore[arg-type]


def refuse_fixed(name: str, **given: Any) -> None:
    """Raises ConfigError for options of a command that a bundle leaves no choice in. given: their values, by name."""
    unsaid = {"weights": PRETRAINED}
    fixed = [f"--{option}" for option, value in given.items() if value != unsaid.get(option)]
    if fixed:
        raise ConfigError(f"{name} is an exported bundle, in which {', '.join(fixed)} can't be chosen any more.")
