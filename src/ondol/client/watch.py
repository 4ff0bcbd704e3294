r"""A watch stream read as events: lines joined over chunks, errors in the stream raised as errors.

`Client.watch` opens it; informers and commands iterate it inside the watch's context.

A stream does not resume by itself. Its reader remembers the `resourceVersion` of the last event it has
taken, bookmarks included, and opens the next watch with it: the server then sends every change after
that one, so nothing is missed or repeated. `errors.Expired` is the one error after which that version is
of no use: the server has forgotten the changes behind it, and the reader lists anew. Any other end
(the server's time limit, a broken connection, silence) is followed by a watch from the same version.
`sdk.informer` is that reader.

>>> import anyio
>>> from ondol.base.clock import SystemClock
>>> async def chunks():
...     yield b'{"type":"MODIFIED","object":{"metadata":{"name":"a","resourceVersion":"7"}}}\n{"type":"BOOK'
...     yield b'MARK","object":{"metadata":{"resourceVersion":"12"}}}\n'
>>> async def last_version():
...     version = "5"
...     async for event in WatchStream(chunks(), SystemClock()):
...         version = event.object["metadata"]["resourceVersion"]
...         print(event.type, version)
...     return version
>>> anyio.run(last_version)  # the next watch begins here, not at 7: the server vouches for what lies between
MODIFIED 7
BOOKMARK 12
'12'
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final, Self

import msgspec

from ondol.api import status
from ondol.api.objects import Object
from ondol.base import errors
from ondol.base.clock import Clock

INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""Annotation of the bookmark that ends the initial events of a WatchList."""


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """`type` is ADDED, MODIFIED, DELETED or BOOKMARK."""

    type: str
    object: Object

    @property
    def ends_initial_events(self) -> bool:
        annotations = self.object.get("metadata", {}).get("annotations") or {}
        return self.type == "BOOKMARK" and annotations.get(INITIAL_EVENTS_END) == "true"


class _Wire(msgspec.Struct):
    type: str
    object: Object


_DECODER: Final = msgspec.json.Decoder(_Wire)


class WatchStream:
    """The events of one open watch; ends when the server ends it.

    Raises the error an ERROR event carries (`errors.Expired` for 410) and `errors.Timeout` when
    nothing, not even a bookmark, came for `inactivity_s`.
    """

    def __init__(
        self, chunks: AsyncIterator[bytes], clock: Clock, *, inactivity_s: float | None = None
    ) -> None:
        self._chunks = chunks
        self._clock = clock
        self._inactivity_s = math.inf if inactivity_s is None else inactivity_s
        self._rest = b""
        self._ready: deque[bytes] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        while not self._ready:
            await self._read()
        return _event(self._ready.popleft())

    async def _read(self) -> None:
        """Read one chunk; the part after its last line end is kept for the next."""
        with self._clock.move_on_after(self._inactivity_s) as guard:
            chunk = await anext(self._chunks)
        if guard.cancelled_caught:
            raise errors.Timeout(f"the watch was silent for {self._inactivity_s} seconds")
        *complete, self._rest = (self._rest + chunk).split(b"\n")
        self._ready.extend(line for line in complete if line.strip())


def _event(line: bytes) -> WatchEvent:
    try:
        wire = _DECODER.decode(line)
    except msgspec.DecodeError as error:
        raise errors.Unavailable(f"the watch sent a line that cannot be read: {error}") from error
    if wire.type == "ERROR":
        raise status.error_from(wire.object, int(wire.object.get("code") or 500))
    return WatchEvent(wire.type, wire.object)
