from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ConfigError
from zoo.training import TrainConfig


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"optimzer": "adamw"}, "optimzer: there is no such option. Did you mean 'optimizer'?"),
        ({"epochs": 0}, "epochs=0: Input should be greater than or equal to 1"),
        ({"epochs": True}, "epochs=True"),
        ({"method": "lora2"}, "method='lora2': Input should be"),
        ({"learning_rate": float("nan")}, "learning_rate=nan"),
        ({"learning_rate": -1}, "learning_rate=-1: Input should be greater than 0"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"batch_size": "big"}, "batch_size='big': Input should be 'auto'"),
        ({"resume": True}, "resume needs output_dir="),
        ({"log": "tensorboard"}, "log needs output_dir="),
        ({"log": "comet", "output_dir": "x"}, "'tensorboard'"),
        ({"head_learning_rate": 1e-3, "head_lr_scale": 2.0}, "not both"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_a_fault_is_named_with_what_is_allowed(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError) as raised:
        TrainConfig.parse(options)
    assert says in str(raised.value)
    with pytest.raises(ConfigError):
        TrainConfig(**options)


def test_every_fault_is_listed_at_once() -> None:
    with pytest.raises(ConfigError, match=r"(?s)epochs=0.*scheduler='step'"):
        TrainConfig(epochs=0, scheduler="step")


def test_every_field_is_documented() -> None:
    assert [name for name, field in TrainConfig.model_fields.items() if not field.description] == []


def test_short_forms() -> None:
    config = TrainConfig(augment=False, class_weights={1: 2}, log="tensorboard", output_dir="here")
    assert config.augment == "none"
    assert config.class_weights == {"1": 2.0}
    assert config.log == ("tensorboard",)
    assert config.output_dir == Path("here")
    with pytest.raises(ValueError, match="frozen"):
        config.epochs = 4  # type: ignore[misc]


def test_reading_options_imports_no_torch() -> None:
    code = "import sys, zoo.training; zoo.training.TrainConfig(epochs=2); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
