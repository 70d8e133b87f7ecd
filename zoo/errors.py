"""The errors of the zoo: every one is a `ZooError` and also the builtin a user would catch.

A message says what came, what is allowed and what to type. The command line prints it with its own options in place of
the call's, and exits with 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any


class ZooError(Exception):
    """The root of everything this library raises on purpose."""

    def __str__(self) -> str:
        # KeyError would show its message quoted and escaped; a message is meant to be read.
        return str(self.args[0]) if self.args else ""


class UnknownModel(ZooError, KeyError):
    """The name is neither in the catalogue, nor an explicit prefix, nor a folder."""


class MissingDependency(ZooError, ImportError):
    """An optional package is needed; the message has the command that installs it."""


class WeightsUnavailable(ZooError, FileNotFoundError):
    """Weights could not be had: offline, not found, refused, or damaged on the way."""


class UnsafeWeights(ZooError, ValueError):
    """A checkpoint that could run code when it is read."""


class SpecError(ZooError, ValueError):
    """A YAML or a combination of options that does not describe a model."""


class ConfigError(ZooError, ValueError):
    """An option of a call that is unknown or out of range."""


class DataError(ZooError, ValueError):
    """Data that can't be read or used. `row` and `column` say where, when that is known."""

    def __init__(self, message: str, *, row: int | None = None, column: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.column = column


class InputError(DataError):
    """One raw input (a text, an image, a sound) that can't be used."""


class DeviceError(ZooError, RuntimeError):
    """A device or execution provider was asked for and is not there."""


class TrainingError(ZooError, RuntimeError):
    """Training can't go on: the loss is not finite, or memory ran out at batch size one."""


class TrainingInterrupted(ZooError, KeyboardInterrupt):
    """SIGINT or SIGTERM during training, after the checkpoint was written."""


class CheckpointError(ZooError, ValueError):
    """No checkpoint that verifies, or one of another run."""


class ParityError(ZooError, ValueError):
    """The exported graph answers differently from torch. `report` holds the figures."""

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class QualityError(ZooError, ValueError):
    """A reduced precision loses more quality than allowed. `report` holds the figures."""

    def __init__(self, message: str, *, report: Any = None) -> None:
        super().__init__(message)
        self.report = report


class AdapterError(ZooError, ValueError):
    """A saved adapter that does not belong to the model it is put onto."""


class BundleError(ZooError, ValueError):
    """A folder that is not a bundle, or whose bytes are not those of its manifest."""


def suggest(wrong: str, allowed: Iterable[str]) -> str:
    """' Did you mean 'resnet50'?' or the empty string."""
    # What goes well does not wait for it.
    import difflib

    close = difflib.get_close_matches(str(wrong), list(allowed), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def missing(package: str, extra: str, purpose: str) -> MissingDependency:
    """The error for an optional package: `raise missing("torch", "train", "fine-tuning") from error`."""
    return MissingDependency(
        f"{purpose} needs the package {package!r}, which is not installed. "
        f'Install it with: pip install "polyzoo[{extra}]"'
    )
