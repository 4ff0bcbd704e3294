"""Containers and pods that have ended: their last counters, until who collects metrics has read them.

A container that lives for less than a collector's interval would else have used nothing as far as anybody
hears. Its counters are read when it has ended and before its cgroup goes, and are shown from then on for
`_SHOWN_S`, or longer if nobody has read them yet: up to `_KEPT_S`, and `_COUNT_MAX` of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_SHOWN_S: Final = 120.0
"""Longer than the usual intervals of collectors, of which there may be several."""
_KEPT_S: Final = 900.0
_COUNT_MAX: Final = 1000


@dataclass(slots=True)
class _Entry(Generic[T]):
    last: T
    ended_at: float
    is_read: bool = field(default=False)


class Ended(Generic[T]):
    """The last state of what has ended, by id; `T` is what is kept of it."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry[T]] = {}

    def put(self, identity: str, last: T, at: float) -> None:
        """What it was in the end; a later word on the same replaces it, and is new to who reads."""
        earlier = self._entries.pop(identity, None)
        self._entries[identity] = _Entry(last, at if earlier is None else earlier.ended_at)
        while len(self._entries) > _COUNT_MAX:
            self._entries.pop(self._oldest())

    def _oldest(self) -> str:
        """What has to go first: of those that were read the oldest, else the oldest of all."""
        read = (identity for identity, entry in self._entries.items() if entry.is_read)
        return next(read, next(iter(self._entries)))

    def shown(self, at: float) -> Iterable[tuple[str, T]]:
        """What is to be shown at the monotonic time `at`; whoever asks has read it."""
        for identity, entry in list(self._entries.items()):
            age_s = at - entry.ended_at
            if age_s > (_SHOWN_S if entry.is_read else _KEPT_S):
                del self._entries[identity]
            else:
                entry.is_read = True
                yield identity, entry.last
