"""Tokenizers of single bytes, built in, for networks with random weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from zoo.errors import SpecError

SPECIALS = ("<s>", "<pad>", "</s>", "<unk>")  # of the built-in "seq2seq" tokenizer, by their ids
# Of the built-in "whisper" tokenizer, after the bytes; the languages stand after the second.
WHISPER_SPECIALS = (
    "<|endoftext|>", "<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startoflm|>", "<|startofprev|>",
    "<|nospeech|>", "<|notimestamps|>",
)  # fmt: skip


def byte_tokenizer(
    *, style: Literal["bert", "gpt", "clip", "seq2seq", "whisper"], languages: Sequence[str] = (), timestamps: int = 0
) -> Tokenizer:
    """A tokenizer of single bytes, built in, for random weights: 256 bytes and a few special tokens.

    "bert": [PAD] [CLS] [SEP] [UNK], then the bytes, then [MASK]; words and punctuation apart; [CLS] text [SEP].
    "gpt": the bytes in order, then <|endoftext|>; a text is its bytes and nothing else.
    "clip": the bytes, then <|startoftext|> and <|endoftext|>, which is the last, as CLIP's models read a text off at
        its highest id; <|startoftext|> text <|endoftext|>.
    "seq2seq": <s> <pad> </s> <unk>, the languages' tokens, the bytes; text </s>, the first language before it.
    "whisper": the bytes in order, then Whisper's special tokens in its own order, the languages' among them, and as
    many timestamps; a text is its bytes and nothing else.
    """
    alphabet = _byte_characters()
    if style == "whisper":
        words = (*WHISPER_SPECIALS[:2], *languages, *WHISPER_SPECIALS[2:])
        return _byte_level(alphabet, special=(), last=(*words, *(f"<|{i * 0.02:.2f}|>" for i in range(timestamps))))
    if style == "seq2seq":
        tokenizer = _byte_level(alphabet, special=(*SPECIALS, *languages), last=())
        before = [languages[0]] if languages else []
        names = [*before, "</s>"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[*before, "$A", "</s>"],
            special_tokens=[(name, tokenizer.token_to_id(name)) for name in names],
        )
        return tokenizer
    if style == "gpt":
        return _byte_level(alphabet, special=(), last=("<|endoftext|>",))
    if style == "clip":
        names = ["<|startoftext|>", "<|endoftext|>"]
        tokenizer = _byte_level(alphabet, special=(), last=names)
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{names[0]} $A {names[1]}", special_tokens=[(name, tokenizer.token_to_id(name)) for name in names]
        )
        return tokenizer
    if style != "bert":
        raise SpecError(f'style is {style!r}; it is "bert", "gpt", "clip", "seq2seq" or "whisper".')
    tokenizer = _byte_level(alphabet, special=("[PAD]", "[CLS]", "[SEP]", "[UNK]"), last=("[MASK]",))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.BertPreTokenizer(), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    return tokenizer


def _byte_level(alphabet: Sequence[str], *, special: Sequence[str], last: Sequence[str]) -> Tokenizer:
    names = [*special, *alphabet, *last]
    tokenizer = Tokenizer(models.BPE(vocab={name: index for index, name in enumerate(names)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in (*special, *last)])
    return tokenizer


def _byte_characters() -> list[str]:
    """The character that stands for each byte in GPT-2's vocabularies, in the order of the bytes."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]
