"""A cache of computed values that forgets what one translation (generation) did not use."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Memo:
    """Values by key; `sweep` forgets those that `get` did not return since the sweep before.

    `alive` keeps objects whose `id` is part of a key from being freed, and their ids from being
    used anew, while the entry lives.
    """

    def __init__(self) -> None:
        self._current: dict[Hashable, tuple[Any, Any]] = {}
        self._previous: dict[Hashable, tuple[Any, Any]] = {}
        self.misses = 0
        """How many values had to be computed."""

    def get(self, key: Hashable, make: Callable[[], T], alive: Any = None) -> T:
        cached = self._current.get(key)
        if cached is None:
            cached = self._previous.get(key)
            if cached is None:
                self.misses += 1
                cached = (make(), alive)
            self._current[key] = cached
        value: T = cached[0]
        return value

    def sweep(self) -> None:
        self._previous = self._current
        self._current = {}
