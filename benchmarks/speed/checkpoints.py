"""Checkpoint folders of random weights at full architecture size, in upstream's own form, which all contestants read.

Random weights change no time, but answers of a freshly initialised network hardly depend on its input, and a comparison
of them would find nothing. So weights are wider here, and batch norms have the statistics of some images.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speed import data

LABELS = ("bad", "good", "odd")
_TINY_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def bert(folder: Path, *, tiny: bool) -> Path:
    """BERT-base, uncased, with a head of three labels."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    names = {"id2label": dict(enumerate(LABELS)), "label2id": {label: place for place, label in enumerate(LABELS)}}
    sizes = {**_TINY_BERT, "initializer_range": 0.4} if tiny else {"initializer_range": 0.05}
    tokens = len(_vocabulary()) if tiny else 30_522
    model = BertForSequenceClassification(BertConfig(vocab_size=tokens, **sizes, **names))
    model.save_pretrained(folder)
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
    """ResNet-50 of timm, or ResNet-10 where it is to be tiny, with the statistics of some photographs."""
    import timm
    import torch
    from timm.models import save_for_hf
    from torch import nn

    torch.manual_seed(0)
    # Else the residual branches are multiplied by nought, and nobody would see what happens in them.
    model = timm.create_model("resnet10t" if tiny else "resnet50", zero_init_last=False)
    norms = [part for part in model.modules() if isinstance(part, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(_prepared(model, photographs))
        model.get_classifier().weight.mul_(30)
    for norm in norms:
        norm.momentum = 0.1
    save_for_hf(model.eval(), folder, safe_serialization=True)
    # transformers hands them on beside the same arguments of its own, and fails.
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config.pop("model_args", None)
    config["label_names"] = [f"class {place}" for place in range(model.num_classes)]
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    return folder


def _prepared(model: Any, paths: list[Path]) -> Any:
    """As timm prepares them: float32 [N, 3, H, W]."""
    import timm.data
    import torch
    from PIL import Image

    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
    return torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
