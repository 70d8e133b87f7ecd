"""What goes into a checkpoint's model, how it is pooled, and how it writes: out of the files beside its weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from zoo.backends.transformers.config import AST, WHISPER, first_position, is_causal
from zoo.backends.transformers.files import Read
from zoo.backends.transformers.towers_spec import clap_input
from zoo.backends.transformers.vits_tokenizer import blank_of, is_vits
from zoo.spec import AudioInput, Embedding, ImageInput, InputSpec, MelInput, Modality, Pooling, TextInput

# Characters that are spoken at once: the model itself sees any number, and memory does not.
_SPOKEN = 600
# What a generation_config.json says that is not the library's own default of every model.
_GENERATION = ("suppress_tokens", "begin_suppress_tokens", "max_initial_timestamp_index", "num_beams")
# PIL's codes, which preprocessor_config.json has.
_RESAMPLE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic"}


def text_input(full: Any, read: Read) -> InputSpec:
    positions = getattr(full, "max_position_embeddings", None)
    if isinstance(positions, int):
        positions -= first_position(full)
    limits = (
        positions,
        read("tokenizer_config.json").get("model_max_length"),
        read("sentence_bert_config.json").get("max_seq_length"),
    )
    said = read("tokenizer_config.json")
    if is_vits(said):
        return TextInput(max_length=_SPOKEN, blank=blank_of(said))
    # Tokenizers without a limit say so with a number of thirty digits.
    real = [int(limit) for limit in limits if isinstance(limit, (int, float)) and 0 < limit < 1_000_000]
    return TextInput(max_length=min(real, default=512), token_types=has_token_types(full))


def has_token_types(full: Any) -> bool:
    """Whether the second text of a pair is marked: causal models with a table of types are not fed any."""
    types = getattr(full, "type_vocab_size", 0)
    return isinstance(types, int) and types > 1 and not is_causal(full)


def _audio_input(full: Any, read: Read) -> InputSpec:
    if full.model_type == "clap":
        return clap_input(full, read)
    said = read("preprocessor_config.json")
    if full.model_type == AST:
        own = {"mean": said.get("mean", -4.2677393), "std": said.get("std", 4.5689974)}
        frames, bins = said.get("max_length", full.max_length), said.get("num_mel_bins", full.num_mel_bins)
        return MelInput(
            sampling_rate=said.get("sampling_rate", 16_000), layout="kaldi", bins=bins, frames=frames, **own
        )
    if full.model_type == WHISPER:
        rate, frames = said.get("sampling_rate", 16_000), 2 * full.max_source_positions
        return MelInput(sampling_rate=rate, layout="whisper", bins=full.num_mel_bins, frames=frames)
    return AudioInput(
        sampling_rate=int(said.get("sampling_rate", 16_000)), normalize=bool(said.get("do_normalize", True))
    )


def whisper_decoder(full: Any, read: Read) -> dict[str, Any]:
    """How a checkpoint of Whisper writes, for `ModelSpec.decoder`."""
    said = read("generation_config.json")
    generation = {name: said[name] for name in _GENERATION if said.get(name) is not None}
    if said and "suppress_tokens" not in generation:
        # Where nothing is said at all, the tokenizer says what is no speech.
        generation["suppress_tokens"] = []
    # The size of the vocabulary tells, as in OpenAI's own code: that of English alone has one token fewer.
    multilingual = bool(said.get("is_multilingual", full.vocab_size >= 51_865))
    return {"max_length": full.max_target_positions, "multilingual": multilingual, "generation": generation}


def _image_input(full: Any, read: Read) -> InputSpec:
    said = read("preprocessor_config.json")
    own = getattr(getattr(full, "vision_config", full), "image_size", 224)
    size, crop = said.get("size", own if isinstance(own, int) else 224), said.get("crop_size")
    edge = size.get("shortest_edge") if isinstance(size, Mapping) else None
    height, width = _pair(crop if crop is not None and said.get("do_center_crop", True) else size)
    shorter = edge or _pair(size)[0]
    crop_pct = said.get("crop_pct") or min(1.0, height / shorter)
    squash = edge is None and crop is None
    return ImageInput(
        size=(height, width),
        mean=tuple(said.get("image_mean", (0.5, 0.5, 0.5))),
        std=tuple(said.get("image_std", (0.5, 0.5, 0.5))),
        interpolation=_RESAMPLE.get(said.get("resample", 2), "bilinear"),  # type: ignore[arg-type]
        crop_pct=1.0 if squash else crop_pct,
        crop_mode="squash" if squash else "center",
    )


def _pair(size: Any) -> tuple[int, int]:
    if isinstance(size, Mapping):
        edge = size.get("shortest_edge", 224)
        return int(size.get("height", edge)), int(size.get("width", edge))
    return (int(size), int(size)) if isinstance(size, (int, float)) else (int(size[0]), int(size[1]))


def embedding(config: Mapping[str, Any], read: Read) -> Embedding:
    """How sentence-transformers pools and normalises, for a folder that it wrote; by x-vectors where there are some."""
    if any(str(made).endswith("ForXVector") for made in config.get("architectures") or ()):
        return Embedding(pooling="xvector", normalize=True)
    if config.get("model_type") == AST:
        return Embedding(pooling="cls")
    modules = [str(item.get("type", "")) for item in read("modules.json").get("items", ())]
    pooling = read("1_Pooling/config.json") if modules else {}
    chosen: Pooling = "mean"
    options: tuple[Pooling, ...] = ("mean", "cls", "max", "last")
    for option in options:
        if pooling.get({"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token",
                        "max": "pooling_mode_max_tokens", "last": "pooling_mode_lasttoken"}[option]):  # fmt: skip
            chosen = option
    return Embedding(pooling=chosen, normalize=any(kind.endswith("Normalize") for kind in modules))


ANY_INPUT: dict[Modality, InputSpec] = {
    "text": TextInput(max_length=512),
    "audio": AudioInput(sampling_rate=16_000),
    "vision": ImageInput(size=(224, 224), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
}
INPUTS: dict[Modality, Callable[[Any, Read], InputSpec]] = {
    "text": text_input,
    "audio": _audio_input,
    "vision": _image_input,
}
