"""Options of which rows are trained on, and how they are varied."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from zoo.spec import Frozen


class InputFields(Frozen):
    """Abstract: a part of `zoo.TrainConfig`."""

    sampler: Literal["uniform", "balanced"] = Field(
        default="uniform",
        description="Which rows an epoch takes: 'uniform' each one once; 'balanced' as many rows in all, equally many "
        "of each label: rare ones come again and again, of frequent ones another part each time.",
    )
    column_kinds: dict[str, Literal["categorical", "hashed", "set", "numeric", "ignored"]] | None = Field(
        default=None,
        description="Of a table: what columns are, by name, where the inferred kind is not meant. 'hashed' is for "
        "categories that are too many or change; a 'set' holds several.",
    )
    crosses: tuple[tuple[str, ...], ...] = Field(
        default=(), description="Of a table: categorical columns whose combinations count, as in [('user', 'genre')]."
    )
    predict_with_generate: bool = Field(
        default=True,
        description="Validate summaries and translations by generated texts (ROUGE, BLEU), greedily; False validates "
        "by the loss and perplexity alone, which is quicker.",
    )
    augment: Literal["none", "light", "strong"] = Field(
        default="light",
        description="Vary images and sound in training, never in evaluation. 'light' keeps what a label may depend on "
        "(small crops, brightness; gain, a little noise and shift); 'strong' also mirrors images, changes colours, "
        "crops widely and erases parts, and adds more noise. True is 'light', False 'none'.",
    )
    packing: bool = Field(
        default=False,
        description="Of language modelling: train on texts one after another in full windows, an end-of-text token "
        "between them, instead of each text padded. Texts in one window see each other.",
    )
    mask_probability: Annotated[float, Field(gt=0, lt=1)] = Field(
        default=0.15,
        description="Of masked language modelling: the share of tokens that are hidden, others in each epoch.",
    )
    whole_word_masking: bool = Field(
        default=False, description="Of masked language modelling: hide all tokens of a word, or none."
    )

    @field_validator("crosses", mode="before")
    @classmethod
    def _written_crosses(cls, value: Any) -> Any:
        # As the command line gives it: "user x genre, item x age".
        if not isinstance(value, str):
            return value
        return tuple(tuple(name.strip() for name in cross.split(" x ")) for cross in value.split(","))

    @field_validator("augment", mode="before")
    @classmethod
    def _yes_or_no(cls, value: Any) -> Any:
        return {True: "light", False: "none"}[value] if isinstance(value, bool) else value
