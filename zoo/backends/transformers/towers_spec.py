"""What a checkpoint of two towers says of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from zoo.errors import SpecError
from zoo.spec import Embedding, MelInput, TextInput

_ROBERTA_PADDING = 2  # positions that come before a text's first


def text_input(full: Any, read: Callable[[str], dict[str, Any]]) -> TextInput:
    """The texts of the second tower. full: the whole configuration, of upstream's class."""
    config = full.text_config
    longest = int(config.max_position_embeddings) - (_ROBERTA_PADDING if full.model_type == "clap" else 0)
    said = read("tokenizer_config.json").get("model_max_length")
    return TextInput(max_length=min(longest, int(said)) if isinstance(said, (int, float)) and said > 0 else longest)


def embedding(full: Any) -> Embedding:
    return Embedding(pooling="cls", normalize=True, match="sigmoid" if full.model_type == "siglip" else "softmax")


def clap_input(full: Any, read: Callable[[str], dict[str, Any]]) -> MelInput:
    """What CLAP hears: ten seconds, or all of a recording where the checkpoint fuses."""
    said = read("preprocessor_config.json")
    rate, hop = int(said.get("sampling_rate", 48_000)), int(said.get("hop_length", 480))
    truncation = said.get("truncation", "fusion" if full.audio_config.enable_fusion else "rand_trunc")
    found = (hop * 100, said.get("padding", "repeatpad"), said.get("fft_window_size", 1024), said.get("top_db"))
    if found != (rate, "repeatpad", 1024, None) or truncation not in ("fusion", "rand_trunc"):
        raise SpecError(
            "preprocessor_config.json asks for spectrograms that are not made here: they are of a frame every 10 ms, "
            f'1024 points, padding "repeatpad", truncation "fusion" or "rand_trunc"; this one has {said}.'
        )
    return MelInput(
        sampling_rate=rate,
        layout="clap-fusion" if truncation == "fusion" else "clap",
        bins=int(said.get("feature_size", 64)),
        frames=int(said.get("max_length_s", 10)) * 100 + 1,
        low=float(said.get("frequency_min", 0)),
        high=float(said.get("frequency_max", 14_000)),
    )
