"""Metrics of generated texts by the field's own libraries: ROUGE (rouge-score), BLEU and chrF (sacrebleu)."""

from __future__ import annotations

import re
from typing import Any, final

from zoo.errors import missing

_ROUGE = ("rouge1", "rouge2", "rougeL", "rougeLsum")
# Scripts that write no spaces between words: each character counts as one.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")


@final
class Rouge:
    """Mean F-measures in [0, 1]; words as rouge-score takes them with stemming, and words of any script beside."""

    def __init__(self) -> None:
        try:
            from rouge_score import rouge_scorer
        except ImportError as error:
            raise missing("rouge-score", "measure", "ROUGE, the metric of summaries,") from error
        self._scorer: Any = rouge_scorer.RougeScorer(list(_ROUGE), tokenizer=_Words())
        self._sums = dict.fromkeys(_ROUGE, 0.0)
        self._rows = 0

    def update(self, reference: str, text: str) -> None:
        for name, score in self._scorer.score(reference, text).items():
            self._sums[name] += score.fmeasure
        self._rows += 1

    def compute(self) -> dict[str, float]:
        shown = ("rougeL", "rouge1", "rouge2", "rougeLsum")
        return {name: self._sums[name] / max(self._rows, 1) for name in shown}


class _Words:
    """rouge-score's own tokenizer drops every letter that is not ASCII."""

    def __init__(self) -> None:
        from nltk.stem.porter import PorterStemmer

        self._stem: Any = PorterStemmer().stem

    def tokenize(self, text: str) -> list[str]:
        # Short words are left alone, as in rouge-score.
        return [self._stem(word) if len(word) > 3 else word for word in _WORD.findall(text.lower())]


@final
class Bleu:
    """bleu and chrf of the whole corpus, 0 to 100.

    language: of the translations; Chinese, Japanese, Korean and Thai are not split at spaces.
    """

    def __init__(self, language: str | None = None) -> None:
        try:
            from sacrebleu.metrics.bleu import BLEU
            from sacrebleu.metrics.chrf import CHRF
        except ImportError as error:
            raise missing("sacrebleu", "measure", "BLEU, the metric of translations,") from error
        code = re.split(r"[^a-z]", (language or "").lower().strip("_"))[0]
        split = {"zh": "zh", "zho": "zh", "yue": "zh"}.get(code)
        split = split or (
            "char" if code in ("ja", "jpn", "ko", "kor", "th", "tha", "lo", "lao", "my", "mya") else "13a"
        )
        self._bleu: Any = BLEU(tokenize=split)
        self._chrf: Any = CHRF()
        self._texts: list[str] = []
        self._references: list[str] = []

    def update(self, reference: str, text: str) -> None:
        self._texts.append(text)
        self._references.append(reference)

    def compute(self) -> dict[str, float]:
        if not self._texts:
            return {"bleu": 0.0, "chrf": 0.0}
        return {
            "bleu": float(self._bleu.corpus_score(self._texts, [self._references]).score),
            "chrf": float(self._chrf.corpus_score(self._texts, [self._references]).score),
        }
