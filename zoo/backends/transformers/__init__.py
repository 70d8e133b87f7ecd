"""Text, audio and image models of transformers. Everything that is transformers' own way stays in this package."""

from zoo.backends.transformers.build import build
from zoo.backends.transformers.config import complete

__all__ = ["build", "complete"]
