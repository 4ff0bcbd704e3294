"""Order by key: of the messages in hand, at most one of each key is being delivered, the earliest first."""

from __future__ import annotations

from collections import deque
from typing import Final, Generic, TypeVar

from ondol.eventing.cloudevents.event import Event

KEY_ATTRIBUTE: Final = "partitionkey"

Item = TypeVar("Item")


def key(event: Event) -> str:
    """What must stay in order: events of one partition key; without one, of a source about a subject."""
    partition = event.attributes.get(KEY_ATTRIBUTE)
    if partition:
        return f"p {partition}"
    return f"s {event.source} {event.subject or ''}"


class Lanes(Generic[Item]):
    """A queue for each key. Whoever is told that a lane was free works it off: `first`, then `advance`."""

    def __init__(self) -> None:
        self._lanes: dict[str, deque[Item]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._lanes.values()))

    def add(self, lane: str, item: Item) -> bool:
        """Put the item behind those of its lane; whether the lane was free."""
        queue = self._lanes.get(lane)
        if queue is None:
            self._lanes[lane] = deque((item,))
            return True
        queue.append(item)
        return False

    def first(self, lane: str) -> Item:
        """The item whose turn it is; it stays in front until `advance`."""
        return self._lanes[lane][0]

    def advance(self, lane: str) -> bool:
        """The first item is done; whether there is another. A lane without one is free again."""
        queue = self._lanes[lane]
        queue.popleft()
        if queue:
            return True
        del self._lanes[lane]
        return False


class Settled:
    """Which sequences are done with, as ranges: those above the floor, below which all are."""

    def __init__(self, floor: int = 0) -> None:
        self.floor = floor
        self._above: set[int] = set()

    def __len__(self) -> int:
        """How many are remembered one by one."""
        return len(self._above)

    def __contains__(self, sequence: int) -> bool:
        return sequence <= self.floor or sequence in self._above

    def add(self, sequence: int) -> None:
        self._above.add(sequence)

    def forget_below(self, floor: int) -> None:
        """Everything up to here will not come again."""
        if floor > self.floor:
            self.floor = floor
            self._above = {each for each in self._above if each > floor}
