"""Checkpoint folders of random weights at full architecture size, in upstream's own form, which all contestants read.

Random weights change no time, but answers of a freshly initialised network hardly depend on its input, and a comparison
of them would find nothing. So weights are wider here, and batch norms have the statistics of some images.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.speed import data

LABELS = ("bad", "good", "odd")
_TINY_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_MINILM = {
    "hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 12, "intermediate_size": 1536,
    "initializer_range": 0.07,
}  # fmt: skip
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert(folder: Path, *, tiny: bool) -> Path:
    """BERT-base, uncased, with a head of three labels."""
    sizes = {**_TINY_BERT, "initializer_range": 0.4} if tiny else {"initializer_range": 0.05}
    return _classifier(folder, len(_vocabulary()) if tiny else 30_522, sizes)


def small_bert(folder: Path, *, tiny: bool, dropout: float = 0.1) -> Path:
    """4 layers of width 256, freshly initialised, to be trained."""
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    return _to_train(folder, sizes, tiny=tiny, dropout=dropout)


def base_bert(folder: Path, *, tiny: bool, dropout: float = 0.1) -> Path:
    """The same at BERT-base's size."""
    return _to_train(folder, {}, tiny=tiny, dropout=dropout)


def _to_train(folder: Path, sizes: dict[str, Any], *, tiny: bool, dropout: float) -> Path:
    dropped = {"hidden_dropout_prob": dropout, "attention_probs_dropout_prob": dropout}
    chosen = {**_TINY_BERT, "initializer_range": 0.4} if tiny else sizes
    return _classifier(folder, len(_vocabulary()), {**chosen, **dropped})


def labelled_minilm(folder: Path, *, tiny: bool) -> Path:
    """BERT of MiniLM's size, with a head of three labels."""
    sizes = {**_TINY_BERT, "initializer_range": 0.4} if tiny else _MINILM
    return _classifier(folder, len(_vocabulary()) if tiny else 30_522, sizes)


def _classifier(folder: Path, tokens: int, sizes: dict[str, Any]) -> Path:
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: place for place, label in enumerate(LABELS)}}
    BertForSequenceClassification(BertConfig(vocab_size=tokens, **sizes, **names)).save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    return folder


def _vocabulary() -> list[str]:
    return [*_SPECIAL, *data.WORDS, *data.ENDINGS]


def word_pieces() -> Any:
    """BERT's tokenizer over the made-up words of `data`."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    places = {token: place for place, token in enumerate(_vocabulary())}
    tokenizer = Tokenizer(models.WordPiece(places, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, places[token]) for token in ("[CLS]", "[SEP]")],
    )  # fmt: skip
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", model_max_length=512,
    )  # fmt: skip


def resnet(folder: Path, photographs: list[Path], *, tiny: bool) -> Path:
    """ResNet-50 of timm, or one of few channels where it is to be tiny, with the statistics of some photographs."""
    import timm
    import torch
    from torch import nn

    torch.manual_seed(0)
    model = timm.create_model("test_resnet" if tiny else "resnet50")
    # Freshly made, residual branches are multiplied by nought, and nobody would see what happens in them. By one, a
    # pixel's rounding ends in another answer, as in no trained network.
    for part in model.modules():
        last = getattr(part, "bn3", None) or getattr(part, "bn2", None)
        if last is not None:
            nn.init.constant_(last.weight, 0.2)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(_prepared(model, photographs))
        model.get_classifier().weight.mul_(8)
    for norm in norms:
        norm.momentum = 0.1
    return _saved(model, folder)


def small_resnet(folder: Path, photographs: list[Path], *, tiny: bool, name: str = "resnet18") -> Path:
    """ResNet-18 of timm, or another, with a head of three labels, to be trained."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("test_resnet" if tiny else name, num_classes=len(LABELS))
    with torch.no_grad():
        # Freshly made, its norms have seen nothing.
        for _ in range(20):
            model.train()(_prepared(model, photographs))
    return _saved(model, folder, LABELS)


def vit(folder: Path, photographs: list[Path], *, tiny: bool) -> Path:
    """ViT-B/16 of timm; its head tells some photographs apart."""
    import timm
    import torch

    torch.manual_seed(0)
    model = timm.create_model("test_vit" if tiny else "vit_base_patch16_224").eval()
    head = model.get_classifier()
    with torch.no_grad():
        torch.nn.init.normal_(head.weight, std=0.02)
        logits = model(_prepared(model, photographs))
        head.weight.div_(logits.std(0)[:, None])
        head.bias.copy_(-logits.mean(0) / logits.std(0))
    return _saved(model, folder)


def _saved(model: Any, folder: Path, labels: Sequence[str] = ()) -> Path:
    """A network of timm, in the form that timm and transformers read. labels: numbered ones, where none are given."""
    from timm.models import save_for_hf

    save_for_hf(model.eval(), folder, safe_serialization=True)
    # transformers hands them on beside the same arguments of its own, and fails.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("model_args", None)
    config["label_names"] = list(labels) or [f"class {place}" for place in range(model.num_classes)]
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return folder


def _prepared(model: Any, paths: list[Path]) -> Any:
    """As timm prepares them: float32 [N, 3, H, W]."""
    import timm.data
    import torch
    from PIL import Image

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])


def minilm(folder: Path, *, tiny: bool) -> Path:
    """A bare BERT of MiniLM's size with the files that sentence-transformers reads: mean pooling, unit length."""
    import torch
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    chosen = {**_TINY_BERT, "initializer_range": 0.4} if tiny else _MINILM
    tokens = len(_vocabulary()) if tiny else 30_522
    BertModel(BertConfig(vocab_size=tokens, **chosen)).save_pretrained(folder)
    word_pieces().save_pretrained(folder)
    parts = ["sentence_transformers.models.Transformer", "sentence_transformers.models.Pooling"]
    kinds = [*zip(parts, ("", "1_Pooling"), strict=True), ("sentence_transformers.models.Normalize", "2_Normalize")]
    modules = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (kind, path) in enumerate(kinds)]
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": chosen["hidden_size"], "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling), encoding="utf-8")
    return folder


def wav2vec2(folder: Path, recordings: list[Path], *, tiny: bool) -> Path:
    """Wav2Vec2-base with a head of letters: group norm in its feature extractor, as `facebook/wav2vec2-base-960h`. Its
    letters are about equally likely in some recordings."""
    import soundfile
    import torch
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    torch.manual_seed(0)
    sizes = {**_TINY_BERT, "conv_dim": (32,) * 7, "num_conv_pos_embedding_groups": 2} if tiny else {}
    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"ETAONIHSRDLUMWCFGYPBVK'XJQZ"]
    model = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(letters), **sizes)).eval()
    extractor = Wav2Vec2FeatureExtractor(sampling_rate=data.SAMPLING_RATE, do_normalize=True)
    sounds = [soundfile.read(path, dtype="float32")[0] for path in recordings]
    heard = [extractor(s, sampling_rate=data.SAMPLING_RATE, return_tensors="pt")["input_values"] for s in sounds]
    with torch.inference_mode():
        logits = torch.cat([model(one).logits[0] for one in heard])
    # Else every frame has the same letter, whatever is heard.
    model.lm_head.weight.data.div_(logits.std(0)[:, None] / 3)
    model.lm_head.bias.data = -3 * logits.mean(0) / logits.std(0)
    # A trained model is sure of most letters. Of few that are equally likely the best is further ahead of the second,
    # so that int8 is not refused for what it would change in no trained model; and there are words.
    silent = [place for place, letter in enumerate(letters) if letter not in ("<pad>", "|", "E", "T")]
    model.lm_head.bias.data[silent] = -1e4
    model.save_pretrained(folder)
    vocabulary = folder / "letters.json"
    vocabulary.write_text(json.dumps({letter: place for place, letter in enumerate(letters)}), encoding="utf-8")
    Wav2Vec2Processor(extractor, Wav2Vec2CTCTokenizer(str(vocabulary))).save_pretrained(folder)
    return folder


def small_wav2vec2(folder: Path, *, tiny: bool, dropout: float = 0.1) -> Path:
    """4 layers of width 256 with a head of three labels, freshly initialised, to be trained. Its feature extractor has
    layer norm: the group norm of others counts padding, in transformers, and would learn something else."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForSequenceClassification

    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    chosen = {**(_TINY_BERT if tiny else sizes), "initializer_range": 0.4 if tiny else 0.1}
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: place for place, label in enumerate(LABELS)}}
    dropped = dict.fromkeys(
        ("hidden_dropout", "activation_dropout", "attention_dropout", "feat_proj_dropout", "final_dropout"), dropout
    )
    config = Wav2Vec2Config(
        **chosen, **names, **dropped, conv_dim=(16 if tiny else 256,) * 7, num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer", do_stable_layer_norm=True, layerdrop=0.0, apply_spec_augment=False,
        classifier_proj_size=64,
    )  # fmt: skip
    Wav2Vec2ForSequenceClassification(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor(
        sampling_rate=data.SAMPLING_RATE, do_normalize=True, return_attention_mask=True
    ).save_pretrained(folder)
    return folder


def gpt2(folder: Path, *, tiny: bool) -> Path:
    """GPT-2 124M. Its tokenizer reads a byte a token; tokens beyond are words of their own, so that texts tell them."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    torch.manual_seed(0)
    count = 600 if tiny else 50_257
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens += [f"Ġw{place}" for place in range(count - len(tokens) - 1)]
    places = {token: place for place, token in enumerate([*tokens, "<|endoftext|>"])}
    tokenizer = Tokenizer(models.BPE(places, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    end = dict.fromkeys(("bos_token", "eos_token", "unk_token"), "<|endoftext|>")
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=1024, **end).save_pretrained(folder)
    ends = {"bos_token_id": count - 1, "eos_token_id": count - 1}
    sizes = {"n_embd": 32, "n_layer": 2, "n_head": 2, "initializer_range": 0.3} if tiny else {"initializer_range": 0.06}
    GPT2LMHeadModel(GPT2Config(vocab_size=count, **ends, **sizes)).save_pretrained(folder)
    return folder
