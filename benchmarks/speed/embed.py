"""Sentence embeddings by a BERT of MiniLM's size."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, bundles, export, read

FACTS = {
    "title": "Embeddings of ragged texts",
    "model": "BERT of MiniLM's size (6 layers of 384), random weights, mean pooling",
    "data": "texts of log-normal length, median 40 tokens, up to 512",
}
_HERE = "benchmarks.speed.embed"


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    folder = checkpoints.minilm(setting.folder / "minilm", tiny=setting.quick)
    texts = data.texts(setting.size(128, 8), longest=512 if not setting.quick else 60)
    path = setting.folder / "minilm.bundle"
    made = {"fp32": (path, export(zoo.load(folder, task="feature-extraction", device="cpu"), path))}
    given = {"folder": str(folder), "inputs": setting.kept("texts", texts), "device": setting.device}
    missing = "" if setting.peers else "--peers names no Python of benchmarks/speed/requirements.txt"
    yield Contest(
        f"{len(texts)} texts", len(texts), "texts",
        [
            Contestant("transformers loop", f"{_HERE}:loop", given),
            Contestant(
                "sentence-transformers", f"{_HERE}:sentences", given, python=setting.peers, left_out=missing,
            ),
            Contestant(
                "the same, 8 a batch", f"{_HERE}:sentences", {**given, "batch_size": 8}, python=setting.peers,
                left_out=missing,
            ),
            Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
            *bundles(f"{_HERE}:bundle", given, made),
        ],
    )  # fmt: skip


def loop(folder: str, inputs: str, device: str) -> Ready:
    """What the pages of such models tell: one text at a time through the network, the mean of the real tokens."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).to(device).eval()
    texts = read(inputs)

    @torch.inference_mode()
    def run() -> Answer:
        vectors = []
        for text in texts:
            batch = tokenizer(text, return_tensors="pt").to(device)
            mask = batch["attention_mask"][..., None]
            mean = (model(**batch).last_hidden_state * mask).sum(1) / mask.sum(1)
            vectors += torch.nn.functional.normalize(mean).tolist()
        return Answer(numbers=vectors)

    return Ready(run)


def sentences(folder: str, inputs: str, device: str, batch_size: int | None = None) -> Ready:
    """It sorts by length itself; its default is 32 a batch."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(folder, device=device)
    texts = read(inputs)
    options = {} if batch_size is None else {"batch_size": batch_size}
    return Ready(lambda: Answer(numbers=model.encode(texts, show_progress_bar=False, **options).tolist()))


def ours(folder: str, inputs: str, device: str) -> Ready:
    import zoo

    model = zoo.load(folder, task="feature-extraction", device=device)
    texts = read(inputs)
    return Ready(lambda: Answer(numbers=model.embed(texts, pooling="mean", normalize=True).tolist()))


def bundle(folder: str, inputs: str, device: str) -> Ready:
    import zoo

    model = zoo.runtime.load(folder, device=device)
    texts = read(inputs)
    return Ready(lambda: Answer(numbers=model.embed(texts, normalize=True).tolist()))
