"""What is taken in at once: so many requests, so many bytes of their bodies, each body in so long.

Brokers and channels read their requests through one, and sinks, sources and transforms through another: who
sends slowly, or much, finds no more room, and others do (`shares`); who is refused is told to try again.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Final

from ondol.base import errors
from ondol.base.clock import Clock
from ondol.eventing.shares import Shares
from ondol.web.application import Receive

BODY_S: Final = 30.0
"""How long the body of a request may take: who is slower would hold the place of others."""
_BODY_LEAST_S: Final = 5.0
_BODY_BYTES_S: Final = 32 << 10
"""A body whose length is known may take the least time, and a second for so many bytes."""


class Gone(Exception):
    """The client left before its request was whole."""


class Slow(errors.ApiError):
    """The body took too long."""

    status_code, reason = 408, "RequestTimeout"


@dataclass(slots=True)
class Place:
    """A request that is being taken in, for one owner; `size` is what it has of the room for bytes."""

    owner: Hashable
    bytes_max: int
    declared: int | None
    size: int


class Intake:
    """The requests under way, within the bounds of `shares`."""

    def __init__(self, clock: Clock, shares: Shares) -> None:
        self.shares = shares
        self._clock = clock

    def enter(self, owner: Hashable, headers: Iterable[tuple[bytes, bytes]], bytes_max: int) -> Place:
        """A place for a request, to be left whatever comes of it; `TooLarge` or `Unavailable`."""
        declared = _declared_bytes(headers)
        if declared is not None and declared > bytes_max:
            raise _too_large(bytes_max)
        size = declared or 0
        if not self.shares.enter(owner, size):
            raise _busy()
        return Place(owner, bytes_max, declared, size)

    def leave(self, place: Place) -> None:
        self.shares.leave(place.owner, place.size)

    async def body(self, place: Place, receive: Receive) -> bytes:
        """The whole body; `TooLarge` as soon as it is seen to be larger than its bound.

        `Slow` if it is not there in time, `Unavailable` without room for it, `Gone` if its sender left.
        """
        limit_s = _deadline_s(place.declared)
        with self._clock.move_on_after(limit_s):  # costs less than `fail_after`, here for every event
            return await self._read(place, receive)
        raise Slow(f"the request took longer than {limit_s:g} seconds")

    async def _read(self, place: Place, receive: Receive) -> bytes:
        event = await receive()
        if event["type"] != "http.request":
            raise Gone
        first: bytes = event.get("body", b"")
        self._require(place, len(first), len(first))
        if not event.get("more_body"):
            return first
        collected = bytearray(first)
        while event.get("more_body"):
            event = await receive()
            if event["type"] != "http.request":
                raise Gone
            piece: bytes = event.get("body", b"")
            self._require(place, len(piece), len(collected) + len(piece))
            collected += piece
        return bytes(collected)

    def _require(self, place: Place, size: int, total: int) -> None:
        """A body without a length takes room as it comes."""
        if total > place.bytes_max:
            raise _too_large(place.bytes_max)
        if place.declared is not None:
            return
        if not self.shares.grow(place.owner, size):
            raise _busy()
        place.size += size


def _deadline_s(declared: int | None) -> float:
    return BODY_S if declared is None else min(BODY_S, _BODY_LEAST_S + declared / _BODY_BYTES_S)


def _declared_bytes(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """How long a body is by its head; None if that does not say."""
    for name, value in headers:
        if name == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def _busy() -> errors.Unavailable:
    return errors.Unavailable("too much is being taken in: try again", retry_after_s=1)


def _too_large(bytes_max: int) -> errors.TooLarge:
    return errors.TooLarge(f"an event may have at most {bytes_max} bytes")
