"""Options of which rows are trained on, and how they are varied."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from zoo.options import Options
from zoo.training.options.kinds import Share, Weight


class InputFields(Options):
    """Abstract: the rows, and how they are varied."""

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
    src_lang: str | None = Field(
        default=None,
        description="Of a translation: the language of the texts, by a code of the model; its own default when None. "
        "The fine-tuned model keeps it.",
    )
    tgt_lang: str | None = Field(default=None, description="The language to translate into, in the same way.")
    augment: Literal["none", "light", "strong", "randaugment"] = Field(
        default="light",
        description="Vary images and sound in training, never in evaluation. 'light' keeps what a label may depend on "
        "(small crops, brightness; gain, a little noise and shift); 'strong' also mirrors images, changes colours, "
        "crops widely and erases parts, and adds more noise; 'randaugment', of image-classification, is 'strong' with "
        "two changes drawn from fourteen (arXiv:1909.13719) in place of colours. True is 'light', False 'none'.",
    )
    mixup: Weight = Field(
        default=0.0,
        description="Of image-classification: blend each image with another one, and the label likewise "
        "(arXiv:1710.09412); the alpha of its Beta distribution, 0.2 to 0.8. 0: not. A second image is read for each.",
    )
    cutmix: Weight = Field(
        default=0.0,
        description="Of image-classification: put a part of another image into each (arXiv:1905.04899); alpha, usually "
        "1. 0: not. Beside mixup each is taken for half of the images.",
    )
    mix_probability: Annotated[float, Field(ge=0, le=1)] = Field(
        default=1.0, description="The share of images that mixup and cutmix change."
    )
    spec_augment: bool | None = Field(
        default=None,
        description="Of sound: hide stretches of time and bands of frequency in training (arXiv:1904.08779). None: a "
        "model over the waveform as its configuration says, which is mostly time; a spectrogram not.",
    )
    mask_time_prob: Share | None = Field(
        default=None, description="Of models over the waveform: the share of time to hide. None: the model's own."
    )
    mask_feature_prob: Share | None = Field(
        default=None, description="Of models over the waveform: the share of features to hide. None: the model's own."
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

    @model_validator(mode="after")
    def _mixing_and_hiding_agree(self) -> InputFields:
        if self.mix_probability != 1.0 and not self.mixup and not self.cutmix:
            raise ValueError("mix_probability is of mixup and cutmix; give mixup=0.2 or cutmix=1.0 beside it")
        for name in ("mask_time_prob", "mask_feature_prob"):
            if getattr(self, name) is not None and self.spec_augment is False:
                raise ValueError(f"{name} hides parts of sound, and spec_augment=False hides none; leave out one")
        return self
