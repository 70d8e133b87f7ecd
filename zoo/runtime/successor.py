"""The session that takes over from the one that answered first: the same graph, with its weights laid out for speed."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, final

if TYPE_CHECKING:
    from zoo.runtime.session import Session


@final
class Successor:
    """Makes a session on a thread of its own, from the second question on: whoever asks once does not pay for it.

    make: options of ONNX Runtime to a session; it gives up when the options' load is cancelled. That happens when the
    owner is gone and when the process ends, neither of which waits for more than the tensor at hand.
    """

    def __init__(self, owner: Session, make: Callable[[Any], Any], options: Any) -> None:
        self._owner = weakref.ref(owner)
        self._make = make
        self._options = options
        self._lock = threading.Lock()
        self._questions = 0
        self._begun = False

    def asked(self) -> None:
        """Note a question to the owner."""
        with self._lock:
            self._questions += 1
            enough = self._questions == 2
        if enough:
            self.begin()

    def begin(self) -> None:
        """Make it now, if that has not begun."""
        with self._lock:
            owner = self._owner()
            if self._begun or owner is None:
                return
            self._begun = True
            # A daemon, so that the end of the process does not wait for it before it is told to give up.
            thread = threading.Thread(target=self._work, name="zoo-successor", daemon=True)
            weakref.finalize(owner, _give_up, self._options, thread)
            thread.start()

    def _work(self) -> None:
        try:
            session = self._make(self._options)
        # The one that answers goes on: it lacks memory for a second, or the load was cancelled.
        except Exception:
            return
        owner = self._owner()
        if owner is not None:
            owner.take_over(session)


def _give_up(options: Any, thread: threading.Thread) -> None:
    options.set_load_cancellation_flag(True)
    # The last reference to the owner may have been the thread's own.
    if thread is not threading.current_thread():
        thread.join()
