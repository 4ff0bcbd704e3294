"""Room for requests, by their number and by their bytes, that one who sends too much cannot take from others.

Each owner (a broker, a channel) may have twice what is still free: one alone two thirds of the room, of many
each a part, and always something is left for who comes anew. (As switches share their buffers: "dynamic
thresholds", Choudhury and Hahne, 1998.)
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final

_OF_FREE: Final = 2
_OWNERS_MAX: Final = 256


@dataclass(slots=True)
class _Taken:
    """What an owner has."""

    count: int = 0
    size: int = 0


class Shares:
    """Whoever `enter`s must `leave`, with all the bytes that it took. Every event passes here, twice."""

    def __init__(self, *, count_max: int, bytes_max: int) -> None:
        self._count_max = count_max
        self._bytes_max = bytes_max
        self._owners: dict[Hashable, _Taken] = {}
        self.count = 0
        """Requests that are in."""
        self.size = 0
        """Their bytes."""

    def enter(self, owner: Hashable, size: int) -> bool:
        """Whether there is room for one more request of so many bytes; then it is in."""
        taken = self._owners.get(owner)
        if taken is None:
            taken = self._new(owner)
        if taken.count >= _OF_FREE * (self._count_max - self.count):
            return False
        if size:
            free = self._bytes_max - self.size
            if size > free or taken.size >= _OF_FREE * free:
                return False
            taken.size += size
            self.size += size
        taken.count += 1
        self.count += 1
        return True

    def grow(self, owner: Hashable, size: int) -> bool:
        """Whether there is room for so many bytes more of a request that is in; then they are."""
        taken = self._owners[owner]
        free = self._bytes_max - self.size
        if size > free or taken.size >= _OF_FREE * free:
            return False
        taken.size += size
        self.size += size
        return True

    def leave(self, owner: Hashable, size: int) -> None:
        """A request is done with, and so are its bytes."""
        taken = self._owners[owner]
        taken.count -= 1
        taken.size -= size
        self.count -= 1
        self.size -= size

    def _new(self, owner: Hashable) -> _Taken:
        """An owner; those that have nothing are forgotten now and then, not at each request."""
        if len(self._owners) >= _OWNERS_MAX:
            self._owners = {each: taken for each, taken in self._owners.items() if taken.count}
        self._owners[owner] = _Taken()
        return self._owners[owner]
