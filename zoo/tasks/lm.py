"""CTC decoding with an n-gram language model of words: flashlight-text's lexicon decoder over KenLM."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

import numpy as np

from zoo.errors import ConfigError, missing
from zoo.modalities.base import Array
from zoo.tasks import ctc

if TYPE_CHECKING:
    from zoo.tasks.speech_recognition import CtcOptions

# log10 as natural logarithm's factor is left to alpha, as in flashlight's and torchaudio's own decoders.
_THRESHOLD = 50.0
_LOWEST = 1e-30


def search(probabilities: Array, vocabulary: ctc.Vocabulary, options: CtcOptions) -> list[ctc.Token]:
    """The tokens of the best sequence of the model's words. probabilities: float `[F, V]`.

    Only words that the language model has (its unigrams, in the vocabulary's case) can come.
    Raises ConfigError for a vocabulary without a word delimiter or a file that is no model, MissingDependency without
    flashlight-text and kenlm-ex.
    """
    if not len(probabilities):
        return []
    assert options.lm is not None
    modified = Path(options.lm).stat().st_mtime_ns
    decoder = _decoder(
        options.lm, modified, vocabulary.tokens, float(options.alpha), float(options.beta), options.beam_width
    )
    return decoder.tokens(probabilities)


@lru_cache(maxsize=4)
def _decoder(
    path: str, modified: int, tokens: tuple[str, ...], alpha: float, beta: float, width: int
) -> _LexiconDecoder:
    """modified: of the file, so that a newer one is read again."""
    return _LexiconDecoder(Path(path), ctc.Vocabulary(tokens), alpha, beta, width)


@final
class _LexiconDecoder:
    """One thread at a time: flashlight's decoder keeps its hypotheses."""

    def __init__(self, path: Path, vocabulary: ctc.Vocabulary, alpha: float, beta: float, width: int) -> None:
        flashlight, kenlm = _flashlight()
        if not vocabulary.space:
            raise ConfigError("lm needs a vocabulary that writes `|` between words, and this model's has none.")
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        silence = next(i for i, token in enumerate(vocabulary.tokens) if token in ("|", " "))
        words = list(_unigrams(path))
        dictionary = _dictionary(words)
        try:
            model = kenlm.KenLM(str(path), dictionary)
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"{path} is no n-gram model that KenLM can read: {error}") from error
        trie = flashlight.Trie(len(vocabulary.tokens), silence)
        start = model.start(False)
        spelled = 0
        for index, word in enumerate(words):
            ids = vocabulary.spell(word)
            if ids:
                spelled += 1
                _, score = model.score(start, index)
                trie.insert(ids, index, score)
        if not spelled:
            raise ConfigError(f"No word of {path} can be written with the model's vocabulary.")
        trie.smear(flashlight.SmearingMode.MAX)
        chosen = flashlight.LexiconDecoderOptions(
            beam_size=width, beam_size_token=len(vocabulary.tokens), beam_threshold=_THRESHOLD, lm_weight=alpha,
            word_score=beta, unk_score=float("-inf"), sil_score=0.0, log_add=False,
            criterion_type=flashlight.CriterionType.CTC,
        )  # fmt: skip
        unknown = dictionary.get_index("<unk>")
        # Kept alive: the decoder holds bare pointers to them.
        self._parts = (model, trie, dictionary)
        self._decoder = flashlight.LexiconDecoder(chosen, trie, model, silence, vocabulary.blank, unknown, [], False)

    def tokens(self, probabilities: Array) -> list[ctc.Token]:
        scores = np.ascontiguousarray(np.log(np.maximum(probabilities, _LOWEST)), dtype=np.float32)
        with self._lock:
            results = self._decoder.decode(scores.ctypes.data, *scores.shape)
        if not results:
            return []
        # The path begins and ends with a silence that is no frame.
        path = np.array(results[0].tokens[1 : 1 + len(scores)])
        aligned = np.zeros_like(probabilities)
        aligned[np.arange(len(path)), path] = probabilities[np.arange(len(path)), path] + _LOWEST
        return self._vocabulary.read(aligned)


def _dictionary(words: list[str]) -> Any:
    from flashlight.lib.text.dictionary import Dictionary

    dictionary = Dictionary()
    for word in (*words, "<unk>"):
        dictionary.add_entry(word)
    dictionary.set_default_index(dictionary.get_index("<unk>"))
    return dictionary


def _unigrams(path: Path) -> Iterator[str]:
    """The words of an ARPA file, in its order. Raises ConfigError for a file without."""
    found = False
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            text = line.strip()
            if text == "\\1-grams:":
                found = True
            elif found and text.startswith("\\"):
                break
            elif found and text:
                word = text.split()[1] if len(text.split()) > 1 else ""
                if word and word not in ("<s>", "</s>", "<unk>", "<UNK>"):
                    yield word
    if not found:
        raise ConfigError(f"{path} is no ARPA file: it has no line \\1-grams:. KenLM's build_binary input is one.")


def _flashlight() -> tuple[Any, Any]:
    try:
        import kenlm  # noqa: F401  (its library is what flashlight's binding is linked to)
        from flashlight.lib.text import decoder
        from flashlight.lib.text.decoder import kenlm as binding
    except ImportError as error:
        raise missing("flashlight-text and kenlm-ex", "lm", "Decoding speech with a language model") from error
    return decoder, binding
