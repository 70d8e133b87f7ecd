"""GPT-2's linear layer, whose weight is transposed, by oneDNN where that is quicker."""

from __future__ import annotations

from torch import Tensor
from transformers.pytorch_utils import Conv1D

from zoo.backends import halved, linear


class QuickConv1D(linear.Quick, Conv1D):
    """As `linear.Linear`."""

    def forward(self, x: Tensor) -> Tensor:
        if linear.answers(x, self.weight):
            return linear.product(x, self.weight.t(), self.bias)
        if halved.answers(x, self.weight):
            return halved.product(self, x, turned=True)
        found: Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return found
