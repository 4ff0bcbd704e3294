"""A lock that is handed over in the order in which it was asked for.

Python's own goes to whoever comes first: a search that takes it again and again would keep out exports.
"""

from __future__ import annotations

import threading
from collections import deque
from types import TracebackType


class Turns:
    """Held inside its block, by one thread at a time; who waits gets it before whoever asks later."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._is_taken = False
        self._waiting: deque[threading.Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._is_taken:
                self._is_taken = True
                return
            gate = threading.Lock()
            gate.acquire()
            self._waiting.append(gate)
        gate.acquire()  # released by whoever had the turn: it stays taken in between

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        with self._mutex:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._is_taken = False
