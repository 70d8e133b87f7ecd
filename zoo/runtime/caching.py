"""A language model's graph with a cache: the prompt once, then one token at a time. The cache stays on its device."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, final

import numpy as np

from zoo import bundle
from zoo.errors import BundleError
from zoo.modalities.base import Array
from zoo.runtime.draft import Draft
from zoo.runtime.session import Device, Session
from zoo.runtime.shortlist import MOST_ROWS, Shortlist
from zoo.tasks import caching
from zoo.tasks.generation import most_probable
from zoo.tasks.steppers import Chooser

_NOWHERE: Array = np.zeros(0, dtype=np.int64)
_MOST_DOUBTS = 3  # shortlists that told too little of one text, before it goes on without them


@final
class CachedSession:
    """Two sessions as one: the model's, whose `run` reads whole texts, and what takes rows out of its cache.

    exact: whether a token's numbers are the same whatever is read with it, but for rounding. shortlist: of the tokens
    that may be the most probable; draft: of what may follow; where there is one.
    """

    def __init__(
        self,
        model: Session,
        select: Session,
        inputs: tuple[bundle.TensorSpec, ...],
        *,
        exact: bool,
        shortlist: Shortlist | None = None,
        draft: Draft | None = None,
    ) -> None:
        self.exact = exact
        self.shortlist = shortlist
        self.draft = draft
        self._past = past_of(model, inputs, {"input_ids", "attention_mask"})
        self.model = model
        self.select = check_select(select)
        self.device: Device = model.device
        self.inputs = {name: model.inputs[name] for name in ("input_ids", "attention_mask")}
        self.outputs = ["logits"]
        self.held = {name: caching.past_of(name) for name in model.outputs if caching.is_cache(name)}

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """int64 `input_ids` and `attention_mask`, both `[B, T]`, in; `logits [B, T, V]` out."""
        ids = inputs["input_ids"]
        everywhere = np.arange(ids.shape[1])
        # Held and dropped, so that no cache is copied from the device.
        return {"logits": self.step(self.first(ids, inputs["attention_mask"], everywhere))[0]["logits"]}

    def step(self, inputs: dict[str, Any], listed: Array = _NOWHERE) -> tuple[dict[str, Array], dict[str, Any]]:
        """The outputs of one run, and the cache, which stays where it is.

        inputs: as `zoo.tasks.caching.step` has them. listed: int64, the places whose shortlists are wanted.
        """
        more = {} if self.shortlist is None else {caching.LISTED: listed}
        return self.model.run_held({**inputs, **more}, self.held)

    def first(self, ids: Array, mask: Array, keep: Array) -> dict[str, Array]:
        """The inputs of a text's first run: nothing is in the cache."""
        return caching.step(ids, mask, keep, nothing(self._past, len(ids)))


@final
class CachedGraph:
    """`zoo.tasks.steppers.Stepper` over a graph with a cache; prompts may be padded on either side.

    narrow: of `zoo.tasks.steppers.Narrowing`.
    """

    def __init__(self, session: CachedSession) -> None:
        self._session = session
        self.narrow = False
        self._doubts = 0
        self._mask: Array = np.zeros((0, 0), dtype=np.int64)
        self._cache: dict[str, Any] = {}
        # By how much the tokens of a draft led: of the one to check, and of the one that was checked last.
        self._leads: list[float] = []
        self._checked: list[float] = []

    def start(self, input_ids: Array, attention_mask: Array) -> Array:
        self._mask = np.asarray(attention_mask, dtype=np.int64)
        last = self._mask.shape[1] - 1 - np.argmax(self._mask[:, ::-1], axis=1)
        # Padded on the left, all end in the last place, and the vocabulary is asked once a row.
        keep, place = np.unique(last, return_inverse=True)
        logits = self._run(self._session.first(input_ids, self._mask, keep))["logits"]
        return np.ascontiguousarray(logits[np.arange(len(logits)), place.reshape(-1)], dtype=np.float32)

    def advance(self, tokens: Array) -> Array:
        return self._further(np.asarray(tokens, dtype=np.int64)[:, None])

    def best(self, tokens: Array) -> Array:
        return most_probable(self.advance(tokens))

    @property
    def checks(self) -> bool:
        # What is forgotten leaves a gap, which a model without numbered positions may take for distance.
        return self._session.exact and caching.POSITIONS in self._session.model.inputs

    def check(self, tokens: Array) -> Array:
        self._checked, self._leads = self._leads, []
        return self._further(np.asarray(tokens, dtype=np.int64)[None])

    def forget(self, count: int) -> None:
        # Their keys and values stay where they are, on whichever device, and are seen by none.
        self._mask[:, -count:] = 0
        if self._checked and self._session.draft is not None:
            self._session.draft.mistaken(self._checked[-count])

    @property
    def drafts(self) -> bool:
        draft = self._session.draft
        return draft is not None and draft.session() is not None

    def draft(self, token: int, most: int, choose: Chooser) -> Array:
        draft, found = self._session.draft, [token]
        session = None if draft is None else draft.session()
        if draft is None or session is None:
            return _NOWHERE
        mask, cache, self._leads = self._mask, self._cache, []
        with draft.trying():
            while len(found) <= most and not choose.ended:
                mask = np.concatenate([mask, np.ones((1, 1), dtype=np.int64)], axis=1)
                inputs = caching.step(np.array([found[-1:]]), mask, np.zeros(1, dtype=np.int64), cache)
                with draft.timed(drafting=True):
                    arrays, cache = session.run_held(inputs, self._session.held)
                logits = _in_rows(arrays["logits"])[0]
                if (token := choose(logits)) < 0:
                    break
                found.append(token)
                if self.narrow:
                    self._leads.append(_lead(logits, token))
                    if self._leads[-1] < draft.doubt:
                        break
        return np.array(found[1:], dtype=np.int64)

    def select(self, rows: Array) -> None:
        self._mask = self._mask[rows]
        self._cache = select_rows(self._session.select, self._cache, rows)

    def join(self, other: CachedGraph) -> None:
        """The rows of another come behind these. Caches are padded on the left, and no longer than a row needs."""
        width = max(_needed(self._mask), _needed(other._mask))
        cache = {name: _stacked(value, other._cache[name], width) for name, value in self._cache.items()}
        mask = _stacked(self._mask[:, None, :, None], other._mask[:, None, :, None], width)[:, 0, :, 0]
        self._cache, self._mask = cache, mask
        self._doubts = 0

    def _further(self, ids: Array) -> Array:
        """What follows each of these tokens, int64 `[B, T]`: float32 `[B * T, V]`."""
        # A new token's position is the number of real ones before it, on whichever side the padding is.
        self._mask = np.concatenate([self._mask, np.ones_like(ids)], axis=1)
        draft = self._session.draft
        alone = draft is not None and ids.size == 1 and self._session.model.packed
        with draft.timed(drafting=False) if draft is not None and alone else nullcontext():
            return self._logits(ids)

    def _logits(self, ids: Array) -> Array:
        """The same, of tokens that the mask has already."""
        places, past, rows = np.arange(ids.shape[1]), self._cache, ids.size
        whole = caching.step(ids, self._mask, places, past)
        shortlist = self._shortlist(rows)
        if shortlist is None:
            return _in_rows(self._run(whole)["logits"])
        if not shortlist.proved(rows):
            arrays = self._run(whole, places)
            logits = _in_rows(arrays["logits"])
            shortlist.prove(arrays, logits)
            return logits
        found = shortlist.logits(self._run(caching.step(ids, self._mask, places[:0], past), places), rows)
        if found is None:
            self._doubts += 1
            found = _in_rows(self._run(whole)["logits"])
        return found

    def _shortlist(self, rows: int) -> Shortlist | None:
        """Where shortlists of so many rows are enough, and quicker."""
        shortlist = self._session.shortlist
        if shortlist is None or shortlist.refuted or not self.narrow or rows > MOST_ROWS:
            return None
        # Weights that are not laid out yet would be turned into float32 for each.
        return shortlist if self._session.model.packed and self._doubts < _MOST_DOUBTS else None

    def _run(self, inputs: dict[str, Any], listed: Array = _NOWHERE) -> dict[str, Array]:
        arrays, self._cache = self._session.step(inputs, listed)
        return arrays


def _in_rows(array: Array) -> Array:
    """`[B, T, N]` as float32 `[B * T, N]`."""
    return np.asarray(array, dtype=np.float32).reshape(-1, array.shape[-1])


def _lead(logits: Array, token: int) -> float:
    """By how much a token's logit is above all others of `[V]`."""
    others = logits.copy()
    others[token] = -np.inf
    return float(logits[token] - others.max())


def _needed(mask: Array) -> int:
    """Columns of a mask from the first real token of any row."""
    return int(mask.shape[1] - np.argmax(mask, axis=1).min())


def _stacked(first: Any, second: Any, width: int) -> Array:
    """The rows of two arrays `[B, heads, P, D]`, the last `width` of P; what one has less is zeros in front."""
    parts = [part if isinstance(part, np.ndarray) else part.numpy() for part in (first, second)]
    _, heads, _, size = parts[0].shape
    found = np.zeros((sum(map(len, parts)), heads, width, size), dtype=parts[0].dtype)
    end = 0
    for part in parts:
        start, end, kept = end, end + len(part), min(width, part.shape[2])
        found[start:end, :, width - kept :] = part[:, :, part.shape[2] - kept :]
    return found


def select_rows(select: Session, cache: Mapping[str, Any], rows: Array) -> dict[str, Any]:
    """These rows of every tensor of a cache, in this order. rows: int64; one may come twice."""
    chosen = np.asarray(rows, dtype=np.int64)
    return {
        name: select.run_held({"cache": value, "rows": chosen}, {"selected": name})[1][name]
        for name, value in cache.items()
    }


def nothing(past: Sequence[bundle.TensorSpec], batch: int) -> dict[str, Array]:
    """A cache of no tokens. past: the contract's inputs that are one's."""
    return {item.name: caching.empty(item.shape, batch, item.dtype) for item in past}


def past_of(session: Session, inputs: Sequence[bundle.TensorSpec], needed: set[str]) -> list[bundle.TensorSpec]:
    """The contract's inputs that are a cache's. Raises BundleError where it is none that goes on from step to step.

    needed: what the graph must take besides.
    """
    past = [item for item in inputs if caching.is_past(item.name)]
    names = {caching.past_of(name) for name in session.outputs if name not in ("logits", *caching.LISTS)}
    sides = [item.shape for item in past if _is_cache(item.shape)]
    if len(sides) < len(past) or names != {item.name for item in past} or "logits" not in session.outputs:
        raise BundleError(f"{session.graph}: its card describes no cache of keys and values that goes on by itself.")
    if not needed <= set(session.inputs):
        raise BundleError(
            f"{session.graph} must take {', '.join(sorted(needed))}; it takes {', '.join(session.inputs)}."
        )
    return past


def _is_cache(shape: Sequence[int | str]) -> bool:
    """`[batch, heads, past, width]`: without tokens it takes no memory, whatever the numbers say."""
    return (
        len(shape) == 4 and (shape[0], shape[2]) == ("batch", "past") and all(isinstance(x, int) for x in shape[1::2])
    )


def check_select(select: Session) -> Session:
    """Raises BundleError for a graph that can't take rows out of a cache."""
    if select.inputs.keys() != {"cache", "rows"} or select.outputs != ["selected"]:
        raise BundleError(f"{select.graph} takes {', '.join(select.inputs)}, and should take cache and rows.")
    return select
