"""The gate of an export: what it must catch, and what it must leave behind when it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from tests.conformance.conftest import tiny_model
from zoo import parity, tracing
from zoo.errors import BundleError, ConfigError, ParityError
from zoo.tasks.base import NoOptions


def test_a_lost_attention_mask_is_caught_and_leaves_no_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an exporter does that sees no padding in its sample: the graph takes the mask and ignores it."""
    model = tiny_model("gpt2")
    real = tracing._flat

    def forgetful(module: Any, names: list[str], method: str) -> Any:
        import torch

        class Forgetful(torch.nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.inner = real(module, names, method)

            def forward(self, *tensors: torch.Tensor) -> Any:
                # The mask stays an input of the graph, but all its values are made one.
                input_ids, attention_mask, *others = tensors
                return self.inner(input_ids, torch.ones_like(attention_mask) + 0 * attention_mask, *others)

        return Forgetful().eval()

    monkeypatch.setattr(tracing, "_flat", forgetful)
    # Padding on the left is where a causal model without its mask goes wrong.
    left = model.spec.evolve(input={**model.spec.input.to_dict(), "padding_side": "left"})
    broken = zoo.load(left, weights=None, device="cpu", seed=0)
    with pytest.raises(ParityError, match="answers differently from torch") as caught:
        broken.export(tmp_path / "a.bundle")
    assert caught.value.report.max_abs_difference > caught.value.report.tolerance
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wav2vec2-base", "hubert-base"])
def test_group_norm_over_padding_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Upstream's own group norm mixes the padding into its statistics: put back, the gate must refuse it."""
    from zoo.backends.transformers import audio as backend

    def upstream(values: Any, lengths: Any, norm: Any) -> Any:
        return norm(values)

    monkeypatch.setattr(backend, "masked_group_norm", upstream)
    model = tiny_model(name, "automatic-speech-recognition")
    with pytest.raises(ParityError) as caught:
        model.export(tmp_path / "a.bundle")
    assert caught.value.report.max_abs_difference > caught.value.report.tolerance
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["wav2vec2-base", "wav2vec2-large", "gpt2"])
def test_a_padded_batch_answers_as_each_row_alone(name: str) -> None:
    model = tiny_model(name)
    raws = model.task.samples()
    alone = list(model.outcomes(raws, NoOptions(), batch_size=1, on_error="raise"))
    together = list(model.outcomes(raws, NoOptions(), batch_size=len(raws), on_error="raise"))
    for one, other in zip(alone, together, strict=True):
        for key, value in one.outputs[0].items():
            np.testing.assert_allclose(other.outputs[0][key], value, atol=1e-5)


def test_other_weights_in_the_bundle_than_in_torch_are_caught(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    bundle = model.export(tmp_path / "a.bundle")
    model.module.net.get_parameter("conv1.weight").data.mul_(1.5)
    with pytest.raises(ParityError):
        parity.compare(model, bundle)


def test_a_failed_export_keeps_the_bundle_that_was_there(tmp_path: Path) -> None:
    model = tiny_model("all-minilm-l6-v2")
    model.export(tmp_path / "a.bundle")
    with pytest.raises(ParityError):
        model.export(tmp_path / "a.bundle", tolerance=0.0)
    zoo.verify(tmp_path / "a.bundle")
    assert [path.name for path in tmp_path.iterdir()] == ["a.bundle"]


def test_the_users_samples_are_the_ones_compared(tmp_path: Path) -> None:
    model = tiny_model("all-minilm-l6-v2")
    bundle = model.export(tmp_path / "a.bundle", samples=["one", "two words", "three short words"])
    assert bundle.card.parity is not None
    assert (bundle.card.parity.source, bundle.card.parity.samples) == ("user", 3)
    assert bundle.card.parity.batch_sizes == (1, 2, 3)


def test_nan_outputs_do_not_pass(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    next(model.module.net.parameters()).data.fill_(float("nan"))
    with pytest.raises(ParityError):
        model.export(tmp_path / "a.bundle")
    assert list(tmp_path.iterdir()) == []


def test_wrong_options_and_targets_are_refused_before_any_work(tmp_path: Path) -> None:
    model = tiny_model("resnet18")
    with pytest.raises(ConfigError, match="int8"):
        model.export(tmp_path / "a.bundle", precision="int8")
    with pytest.raises(ConfigError, match="samples is empty"):
        model.export(tmp_path / "a.bundle", samples=[])
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "x.jpg").write_text("x")
    with pytest.raises(BundleError, match="did not write"):
        model.export(tmp_path / "photos")


def test_batch_and_length_are_dynamic_in_the_graph(tmp_path: Path) -> None:
    bundle = tiny_model("bert-base-cased", "token-classification").export(tmp_path / "a.bundle")
    assert [item.shape for item in bundle.card.inputs] == [("batch", "length")] * 3
    assert bundle.card.outputs[0].shape[:2] == ("batch", "length")
    for batch, length in ((1, 1), (3, 17), (5, 2)):
        ones = np.ones((batch, length), dtype=np.int64)
        outputs = bundle.session.run({"input_ids": ones, "attention_mask": ones, "token_type_ids": ones - 1})
        assert outputs["logits"].shape == (batch, length, 3)
