"""Reservations: values given to writes under way, so that no two of them get the same.

A write looks at what the stored objects have, reserves what is free, and may then wait: for a plug-in, for
the disk. Until it is over, nobody else gets the value.

Example: a request times out while its Service is on the way to the disk. Whether the Service will be there is
known once the store has passed the revision it was given; until then its address stays reserved.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from types import TracebackType
from typing import Self, TypeVar

import anyio

from ondol.store import Store

T = TypeVar("T")


class Reservations:
    """Every value reserved now."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[Hashable, int] = {}
        """How many writes have reserved each value: two updates of one object may."""
        self._unsettled: list[Reserved] = []
        """Of writes that were given up on their way to the disk."""

    def __contains__(self, value: Hashable) -> bool:
        self._settle()
        return value in self._counts

    def of(self, kind: type[T]) -> Iterator[T]:
        """The values of one type."""
        self._settle()
        return (value for value in self._counts if isinstance(value, kind))

    def begin(self) -> Reserved:
        """For one attempt at a write: a context manager that gives everything back at its end."""
        return Reserved(self)

    def add(self, value: Hashable) -> None:
        self._counts[value] = self._counts.get(value, 0) + 1

    def discard(self, value: Hashable) -> None:
        count = self._counts.pop(value) - 1
        if count:
            self._counts[value] = count

    def is_settled(self, revision: int) -> bool:
        """Whether the write with a revision is committed, or has failed: they are committed in order."""
        return revision <= self._store.revision

    def postpone(self, reserved: Reserved) -> None:
        self._unsettled.append(reserved)

    def _settle(self) -> None:
        if not self._unsettled:
            return
        unsettled, self._unsettled = self._unsettled, []
        for reserved in unsettled:
            reserved.close()


class Reserved:
    """What one attempt at a write has reserved."""

    __slots__ = ("_reservations", "_values", "revision")

    def __init__(self, reservations: Reservations) -> None:
        self._reservations = reservations
        self._values: list[Hashable] = []
        self.revision = 0
        """The revision the write was given when it was handed to the disk; 0 before."""

    def add(self, value: Hashable) -> None:
        self._values.append(value)
        self._reservations.add(value)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._values:
            return
        if isinstance(error, anyio.get_cancelled_exc_class()):
            self.close()
        else:
            self._give_back()

    def close(self) -> None:
        """Give everything back, as soon as it is known what became of the write."""
        if self._reservations.is_settled(self.revision):
            self._give_back()
        else:
            self._reservations.postpone(self)

    def _give_back(self) -> None:
        for value in self._values:
            self._reservations.discard(value)
        self._values.clear()
