"""SIGINT and SIGTERM as a wish that the loop hears at the end of a step."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, final

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@final
class Interrupts:
    """Within `with`, the first signal only sets `received`; a second SIGINT is a KeyboardInterrupt at once.

    Python lets the main thread alone have handlers: elsewhere nothing changes.
    """

    def __init__(self) -> None:
        self.received: str | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            # None: it was not set from Python, and can't be set again from here.
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self.received and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = signal.Signals(number).name
