"""Generation over a cache of one size. On the CPU the step runs as it is, on CUDA as one graph: tests/test_gpu.py."""

from __future__ import annotations

import copy
import gc
import pickle
import shutil
import weakref
from typing import Any

import numpy as np
import pytest
import torch
import torch._dynamo.utils

from tests.backends.conftest import ragged_tokens, text_spec
from zoo.backends import build, fixed, stepping
from zoo.backends.fixed import FixedStepper, Kept, lowered
from zoo.backends.module import ZooModule
from zoo.backends.running import CachedStepper
from zoo.errors import ZooError
from zoo.modalities.base import Array
from zoo.tasks.generation import GenerateOptions, generate

LLAMA = {
    "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 37, "vocab_size": 300, "max_position_embeddings": 66,
}  # fmt: skip
OPT = {
    "hidden_size": 32, "word_embed_proj_dim": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 37,
    "vocab_size": 300, "max_position_embeddings": 66,
}  # fmt: skip
FAMILIES: dict[str, dict[str, Any]] = {
    "gpt2": {}, "llama": LLAMA, "qwen2": LLAMA, "gpt_neox": LLAMA, "phi": LLAMA, "opt": OPT,
}  # fmt: skip


def module_of(kind: str, **changes: Any) -> ZooModule:
    base = text_spec("gpt2")
    if kind != "gpt2":
        base = base.evolve(name=kind, architecture=kind, config=FAMILIES[kind])
    spec = base.evolve(config={**base.config, **changes})
    return build(spec, task="text-generation", labels=(), seed=0)


def prompts(*, left: bool = True) -> tuple[Array, Array]:
    found = ragged_tokens((7, 4, 2, 5), left=left)
    return found["input_ids"].numpy(), found["attention_mask"].numpy()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A room that is full soon."""
    monkeypatch.setattr(fixed, "_LEAST", 8)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("left", [True, False], ids=["left", "right"])
@pytest.mark.parametrize("kind", FAMILIES)
def test_each_step_is_the_plain_ones(kind: str, left: bool) -> None:
    module = module_of(kind)
    assert module.fixes
    ours, plain = FixedStepper(module, "cpu"), CachedStepper(module, "cpu")
    found, wanted = (stepper.start(*prompts(left=left)) for stepper in (ours, plain))
    capacities = set()
    for step in range(16):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)
        if step in (3, 6, 9):
            # One row of four less goes on in the same room, and two less in another; one is left in the end.
            rows = {3: [2, 0, 1], 6: [1, 0], 9: [1]}[step]
            for stepper in (ours, plain):
                stepper.select(np.array(rows))
            found, wanted = found[rows], wanted[rows]
        tokens = wanted.argmax(axis=1)
        found, wanted = ours.advance(tokens), plain.advance(tokens)
        assert ours._room is not None
        capacities.add((ours._room.batch, ours._room.capacity))
    assert capacities == {(4, 8), (4, 16), (2, 16), (1, 32)} | ({(1, 16)} if (1, 16) in capacities else set())


def test_the_most_probable_token_is_that_of_the_logits() -> None:
    module = module_of("gpt2")
    one, other = FixedStepper(module, "cpu"), FixedStepper(module, "cpu")
    tokens = one.start(*prompts()).argmax(axis=1)
    other.start(*prompts())
    for _ in range(4):
        found = one.best(tokens)
        np.testing.assert_array_equal(found, other.advance(tokens).argmax(axis=1))
        tokens = found
    assert found.dtype == np.int64
    with torch.no_grad():
        module.net.transformer.ln_f.weight[0] = float("nan")  # type: ignore[union-attr, operator, index]
    assert one.best(tokens).tolist() == [-1] * 4


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler: apt install g++")
def test_a_compiled_step_is_the_plain_ones_and_one_graph() -> None:
    module = module_of("gpt2", n_layer=1)
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    ours, plain = FixedStepper(module, "cpu", compile=True), CachedStepper(module, "cpu")
    found, wanted = (stepper.start(*prompts()) for stepper in (ours, plain))
    for _ in range(4):
        tokens = wanted.argmax(axis=1)
        found, wanted = ours.advance(tokens), plain.advance(tokens)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-5)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    assert not torch._dynamo.utils.counters["graph_break"]


def test_whole_texts_are_those_of_the_plain_stepper() -> None:
    module = module_of("gpt2")
    ids, mask = prompts()
    given = [row[real.astype(bool)] for row, real in zip(ids, mask, strict=True)]
    plain = generate(given, CachedStepper(module, "cpu"), GenerateOptions(max_new_tokens=30), **ENDS)
    # A token that a row gives early, so that rows end at different times.
    eos = plain[1].tokens[3]
    for options in ({}, {"do_sample": True, "temperature": 2.0}, {"repetition_penalty": 1.3}):
        chosen, ends = GenerateOptions(max_new_tokens=30, **options), {**ENDS, "eos_id": eos}  # type: ignore[arg-type]
        ours = generate(given, FixedStepper(module, "cpu"), chosen, **ends)
        assert ours == generate(given, CachedStepper(module, "cpu"), chosen, **ends)
    assert len({len(made.tokens) for made in plain}) == 1


ENDS: dict[str, Any] = {"eos_id": None, "pad_id": 0, "decode": lambda ids: ""}


def test_a_lower_precision_is_what_autocast_makes_of_the_weights_at_each_step() -> None:
    module = module_of("gpt2")
    ours, plain = (kind(module, "cpu", precision="bf16") for kind in (FixedStepper, CachedStepper))
    found, wanted = (stepper.start(*prompts()) for stepper in (ours, plain))
    for _ in range(4):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-2)
        tokens = wanted.argmax(axis=1)
        found, wanted = ours.advance(tokens), plain.advance(tokens)
    net = lowered(module.net, torch.bfloat16)
    inputs = {"input_ids": torch.from_numpy(prompts()[0])}
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(net(**inputs).logits, module.net(**inputs).logits)
    assert net.lm_head.weight.dtype == torch.bfloat16  # type: ignore[union-attr]
    # All else is the same memory, and the module's own matrices are as they were.
    assert net.transformer.wte.weight is module.net.transformer.wte.weight  # type: ignore[union-attr]
    assert {part.dtype for part in module.net.parameters()} == {torch.float32}


def test_a_room_is_kept_for_as_many_prompts() -> None:
    stepper = FixedStepper(module_of("gpt2"), "cpu")
    stepper.start(*prompts())
    room = stepper._room
    ids, mask = prompts()
    stepper.start(ids[::-1, :3], mask[::-1, :3])
    assert stepper._room is room
    stepper.start(ids[:2], mask[:2])
    assert stepper._room is not room


def borrowed(module: ZooModule, precision: str = "fp32") -> FixedStepper:
    with module.kept.borrowed(module, torch.device("cpu"), precision) as stepper:  # type: ignore[union-attr, operator]
        return stepper  # type: ignore[no-any-return]


def test_a_stepper_is_kept_while_the_weights_are_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    module = module_of("gpt2")
    first = borrowed(module)
    assert borrowed(module) is first
    assert borrowed(module, "bf16") is not first
    first = borrowed(module)
    with torch.no_grad():
        next(module.parameters()).add_(1)
    assert borrowed(module) is not first
    first = borrowed(module)
    module.net.lm_head.weight = torch.nn.Parameter(module.net.lm_head.weight.detach().clone())  # type: ignore[union-attr]
    assert borrowed(module) is not first
    # What takes much memory is not kept, and what is moved or trained has no use for it.
    first = borrowed(module)
    first.start(*prompts())
    with monkeypatch.context() as patched:
        patched.setattr(fixed, "_KEPT", first.nbytes - 1)
        assert borrowed(module) is first
        assert borrowed(module) is not first
    for use in (module.train, module.double):
        borrowed(module)
        assert module.kept._kept  # type: ignore[union-attr]
        use()
        assert not module.kept._kept  # type: ignore[union-attr]


def fail(again: FixedStepper, one: FixedStepper) -> None:
    assert again is one
    raise ZooError("not numbers")


def test_two_at_a_time_have_one_each_and_what_failed_is_not_kept() -> None:
    module = module_of("gpt2")
    kept, cpu = Kept(), torch.device("cpu")
    with kept.borrowed(module, cpu, "fp32") as one, kept.borrowed(module, cpu, "fp32") as other:
        assert one is not other
    with pytest.raises(ZooError, match="not numbers"), kept.borrowed(module, cpu, "fp32") as again:
        fail(again, one)
    with kept.borrowed(module, cpu, "fp32") as fresh:
        assert fresh is not one


def test_a_copy_of_a_module_keeps_nothing() -> None:
    module = module_of("gpt2")
    borrowed(module)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert not other.kept._kept
        np.testing.assert_allclose(
            borrowed(other).start(*prompts()), CachedStepper(module, "cpu").start(*prompts()), atol=1e-6
        )


def test_what_is_kept_is_gone_with_its_module() -> None:
    module = module_of("gpt2")
    stepper = borrowed(module)
    stepper.start(*prompts())
    gone = weakref.ref(module), weakref.ref(stepper)
    gc.disable()
    try:
        del module, stepper
        assert [one() for one in gone] == [None, None]
    finally:
        gc.enable()


def test_on_the_cpu_a_cache_that_grows_is_read_and_no_more() -> None:
    with stepping(module_of("gpt2"), torch.device("cpu")) as stepper:
        assert isinstance(stepper, CachedStepper)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("bloom", {"hidden_size": 32, "n_layer": 2, "n_head": 2, "vocab_size": 300}),
        (
            "gpt_neo",
            {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "attention_types": [[["global", "local"], 1]]},
        ),
        ("falcon", {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "alibi": True}),
    ],
)
def test_a_bias_by_place_or_window_goes_on_as_before(kind: str, changes: dict[str, Any]) -> None:
    base = text_spec("gpt2").evolve(name=kind, architecture=kind, config={**changes, "vocab_size": 300})
    assert not build(base, task="text-generation", labels=(), seed=0).fixes
