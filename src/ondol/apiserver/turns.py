"""Turns: long work goes in short steps, one in each round of the event loop, the users in rotation.

What reads a hundred thousand objects for one user would hold up everyone else's requests; a hundred such
works side by side would, too, if each took its step in every round. So they wait for each other, and what
is short never waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import Final

import anyio

from ondol.store import Record

SLICE_BYTES: Final = 128 * 1024
"""What is looked at in one turn: about a millisecond, even where it has to be parsed."""
_SLICE_RECORDS: Final = 500


class Rotation:
    """Who waits for something: the users in rotation, each user's in the order they came."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[anyio.Event]] = {}
        """By user, the next first; none of the queues is empty."""

    def enter(self, user: str) -> anyio.Event:
        """What is set when it is the caller's turn."""
        turn = anyio.Event()
        self._waiting.setdefault(user, deque()).append(turn)
        return turn

    def leave(self, user: str, turn: anyio.Event) -> None:
        queue = self._waiting[user]
        queue.remove(turn)
        if not queue:
            del self._waiting[user]

    def call(self) -> bool:
        """Give the next one its turn; whether there was anybody."""
        if not self._waiting:
            return False
        user = next(iter(self._waiting))
        queue = self._waiting.pop(user)
        queue.popleft().set()
        if queue:
            self._waiting[user] = queue  # behind the other users
        return True


class Turns:
    """Who works on, one in each round of the loop."""

    def __init__(self) -> None:
        self._rotation = Rotation()
        self._going = False
        """Whether somebody has a turn who will call for the next one."""

    async def next(self, user: str) -> None:
        """Wait for a turn, which lasts until the caller waits for anything."""
        turn = self._rotation.enter(user)
        if not self._going:
            self._going = self._rotation.call()
        try:
            await turn.wait()
        finally:
            if turn.is_set():
                self._going = self._rotation.call()  # that one runs in the next round of the loop
            else:
                self._rotation.leave(user, turn)

    async def slices(
        self, user: str, records: Sequence[Record], cost: int = 1
    ) -> AsyncGenerator[Sequence[Record], None]:
        """Records in order, some at a time: the first at once, each of the others in a turn.

        `cost` is how many times the usual each of them takes.
        """
        for number, part in enumerate(parts(records, SLICE_BYTES // cost, max(1, _SLICE_RECORDS // cost))):
            if number:
                await self.next(user)
            yield part


def parts(
    records: Sequence[Record], size_bytes: int = SLICE_BYTES, count: int = _SLICE_RECORDS
) -> Iterator[Sequence[Record]]:
    """Records in order, as many at a time as make a slice."""
    start = size = 0
    for number, record in enumerate(records):
        size += len(record.value)
        if size >= size_bytes or number - start >= count:
            yield records[start : number + 1]
            start, size = number + 1, 0
    if start < len(records):
        yield records[start:]
