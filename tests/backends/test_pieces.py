"""SentencePiece models read without sentencepiece: pieces and ids of the library and of upstream's tokenizers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zoo.backends import target_tokenizer, tokenizer
from zoo.errors import SpecError
from zoo.modalities import make_encoder
from zoo.modalities.text import TextEncoder
from zoo.spec import ModelSpec

sentencepiece = pytest.importorskip("sentencepiece")

# ruff: noqa: RUF001
ENGLISH = [
    "The quick brown fox jumps over the lazy dog.", "How are you today?", "She sells sea shells by the sea shore.",
    "A model of language reads and writes.", "It was the best of times, it was the worst of times.",
    "The weather is fine, and the sea is calm.",
]  # fmt: skip
OTHERS = [
    "Der schnelle braune Fuchs springt über den faulen Hund.", "Wie geht es dir heute? Gut, danke.",
    "今天天气很好，我们去公园。", "Как дела? Всё хорошо.", "نص عربي قصير", "Où est la gare? À côté.", "東京タワー",
]  # fmt: skip
TEXTS = [
    *ENGLISH[:2], *OTHERS, "  two  spaces  ", "tab\tand\nline", "ＦＵＬＬ width ①", "emoji 🙂🙂 here", "नमस्ते दुनिया",
    "x", "",
]  # fmt: skip


def train(path: Path, lines: list[str], **options: Any) -> Any:
    """A small SentencePiece model at `path`, and its processor."""
    given = {"vocab_size": 220, "hard_vocab_limit": False, "character_coverage": 1.0, "minloglevel": 2, **options}
    with path.open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=file, **given)
    return sentencepiece.SentencePieceProcessor(model_file=str(path))


def spec_of(architecture: str, vocab_size: int, **decoder: Any) -> ModelSpec:
    return ModelSpec.parse(f"""
name: tiny
modality: text
tasks: [translation]
backend: transformers
architecture: {architecture}
config: {{vocab_size: {vocab_size}, decoder_start_token_id: 0}}
input: {{kind: text, max_length: 512}}
decoder: {json.dumps({"max_length": 64, **decoder})}
""")


@pytest.mark.parametrize(
    "options",
    [{}, {"model_type": "bpe"}, {"byte_fallback": True, "vocab_size": 480},
     {"normalization_rule_name": "identity", "remove_extra_whitespaces": False}],
)  # fmt: skip
def test_pieces_are_sentencepiece_s_own(options: dict[str, Any], tmp_path: Path) -> None:
    own = train(tmp_path / "spiece.model", [*ENGLISH, *OTHERS[:4]], **options)
    found = tokenizer(spec_of("t5", own.get_piece_size() + 100), folder=tmp_path)
    size = own.get_piece_size()
    assert found.token_to_id("<extra_id_0>") == size + 99
    for text in TEXTS:
        assert found.encode(text).ids == [*own.encode(text), own.eos_id()], text
        if own.unk_id() not in own.encode(text):
            assert found.decode(own.encode(text)) == own.decode(own.encode(text)), text


def test_pegasus_pieces_come_behind_those_of_its_pretraining(tmp_path: Path) -> None:
    own = train(tmp_path / "spiece.model", [*ENGLISH, *OTHERS[:4]], pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    found = tokenizer(spec_of("pegasus", own.get_piece_size() + 103), folder=tmp_path)
    for text in TEXTS:
        assert found.encode(text).ids == [*(token + 103 for token in own.encode(text)), 1]
    assert [found.id_to_token(i) for i in (0, 1, 2, 3, 4, 104)] == [
        "<pad>", "</s>", "<mask_1>", "<mask_2>", "<unk_2>", "<unk_102>",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["mbart", "m2m_100"])
def test_fairseq_s_ids_with_languages(kind: str, tmp_path: Path) -> None:
    """mBART-50 and NLLB: one id further than SentencePiece's, the languages behind."""
    own = train(tmp_path / "sentencepiece.bpe.model", [*ENGLISH, *OTHERS[:4]])
    languages = {"en": "en_XX", "zh": "zh_CN", "de": "de_DE"}
    spec = spec_of(kind, own.get_piece_size() + 5, languages=languages, language_tokens=True, source_language="zh")
    found = tokenizer(spec, folder=tmp_path)
    size = own.get_piece_size()
    for text in TEXTS:
        # SentencePiece's unknown, 0, is 3 there.
        assert found.encode(text).ids == [size + 2, *(token + 1 if token else 3 for token in own.encode(text)), 2]
    assert [found.token_to_id(token) for token in ("en_XX", "zh_CN", "de_DE", "<mask>")] == [
        size + n for n in range(1, 5)
    ]


def test_m2m100_is_upstream_s(tmp_path: Path) -> None:
    from transformers import M2M100Tokenizer

    own = train(tmp_path / "sentencepiece.bpe.model", [*ENGLISH, *OTHERS[:4]], model_type="bpe")
    names = [own.id_to_piece(i) for i in range(3, own.get_piece_size())]
    vocabulary = ["<s>", "<pad>", "</s>", "<unk>", *names[:-9]]
    (tmp_path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(vocabulary)}), "utf-8")
    theirs = M2M100Tokenizer(str(tmp_path / "vocab.json"), str(tmp_path / "sentencepiece.bpe.model"), src_lang="de")
    languages = {code: theirs.get_lang_token(code) for code in theirs.lang_code_to_token}
    spec = spec_of(
        "m2m_100", len(vocabulary) + len(languages), languages=languages, language_tokens=True, source_language="de"
    )
    found = make_encoder(spec, tokenizer=tokenizer(spec, folder=tmp_path))
    for text in TEXTS[:-1]:
        assert found.encode(text)[0].inputs["input_ids"].tolist() == theirs(text).input_ids, text


def test_marian_is_upstream_s_in_both_languages_and_saved(tmp_path: Path) -> None:
    from transformers import MarianTokenizer

    source = train(tmp_path / "source.spm", ENGLISH, vocab_size=90)
    target = train(tmp_path / "target.spm", OTHERS[:2] * 3, vocab_size=70)
    pieces = [model.id_to_piece(i) for model in (source, target) for i in range(3, model.get_piece_size() - 5)]
    vocabulary = [*dict.fromkeys(["</s>", "<unk>", *sorted(pieces), ">>de<<", "<pad>"])]
    (tmp_path / "vocab.json").write_text(json.dumps({name: i for i, name in enumerate(vocabulary)}), "utf-8")
    files = [str(tmp_path / name) for name in ("source.spm", "target.spm", "vocab.json")]
    theirs = MarianTokenizer(*files)
    spec = spec_of("marian", len(vocabulary))
    encoder = make_encoder(
        spec, tokenizer=tokenizer(spec, folder=tmp_path), target=target_tokenizer(spec, folder=tmp_path)
    )
    (tmp_path / "saved").mkdir()
    encoder.save(tmp_path / "saved")
    assert {file.name for file in (tmp_path / "saved").iterdir()} == {"tokenizer.json", "target_tokenizer.json"}
    again = make_encoder(spec, folder=tmp_path / "saved")
    for found in (encoder, again):
        assert isinstance(found, TextEncoder)
        for text in (*ENGLISH, *OTHERS[:2], ">>de<< How are you?", "so Ж so", "two  spaces"):
            assert found.encode(text)[0].inputs["input_ids"].tolist() == theirs(text).input_ids, text
            if text not in OTHERS:
                continue  # runs of letters that the other language lacks are read better here
            labels = theirs(text_target=text).input_ids
            assert [*found.target.ids(text), *found.target.after] == labels, text
            written = theirs.decode(labels, skip_special_tokens=True, use_source_tokenizer=False)
            assert found.target.text(labels) == written.replace("<unk>", "").strip()


def test_what_is_no_model_of_pieces_is_refused(tmp_path: Path) -> None:
    (tmp_path / "spiece.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(SpecError, match="not a SentencePiece model"):
        tokenizer(spec_of("t5", 300), folder=tmp_path)
