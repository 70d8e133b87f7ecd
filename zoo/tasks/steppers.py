"""What generation asks of a language model: at least one token more of each row, and more where a model can."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from zoo.modalities.base import Array


class Chooser(Protocol):
    """What chooses a row's next tokens, one after the other."""

    @property
    def ended(self) -> bool:
        """Whether the last one was the end of the text."""

    def __call__(self, logits: Array) -> int:
        """Of float32 logits `[V]` the token, and -1 where there is none."""


class Stepper(Protocol):
    """A language model, one token further at a time. All logits are float32 `[B, V]`, of the next token."""

    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        """Both int64 `[B, T]`, padded on the left: the last column is every prompt's last token."""

    def advance(self, tokens: Array) -> Array:
        """tokens: int64 `[B]`, one more for each row."""

    def best(self, tokens: Array) -> Array:
        """As `advance`, but what comes is `most_probable` of the logits, which need not leave their device."""

    def select(self, rows: Array) -> None:
        """Go on with these rows alone, in this order. rows: int64 indices into the current batch, each once."""


@runtime_checkable
class Checker(Protocol):
    """A stepper that reads several tokens of a row at once, where that row is the only one."""

    @property
    def checks(self) -> bool:
        """Whether it can, and with no other numbers than one by one but for rounding."""

    def check(self, tokens: Array) -> Array:
        """tokens: int64 `[T]`, more of the row. float32 logits `[T, V]` of what follows each of them."""

    def forget(self, count: int) -> None:
        """Go on as if the last so many of those tokens had not come."""


@runtime_checkable
class Narrowing(Protocol):
    """A stepper that may be quicker where no more than the most probable token is asked for.

    narrow: whether it is. Other logits may come as -inf then.
    """

    narrow: bool


@runtime_checkable
class Drafting(Protocol):
    """A checker with a cheaper model beside it, which guesses what it will say of the only row."""

    @property
    def drafts(self) -> bool:
        """Whether it can by now."""

    def draft(self, token: int, most: int, choose: Chooser) -> Array:
        """int64 `[G]`, what may follow the row and `token`, its next: up to `most` tokens, or none."""
