"""A tiny Whisper learns to write a few spoken digits down, and its bundle writes the same."""

from __future__ import annotations

from pathlib import Path

import zoo
from tests.tiny import tiny

WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


def test_a_few_recordings_are_learned_by_heart(shared_data: Path, tmp_path: Path) -> None:
    spec = tiny(zoo.info("whisper-tiny.en"))
    spec = spec.evolve(
        config={
            **spec.config,
            "d_model": 64,
            "encoder_ffn_dim": 128,
            "decoder_ffn_dim": 128,
            "max_source_positions": 50,
        },
        input={**spec.input.to_dict(), "frames": 100},
    )
    folder = shared_data / "free-spoken-digit" / "recordings"
    rows = [(str(folder / f"{digit}_jackson_{i}.wav"), word) for digit, word in enumerate(WORDS) for i in (5, 6)]
    model = zoo.load(spec, weights=None, device="cpu", seed=0)
    model.finetune(
        rows, val=None, epochs=60, batch_size=10, learning_rate=4e-3, weight_decay=0.0, augment="none", lint=False,
        progress=False,
    )  # fmt: skip
    assert model.evaluate(rows).metrics["wer"] == 0.0
    answers = model.predict([path for path, _ in rows])
    assert [answer.text for answer in answers] == [word for _, word in rows]
    bundle = model.export(tmp_path / "digits.bundle", samples=[path for path, _ in rows[:3]])
    assert [answer.text for answer in bundle.predict([path for path, _ in rows])] == [word for _, word in rows]
