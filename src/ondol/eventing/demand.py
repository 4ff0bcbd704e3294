"""Whether the data plane is needed: told once, by whoever first sees an object that it serves."""

from __future__ import annotations

from collections.abc import Callable


class Demand:
    """Call it with each object that the data plane serves; `then` are called the first time only."""

    def __init__(self, *then: Callable[[], None]) -> None:
        self._then = list(then)
        self.is_there = False

    def add(self, then: Callable[[], None]) -> None:
        """Call this as well, at once if there is demand already."""
        if self.is_there:
            then()
        else:
            self._then.append(then)

    def __call__(self) -> None:
        if self.is_there:
            return
        self.is_there = True
        waiting, self._then = self._then, []
        for then in waiting:
            then()
