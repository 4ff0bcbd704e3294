"""Heavy work: what takes long on one large document is done in a thread beside the event loop.

It cannot be cut into slices, so it shares the interpreter instead: for as long as it lasts the loop gets
its turn within a millisecond, and others are answered. One such work at a time, the users in rotation, so
that a user's large documents cost the others no more than one of them.

What is done here are functions of values that nobody else changes; what looks at the server's state or
changes it stays on the loop.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Final, TypeVar

import anyio.to_thread

from ondol.apiserver.turns import Rotation

HEAVY_BYTES: Final = 32 * 1024
"""Below this a document takes some ten milliseconds at worst, and starting a thread is not worth it."""
YAML_WEIGHT: Final = 4
"""How many bytes of JSON take as long to read or write as one of YAML."""
_SWITCH_S: Final = 0.0005

T = TypeVar("T")


class Heavy:
    """One thread's worth of heavy work."""

    def __init__(self) -> None:
        self._rotation = Rotation()
        self._busy = False

    async def run(self, user: str, size_bytes: int, work: Callable[[], T]) -> T:
        """Do something with documents of a size: at once if they are small, else beside the loop."""
        if size_bytes < HEAVY_BYTES:
            return work()
        await self._begin(user)
        try:
            return await anyio.to_thread.run_sync(work)
        finally:
            self._end()

    async def _begin(self, user: str) -> None:
        if not self._busy:
            self._start()
            return
        turn = self._rotation.enter(user)
        try:
            await turn.wait()
        except BaseException:
            if turn.is_set():
                self._end()
            else:
                self._rotation.leave(user, turn)
            raise

    def _start(self) -> None:
        self._busy = True
        self._usual_s = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)

    def _end(self) -> None:
        if self._rotation.call():
            return  # who was called is the busy one now
        self._busy = False
        sys.setswitchinterval(self._usual_s)
