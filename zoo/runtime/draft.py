"""The next tokens of a text as an int8 copy of its model has them: guesses, in less time than the model itself takes.

(`zoo.drafting` writes the graph.) The model checks them in one step, and what it does not say is forgotten.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, final

from zoo.errors import ZooError

if TYPE_CHECKING:
    from zoo.runtime.session import Session

_STEPS = 5  # of either, before they are compared
# Of the model's own step: of a draft of four, three are right if it is any good.
_WORTH = 0.6
_FORGETTING = 0.8  # of a mistake, at each later one


@final
class Draft:
    """A graph that drafts, opened when a first text may want it, and given up where it is no quicker than the model.

    open_it: makes the session; its weights are laid out beside the answers, and it is not asked before.
    """

    def __init__(self, open_it: Callable[[], Session]) -> None:
        self._open = open_it
        self._opening = Lock()
        self._session: Session | None = None
        self._given_up = False
        self._whole: list[float] = []
        self._drafted: list[float] = []
        # What is the most probable by less is the last of its draft: it is likely to be wrong, and all behind it then.
        self.doubt = 0.0

    def session(self) -> Session | None:
        """When it is ready, and as long as it is worth its time."""
        # A first few steps of the model alone are what it is compared with.
        if self._given_up or len(self._whole) < _STEPS:
            return None
        with self._opening:
            if self._session is None and not self._given_up:
                with self.trying():
                    self._session = self._open()
                    self._session.lay_out()
        session = self._session
        return session if session is not None and session.packed and not self._given_up else None

    def mistaken(self, lead: float) -> None:
        """A most probable token was wrong that led by so much."""
        self.doubt = max(lead, _FORGETTING * self.doubt)

    @contextmanager
    def trying(self) -> Iterator[None]:
        """Whatever is wrong with it, the text is written without."""
        try:
            yield
        except ZooError as error:
            self._given_up = True
            warnings.warn(f"No tokens are drafted: {error}", RuntimeWarning, stacklevel=4)

    @contextmanager
    def timed(self, *, drafting: bool) -> Iterator[None]:
        """A step of one token, of either graph."""
        times = self._drafted if drafting else self._whole
        begun = time.perf_counter()
        yield
        if len(times) < _STEPS:
            times.append(time.perf_counter() - begun)
            if len(times) == len(self._whole) == len(self._drafted) == _STEPS:
                # The quickest ones: what else the machine does is in neither.
                self._given_up |= min(self._drafted) > _WORTH * min(self._whole)
