"""An event that is armed again: the one way to tell a task, again and again, that something changed.

Work queues of one key and loops that write what changed wait for it; `anyio.Event` fires once.
"""

from __future__ import annotations

import anyio


class Signal:
    """`set` from anywhere in the event loop; how it is waited for depends on who waits.

    A loop that alone answers it clears it before it looks at what changed, so that a change that comes
    meanwhile is another round:

        while True:
            await signal.wait()
            signal.clear()
            ...

    One of many who wait takes `next` before it looks, and so misses none that comes meanwhile:

        upcoming = signal.next
        if not ...:
            await upcoming.wait()
    """

    __slots__ = ("_is_set", "_next")

    def __init__(self) -> None:
        self._is_set = False
        self._next: anyio.Event | None = None

    @property
    def is_set(self) -> bool:
        """Whether it was set since it was cleared."""
        return self._is_set

    @property
    def next(self) -> anyio.Event:
        """The event of the next `set`, whether or not it was set before."""
        if self._next is None:
            self._next = anyio.Event()
        return self._next

    def set(self) -> None:
        """Wake all who wait; it stays set until it is cleared."""
        self._is_set = True
        if self._next is not None:
            self._next.set()
            self._next = None

    def clear(self) -> None:
        self._is_set = False

    async def wait(self) -> None:
        """Wait until it is set, if it is not."""
        while not self._is_set:
            await self.next.wait()
