"""SentencePiece models as `tokenizers.Tokenizer`s, without the sentencepiece package.

A repository of T5, Pegasus, Marian, mBART-50, M2M100 or NLLB may hold nothing but its SentencePiece model. It is read
once, when a model is loaded; what save() and export() write is `tokenizer.json`. Each family puts the pieces to ids of
its own; pieces and ids are those of transformers' tokenizers, which run SentencePiece itself.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from zoo.errors import SpecError
from zoo.spec import ModelSpec

_SPACE = "\u2581"
_NORMAL, _CONTROL, _USER, _BYTE = 1, 3, 4, 6
_UNIGRAM, _BPE = 1, 2
# Of a piece that only another tokenizer of the model uses: worse than any way to write the text without it.
_FOREIGN = -10_000.0
_FAIRSEQ = ("<s>", "<pad>", "</s>", "<unk>")


@dataclass(frozen=True, slots=True)
class Pieces:
    """What a SentencePiece file says: pieces with score and type, in the order of its own ids."""

    pieces: tuple[tuple[str, float, int], ...]
    kind: int
    unk_id: int
    charsmap: bytes
    prefix: bool
    trim: bool

    @property
    def names(self) -> list[str]:
        return [name for name, _, _ in self.pieces]

    @property
    def special(self) -> list[str]:
        return [name for name, _, kind in self.pieces if kind == _CONTROL]


def converted(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    """The tokenizer of a folder without tokenizer.json, or None for one of another kind.

    config: its tokenizer_config.json. Raises SpecError for a file that can't be read.
    """
    make = {
        "t5": _t5, "mt5": _t5, "umt5": _t5, "pegasus": _pegasus, "marian": _marian, "mbart": _mbart, "m2m_100": _m2m,
    }.get(spec.architecture)  # fmt: skip
    return make(folder, spec, config) if make is not None else None


def target(folder: Path, spec: ModelSpec) -> Tokenizer | None:
    """Marian's tokenizer of the language that it writes; None where one tokenizer is of both."""
    if spec.architecture != "marian" or not (folder / "target.spm").is_file():
        return None
    own = folder / "target_vocab.json"
    return _by_vocabulary(read(folder / "target.spm"), _vocabulary(own if own.is_file() else folder / "vocab.json"))


def read(path: Path) -> Pieces:
    """A SentencePiece file. Raises SpecError for one that is none."""
    try:
        return _parsed(path.read_bytes())
    except (ValueError, IndexError, KeyError, struct.error) as error:
        raise SpecError(f"{path} is not a SentencePiece model: {error}") from error


# Families


def _t5(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    found = _find(folder, "spiece.model")
    if found is None:
        return None
    extra = int(config.get("extra_ids", 100))
    if len(found.pieces) + extra > int(spec.config.get("vocab_size", 32_128)):
        extra = 0  # mT5's pieces have them already
    ids = [f"<extra_id_{number}>" for number in reversed(range(extra))]
    return _tokenizer(found, [*found.names, *ids], found.unk_id, special=[*found.special, *ids], after=("</s>",))


def _pegasus(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    found = _find(folder, "spiece.model")
    if found is None:
        return None
    offset = int(config.get("offset", 103))
    before = ["<pad>", "</s>", "<mask_1>", "<mask_2>", *(f"<unk_{number}>" for number in range(2, offset))]
    return _tokenizer(
        found, [*before, *found.names[2:]], found.unk_id + offset, special=[*before, "<unk>"], after=("</s>",)
    )


def _mbart(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    found = _find(folder, "sentencepiece.bpe.model")
    if found is None:
        return None
    languages = _languages(folder, spec)
    names = [*_FAIRSEQ, *found.names[3:], *languages, "<mask>"]
    return _tokenizer(
        found, names, 3, special=[*_FAIRSEQ, *languages, "<mask>"], before=_first(spec, languages), after=("</s>",)
    )


def _m2m(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    if not (folder / "vocab.json").is_file():
        return _mbart(folder, spec, config)  # NLLB
    found = _find(folder, "sentencepiece.bpe.model")
    if found is None:
        return None
    languages = _languages(folder, spec)
    return _by_vocabulary(
        found, _vocabulary(folder / "vocab.json"), languages=languages, before=_first(spec, languages)
    )


def _marian(folder: Path, spec: ModelSpec, config: Mapping[str, Any]) -> Tokenizer | None:
    found = _find(folder, "source.spm")
    return None if found is None else _by_vocabulary(found, _vocabulary(folder / "vocab.json"))


def _by_vocabulary(
    found: Pieces, vocabulary: Sequence[str], *, languages: Sequence[str] = (), before: Sequence[str] = ()
) -> Tokenizer:
    """Ids are of a vocabulary beside the pieces. Pieces that it leaves out come behind everything: a text may be cut
    into them, and what is behind the embedding's last row is read as unknown.

    Upstream looks up a run of letters that the pieces lack as a whole; here it may be several tokens of the vocabulary.
    """
    known = {*vocabulary, *languages}
    beyond = [name for name in found.names if name not in known]
    codes = [name for name in vocabulary if name.startswith(">>") and name.endswith("<<")]
    special = [name for name in ("<s>", "</s>", "<unk>", "<pad>") if name in known]
    return _tokenizer(
        found, [*vocabulary, *languages, *beyond], list(vocabulary).index("<unk>"),
        special=[*special, *codes, *languages], before=before, after=("</s>",),
    )  # fmt: skip


def _find(folder: Path, name: str) -> Pieces | None:
    return read(folder / name) if (folder / name).is_file() else None


def _vocabulary(path: Path) -> list[str]:
    """Tokens in the order of their ids."""
    if not path.is_file():
        raise SpecError(f"{path.parent} has no {path.name}, which says the ids of its SentencePiece model.")
    ids: dict[str, int] = json.loads(path.read_text("utf-8"))
    names = [f"<{number}>" for number in range(max(ids.values()) + 1)]
    for name, number in ids.items():
        names[number] = name
    if "<unk>" not in ids:
        raise SpecError(f"{path} has no <unk>, which stands for what the model does not know.")
    return names


def _languages(folder: Path, spec: ModelSpec) -> list[str]:
    """The tokens of the languages in the order of their ids: as the spec has them."""
    found = list(spec.decoder.languages.values()) if spec.decoder is not None and spec.decoder.language_tokens else []
    if not found:
        raise SpecError(f"{folder} says nowhere which languages its tokenizer knows. Pass tokenizer=.")
    return found


def _first(spec: ModelSpec, languages: Sequence[str]) -> tuple[str]:
    """The language that a text is in where nothing is said."""
    assert spec.decoder is not None
    return (spec.decoder.languages.get(spec.decoder.source_language or "", languages[0]),)


# The tokenizer


def _tokenizer(
    found: Pieces,
    names: Sequence[str],
    unk_id: int,
    *,
    special: Sequence[str],
    before: Sequence[str] = (),
    after: Sequence[str] = (),
) -> Tokenizer:
    """names: by id. special: those that stand for no text. before, after: what goes around each text."""
    bytes_too = any(kind == _BYTE for _, _, kind in found.pieces)
    tokenizer = Tokenizer(_model(found, names, unk_id, {*special, names[unk_id]}, bytes_too))
    steps: list[Any] = [normalizers.Precompiled(found.charsmap)] if found.charsmap else []
    if found.trim:
        steps += [normalizers.Strip(), normalizers.Replace(Regex(" {2,}"), " ")]
    elif found.prefix:
        # Metaspace would leave it out before a space.
        steps.append(normalizers.Prepend(_SPACE))
    if steps:
        tokenizer.normalizer = normalizers.Sequence(steps)
    scheme: Any = "always" if found.prefix and found.trim else "never"
    across = any(_SPACE in name[1:] for name in found.names)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(_SPACE, scheme, split=not across)
    tokenizer.decoder = decoders.Metaspace(_SPACE, "always" if found.prefix else "never")
    if bytes_too:
        last = [decoders.Strip(" ", 1, 0)] if found.prefix else []
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *last]
        )
    own = [AddedToken(name, normalized=False) for name, _, kind in found.pieces if kind == _USER]
    tokenizer.add_tokens(own)
    tokenizer.add_special_tokens(
        [AddedToken(name, normalized=False, special=True) for name in dict.fromkeys([*special, names[unk_id]])]
    )
    around = dict.fromkeys([*before, *after])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*before, "$A", *after], special_tokens=[(name, tokenizer.token_to_id(name)) for name in around]
    )
    return tokenizer


def _model(found: Pieces, names: Sequence[str], unk_id: int, special: set[str], bytes_too: bool) -> models.Model:
    if found.kind == _BPE:
        return models.BPE(
            {name: number for number, name in enumerate(names)},
            _merges(found),
            unk_token=names[unk_id],
            fuse_unk=True,
            byte_fallback=bytes_too,
        )
    if found.kind != _UNIGRAM:
        raise SpecError("A SentencePiece model of words or characters is not read; those of kind unigram and BPE are.")
    scores = {name: score for name, score, kind in found.pieces if kind == _NORMAL}
    return models.Unigram(
        # Special tokens and bytes are looked for before, or after: their scores count for nothing.
        [(name, scores.get(name, 0.0 if name in special or _is_byte(name) else _FOREIGN)) for name in names],
        unk_id,
        bytes_too,
    )


def _is_byte(name: str) -> bool:
    return len(name) == 6 and name.startswith("<0x") and name.endswith(">")


def _merges(found: Pieces) -> list[tuple[str, str]]:
    """Every way to put a piece together out of two, the best piece first."""
    scores = {name: score for name, score, kind in found.pieces if kind in (_NORMAL, _USER)}
    order = sorted(scores, key=lambda name: -scores[name])
    halves = ((name[:cut], name[cut:]) for name in order for cut in range(1, len(name)))
    return [(left, right) for left, right in halves if left in scores and right in scores]


# The file: a protobuf message, of which these fields are read


def _parsed(data: bytes) -> Pieces:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, Any] = {}
    normalizer: dict[int, Any] = {}
    for number, value in _fields(data):
        if number == 1:
            fields = dict(_fields(value))
            pieces.append((fields[1].decode("utf-8"), struct.unpack("<f", fields.get(2, b"\0" * 4))[0],
                           fields.get(3, _NORMAL)))  # fmt: skip
        elif number == 2:
            trainer = dict(_fields(value))
        elif number == 3:
            normalizer = dict(_fields(value))
    if not pieces:
        raise ValueError("it has no pieces")
    return Pieces(
        tuple(pieces), trainer.get(3, _UNIGRAM), trainer.get(40, 0), normalizer.get(2, b""),
        bool(normalizer.get(3, 1)), bool(normalizer.get(4, 1)),
    )  # fmt: skip


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers and values of a message's fields: int for a varint, bytes for the others."""
    place = 0
    while place < len(data):
        tag, place = _varint(data, place)
        wire = tag & 7
        if wire == 0:
            value, place = _varint(data, place)
            yield tag >> 3, value
            continue
        if wire == 2:
            size, place = _varint(data, place)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise ValueError(f"a field of kind {wire}")
        if place + size > len(data):
            raise ValueError("it ends too early")
        yield tag >> 3, data[place : place + size]
        place += size


def _varint(data: bytes, place: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[place]
        value |= (byte & 127) << shift
        place, shift = place + 1, shift + 7
        if byte < 128:
            return value, place
