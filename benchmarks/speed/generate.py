"""GPT-2 124M continues ragged prompts, greedily: one at a time and eight, and how long the first token takes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.speed import checkpoints, data
from benchmarks.speed.answers import Answer
from benchmarks.speed.contest import Contest, Contestant
from benchmarks.speed.contestant import Ready
from benchmarks.speed.work import Setting, bundles, exported, read, torch_dtype

FACTS = {
    "title": "Generation",
    "model": "GPT-2 124M, random weights",
    "data": "prompts of log-normal length, median 24 tokens, up to 96; greedy",
}
_HERE = "benchmarks.speed.generate"


def contests(setting: Setting) -> Iterator[Contest]:
    import zoo

    folder = checkpoints.gpt2(setting.folder / "gpt2", tiny=setting.quick)
    model = zoo.load(folder, task="text-generation", device="cpu")
    gpu = setting.device == "cuda"
    many = 64 if gpu else 8
    prompts = [data.text(96, seed)[:length] for seed, length in enumerate(
        data.lengths(many, median=24, longest=96, seed=0, shortest=4)
    )]  # fmt: skip
    made = exported(setting, model, prompts, ("fp32", "fp16" if gpu else "int8"))
    del model
    tokens = setting.size(128 if gpu else 24, 4)
    weights = (folder / "model.safetensors").stat().st_size / 1e9
    for count, new, name in (
        (1, tokens, "1 prompt"), (many, tokens, f"{many} ragged prompts"), (1, 1, "the first token of 1 prompt"),
    ):  # fmt: skip
        given = {
            "folder": str(folder), "inputs": setting.kept(f"prompts{count}", prompts[:count]),
            "device": setting.device, "tokens": new,
        }  # fmt: skip
        contestants = [
            Contestant("transformers generate", f"{_HERE}:generate", given),
            Contestant("transformers pipeline", f"{_HERE}:pipeline", given),
            Contestant("zoo, torch", f"{_HERE}:ours", given, ours=True),
            *(_in_half(given) if gpu else ()),
            *bundles(f"{_HERE}:bundle", given, made),
        ]
        # A step reads all the weights, once for all prompts.
        yield Contest(
            f"{name}, {new} tokens each", count * new, "tokens", contestants, told=count > 1, gb=weights / count
        )


def _in_half(given: dict[str, Any]) -> list[Contestant]:
    """In half the bits, which change tokens of random weights; and transformers' own static cache, which compiles."""
    half = {**given, "precision": "bf16"}
    static = {**half, "static": True}
    return [
        Contestant("transformers generate, bf16", f"{_HERE}:generate", half, tolerance=None),
        Contestant("transformers generate, bf16, static cache", f"{_HERE}:generate", static, tolerance=None),
        Contestant("zoo, torch, bf16", f"{_HERE}:ours", half, ours=True, tolerance=None),
        Contestant(
            "zoo, torch, bf16, compiled", f"{_HERE}:ours", {**half, "compiled": True}, ours=True, tolerance=None
        ),
    ]


def generate(
    folder: str, inputs: str, device: str, tokens: int, precision: str = "fp32", static: bool = False
) -> Ready:
    """All prompts in one batch, padded on the left."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch_dtype(precision)).to(device).eval()
    prompts = read(inputs)
    options = {"max_new_tokens": tokens, "do_sample": False, "pad_token_id": tokenizer.pad_token_id}
    options |= {"cache_implementation": "static"} if static else {}

    def run() -> Answer:
        batch = tokenizer(prompts, padding=True, return_tensors="pt").to(device)
        made = model.generate(**batch, **options)
        rows = made[:, batch["input_ids"].shape[1] :]
        return Answer(tokenizer.batch_decode(rows, skip_special_tokens=True))

    return Ready(run)


def pipeline(folder: str, inputs: str, device: str, tokens: int) -> Ready:
    import transformers

    asked = transformers.pipeline("text-generation", model=folder, device=device)
    prompts = read(inputs)

    def run() -> Answer:
        found = asked(prompts, max_new_tokens=tokens, do_sample=False, return_full_text=False)
        return Answer([item[0]["generated_text"] for item in found])

    return Ready(run)


def ours(folder: str, inputs: str, device: str, tokens: int, precision: str = "fp32", compiled: bool = False) -> Ready:
    import zoo

    model = zoo.load(folder, task="text-generation", device=device, precision=precision, compile=compiled)
    prompts = read(inputs)
    return Ready(lambda: Answer([item.text for item in model.predict(prompts, max_new_tokens=tokens, do_sample=False)]))


def bundle(folder: str, inputs: str, device: str, tokens: int) -> Ready:
    import zoo

    model = zoo.runtime.load(folder, device=device)
    prompts = read(inputs)
    return Ready(lambda: Answer([item.text for item in model.predict(prompts, max_new_tokens=tokens, do_sample=False)]))
